"""D* is where the criterion crosses, and nothing is invented past the grid."""

from dataclasses import replace

import numpy as np
import pytest

from memscape.laws.crossing import CRITERIA, crossings
from memscape.laws.table import RunTable
from tests.laws.planted import WIDE_DATA, WIDE_SIZES, Truth, rows


def straight_share(shares, data=(1e3, 1e4, 1e5, 1e6), seeds=1, spread=0.0):
    """One size whose share takes the given values; seeds lie `spread` apart."""
    return [
        {
            "n_params": 1e4,
            "n_tokens": d,
            "seed": s,
            "train_loss": 1.0,
            "memorised_share": v + spread * (s - (seeds - 1) / 2),
        }
        for d, v in zip(data, shares, strict=True)
        for s in range(seeds)
    ]


def only(table, threshold=0.5, name="share"):
    return crossings(RunTable.read(table), CRITERIA[name], threshold)[0]


def test_crossing_is_linear_in_ln_d():
    """0.8, 0.6, 0.4, 0.2 over four decades crosses one half half-way in ln D."""
    found = only(straight_share((0.8, 0.6, 0.4, 0.2)))
    assert found.d_star == pytest.approx(10**4.5)
    assert found.censored == "no"


def test_equal_data_sizes_are_one_place():
    """Runs of two lengths, and D = C / 6N with its last bits astray, cross where the plain table does."""
    table = straight_share((0.8, 0.6, 0.4, 0.2))
    longer = [row | {"epochs": e} for row in table for e in (1.0, 2.0)]
    astray = [row | {"n_tokens": row["n_tokens"] * (1 + k * 2e-16), "seed": k} for row in table for k in (0, 1)]
    for rows_of_it in (longer, astray):
        assert only(rows_of_it).d_star == pytest.approx(10**4.5)


def test_seeds_set_the_uncertainty_of_the_crossing():
    """Over 300 draws of the seeds' noise ln D* spreads as the variance says that each draw finds in its own seeds."""
    planted = RunTable.read(straight_share((0.9, 0.7, 0.4, 0.1), seeds=4))
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        noisy = planted.column("memorised_share") + rng.normal(0, 0.02, len(planted))
        drawn = replace(planted, columns={**planted.columns, "memorised_share": noisy})
        found += crossings(drawn, CRITERIA["share"], 0.5)
    said = np.sqrt(np.mean([c.variance for c in found]))
    assert said == pytest.approx(np.std([c.ln_d for c in found]), rel=0.15)


@pytest.mark.parametrize(
    ("shares", "side"), [((0.9, 0.8, 0.7, 0.6), "beyond the grid"), ((0.4, 0.3, 0.2, 0.1), "before the grid")]
)
def test_a_size_that_does_not_cross_is_censored(shares, side):
    """A size memorised everywhere, or nowhere, says on which side its D* lies and nothing more."""
    assert only(straight_share(shares)).censored == side


def test_a_rising_criterion_crosses_upwards():
    """Training loss above its floor grows with D; 0.0125, 0.05, 0.2, 0.8 crosses 0.1 at the middle."""
    table = [
        {"n_params": 1e4, "n_tokens": d, "train_loss": 0.5 + over, "floor": 0.5}
        for d, over in zip((1e3, 1e4, 1e5, 1e6), (0.0125, 0.05, 0.2, 0.8), strict=True)
    ]
    assert only(table, 0.1, "floor").d_star == pytest.approx(10**4.5)


def test_the_gap_is_the_squared_difference_plus_its_variance():
    """The paper's MSE = (mean gap)² + variance."""
    row = {"n_params": 1e4, "n_tokens": 1e4, "train_loss": 2.0, "fresh_loss": 2.3, "train_loss_sem": 0.1}
    assert CRITERIA["gap"].value(RunTable.read([row]))[0] == pytest.approx(0.1)


def test_planted_crossings_are_found_for_every_size():
    """D* = N / coefficient for γ = 1, to a few per cent."""
    table = RunTable.read(rows(Truth(), sizes=WIDE_SIZES, data_sizes=WIDE_DATA))
    found = crossings(table, CRITERIA["share"], 0.5)
    np.testing.assert_allclose([c.d_star * 1.2 / c.n_params for c in found], 1, atol=0.12)


def test_a_sigmoid_is_followed_between_wide_steps():
    """Without noise, steps of a factor of three place D* to 0.5 %, wherever between them it lies."""
    sizes = tuple(2e4 * 1.3**k for k in range(12))
    table = RunTable.read(rows(Truth(), sizes=sizes, data_sizes=WIDE_DATA, rates=(1e-3,), noise=0, share_noise=0))
    found = crossings(table, CRITERIA["share"], 0.5)
    np.testing.assert_allclose([c.d_star * 1.2 / c.n_params for c in found], 1, atol=0.005)

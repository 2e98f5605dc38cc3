"""D* is where the criterion crosses, and nothing is invented past the grid."""

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


def test_seeds_set_the_uncertainty_of_the_crossing():
    """Var ln D* = s²((1-u)² + u²)/seeds over slope²: here s² = 0.02, two seeds, slope 0.2 per ln 10."""
    found = only(straight_share((0.8, 0.6, 0.4, 0.2), seeds=2, spread=0.2))
    assert found.variance == pytest.approx(0.02 * 0.5 / 2 / (0.2 / np.log(10)) ** 2)


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

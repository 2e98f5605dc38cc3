"""The exponent of the frontier: recovered where it can be, "cannot tell" where it cannot."""

import math
import re

import numpy as np
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

from memscape.errors import TableError
from memscape.laws.frontier import frontier, straight, verdict
from memscape.laws.table import RunTable
from memscape.theory.measure import Measured
from tests.laws.planted import LAPTOP_DATA, WIDE_DATA, WIDE_SIZES, Truth, rows

COEFFICIENT = {1.0: 1.2, 1.35: 0.02, 2.0: 1e-4}


def planted(gamma, **how):
    return RunTable.read(rows(Truth(gamma=gamma, coefficient=COEFFICIENT[gamma]), **how))


@pytest.mark.parametrize("gamma", COEFFICIENT)
@pytest.mark.parametrize("share_noise", [0.003, 0.03])
def test_planted_exponents_are_recovered(gamma, share_noise):
    """1, 1.35 and 2 come back inside their own intervals at two noise levels, and the line carries their name."""
    fit = frontier(planted(gamma, sizes=WIDE_SIZES, data_sizes=WIDE_DATA, share_noise=share_noise), sensitivity=False)
    found = fit.params["gamma"]
    assert found.low - 0.02 < gamma < found.high + 0.02
    assert found.value == pytest.approx(gamma, rel=0.08)
    assert f"{gamma:g}" in fit.verdict.split(":")[1].split("excludes")[0]


def test_it_says_cannot_tell_one_from_two():
    """Four close sizes and noisy shares cannot separate the exponents, and the verdict says which."""
    noisy = planted(1.35, sizes=(8_000, 12_000, 18_000, 27_000), data_sizes=LAPTOP_DATA, share_noise=0.1, seed=3)
    fit = frontier(noisy, sensitivity=False)
    assert "cannot tell 1 from" in fit.verdict
    assert "2" in fit.verdict.split("cannot tell")[1].split(";")[0]


def test_line_without_seed_noise_is_least_squares_with_its_t_interval():
    """Equal variances: slope, standard error and t interval are those of ordinary regression."""
    rng = np.random.default_rng(0)
    x = np.linspace(9, 14, 6)
    y = 1 + 0.7 * x + rng.normal(0, 0.1, 6)
    line, oracle = straight(x, y, np.zeros(6)), linregress(x, y)
    assert line.b == pytest.approx(oracle.slope)
    assert math.sqrt(line.var_b) == pytest.approx(oracle.stderr)
    value, low, high = line.gamma()
    half = student.ppf(0.975, 4) * oracle.stderr
    np.testing.assert_allclose([value, low, high], 1 / np.array([line.b, line.b + half, line.b - half]))


def test_a_size_known_badly_counts_less():
    """Weights follow the crossings' variances."""
    x, y = np.arange(5.0), np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    sure, unsure = (straight(x, y, np.array([0.01] * 4 + [last])).b for last in (0.01, 400.0))
    assert sure > 1.5
    assert unsure == pytest.approx(1.0, abs=0.1)


def test_inverse_prediction_brackets_the_line_and_widens_outside():
    """The interval of N at D holds the best N, and is wider far from the centroid."""
    x = np.linspace(9, 14, 6)
    line = straight(x, 1 + 0.7 * x + 0.05 * np.array([1, -1, 1, -1, 1, -1]), np.zeros(6))
    widths = []
    for ln_d in (line.a, line.a + 6):
        value, low, high = line.size(math.exp(ln_d))
        assert low < value < high
        widths.append(math.log(high / low))
    assert widths[1] > widths[0]


def test_seeds_that_agree_while_sizes_do_not_are_told():
    """Where the D* of a line that bends are each known well, the sentence shows that noise is not what scatters."""
    bent = [
        row
        for n, held in zip(WIDE_SIZES, (1.0, 1.5, 2.0, 2.0, 1.5, 1.0), strict=True)
        for row in rows(Truth(coefficient=held), sizes=(n,), data_sizes=WIDE_DATA, seeds=3)
    ]
    told = frontier(RunTable.read(bent), sensitivity=False).outcome.sentence
    scatter, seeds = (float(found) for found in re.findall(r"by ([\d.]+) %", told))
    assert scatter > 5 * seeds > 0


def test_sizes_outside_the_grid_are_left_out_and_named():
    """Censored sizes are said, with whether the line agrees that they cross there."""
    fit = frontier(planted(1.0, sizes=(*WIDE_SIZES, 30_000_000), data_sizes=WIDE_DATA), sensitivity=False)
    assert fit.n == 6
    assert "N = 30M: the crossing lies beyond the grid, as the line says, and is left out." in fit.outcome.sentence
    assert [p.censored for p in fit.curve.points].count("beyond the grid") == 1


@pytest.mark.parametrize(
    ("how", "ask"),
    [
        ({"sizes": (38_000,)}, "the frontier needs 3 sizes, the table has 1; add sizes such as 9.5k and 152k"),
        ({"sizes": (38_000, 100_000, 300_000)}, "add data sizes above 64k for N = 100k, 300k"),
        ({"sizes": (1_000, 2_000, 14_000)}, "add data sizes below 4k for N = 1k, 2k"),
    ],
)
def test_too_few_crossings_say_which_runs_to_add(how, ask):
    """No exponent is given, and the sentence names sizes or data sizes."""
    fit = frontier(planted(1.0, **how))
    assert fit.outcome.name == "too-few-points"
    assert ask in fit.outcome.sentence
    assert not fit.params


def test_sizes_that_do_not_move_d_star_leave_gamma_open():
    """D* ∝ N^0.1 under noise is ill-conditioned: γ has no upper end, and no number is made up for it."""
    rng = np.random.default_rng(1)
    table = [
        {
            "n_params": n,
            "n_tokens": d,
            "train_loss": 1.0,
            "memorised_share": 1 / (1 + d / 2 / n**0.1 / 4e3) + rng.normal(0, 0.02),
        }
        for n in (1e4, 2e4, 4e4, 8e4)
        for d in (4e3, 8e3, 16e3, 32e3, 64e3)
    ]
    fit = frontier(RunTable.read(table))
    assert fit.outcome.name == "ill-conditioned"
    assert fit.params["gamma"].high is None


def test_equal_crossings_give_no_exponent():
    """The same D* for every size is no power law, and 1/0 is not printed."""
    shares = {4e3: 0.9, 8e3: 0.7, 16e3: 0.3, 32e3: 0.1}
    table = [
        {"n_params": n, "n_tokens": d, "train_loss": 1.0, "memorised_share": share}
        for n in (1e4, 2e4, 4e4)
        for d, share in shares.items()
    ]
    fit = frontier(RunTable.read(table))
    assert fit.outcome.name == "ill-conditioned"
    assert not fit.params
    assert "cannot tell" in fit.verdict


def test_sensitivity_names_thresholds_conventions_and_direction():
    """The exponent again under other thresholds, the other parameter count, and the other regression."""
    fit = frontier(planted(1.0, sizes=WIDE_SIZES, data_sizes=WIDE_DATA))
    said = {v.what: v.gamma for v in fit.sensitivity}
    assert {"threshold 0.25", "sizes counted as n_params_total", "scatter laid on N instead of D*"} <= set(said)
    assert said["sizes counted as n_params_total"].value < 0.95  # embeddings flatten small sizes


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((0.9, 1.1), "agrees with 1 (capacity); excludes 1.35, 2 and 4"),
        ((0.9, 1.4), "cannot tell 1 from 1.35; excludes 2 and 4"),
        ((0.9, 2.5), "cannot tell 1 from 1.35 and 2; excludes 4"),
        ((1.5, 1.8), "none of 1, 1.35, 2 and 4 lies inside"),
        ((1.4, 2.6), "undecided"),
        ((1.8, None), "cannot tell 2 from 4"),
    ],
)
def test_the_verdict_names_the_exponents_inside(ends, words):
    """In words, which of 1, 1.35, 2, 4 the interval holds."""
    assert words in verdict(Measured(value=1.7, unit="1", n=5, low=ends[0], high=ends[1]))


def test_an_unknown_criterion_lists_the_known_ones():
    """A misspelt criterion is answered with its names."""
    with pytest.raises(TableError, match="floor, gap, share"):
        frontier(planted(1.0), "shares")

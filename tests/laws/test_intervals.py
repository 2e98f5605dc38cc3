"""Intervals: exact where theory is exact, and honest about seeds."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from memscape.laws.intervals import Problem, estimate, parameters, predictions, profile, resample, seed_shift
from memscape.laws.law import LAWS, Law, Parameter
from memscape.laws.table import RunTable
from tests.laws.planted import WIDE_DATA, WIDE_SIZES, Truth, rows


def plane(theta, x):
    """ln y = θ₀ + θ₁ ln N + θ₂ ln D: a law without curvature, whose intervals are known exactly."""
    design = np.stack([np.ones(x.shape[-1]), x[0], x[1]])
    return theta @ design, np.broadcast_to(design, (len(theta), *design.shape))


PLANE = Law(
    "plane", "ln L linear", "none", plane, "heldout_loss", ("n_params", "n_tokens"),
    tuple(Parameter(name, -50, 50, (0.0,)) for name in ("level", "by_n", "by_d")), {},
)  # fmt: skip


def linear_table(seed=0, noise=0.01, seeds=1):
    rng = np.random.default_rng(seed)
    found = []
    for n in (1e4, 3e4, 1e5, 3e5):
        for d in (1e4, 1e5, 1e6):
            for s in range(seeds):
                loss = math.exp(2 - 0.1 * math.log(n) - 0.05 * math.log(d) + rng.normal(0, noise))
                found.append({"n_params": n, "n_tokens": d, "seed": s, "fresh_loss": loss})
    return RunTable.read(found)


def test_profile_of_a_linear_law_is_the_t_interval():
    """With a wide δ the profile of a plane is ordinary least squares: θ ± t sqrt(s² (X'X)^-1), to 1e-3 of its width."""
    cells = linear_table().cells("heldout_loss")
    problem = estimate(PLANE, cells, delta=10.0)
    value, low, high = profile(problem, parameters(problem), 3)
    x = np.column_stack([np.ones(12), np.log(cells.inputs["n_params"]), np.log(cells.inputs["n_tokens"])])
    y = np.log(cells.value)
    theta, rest, *_ = np.linalg.lstsq(x, y, rcond=None)
    half = student.ppf(0.975, 9) * np.sqrt(rest[0] / 9 * np.diag(np.linalg.inv(x.T @ x)))
    np.testing.assert_allclose(value, theta, rtol=1e-6)
    np.testing.assert_allclose((high - low) / 2, half, rtol=3e-3)


def test_profile_ends_lie_at_the_same_rise_of_the_objective():
    """Refitting with the quantity held at an end raises F by exactly the margin: the definition of the profile."""
    problem = estimate(LAWS["chinchilla"], RunTable.read(rows(noise=0.01)).cells("heldout_loss"))
    x = np.log([[2e5], [1e5]])
    quantity = predictions(problem.law, x)
    _, low, high = profile(problem, quantity, 1)
    _, gradient = quantity(problem.theta[None], np.array([0]))
    rise, half = problem.margin(gradient)
    assert low[0] < quantity(problem.theta[None], np.array([0]))[0][0] < high[0]
    assert (high - low)[0] / 2 == pytest.approx(half[0], rel=0.5)
    assert rise[0] > 0


def test_profile_holds_the_planted_constants():
    """A clean wide grid gives back what was planted, inside intervals a few per cent wide."""
    truth = Truth()
    table = RunTable.read(rows(truth, sizes=WIDE_SIZES, data_sizes=WIDE_DATA, noise=0.002, rates=(1e-3,), seeds=3))
    problem = estimate(LAWS["chinchilla"], table.cells("heldout_loss"))
    planted = [math.log(truth.A), math.log(truth.B), math.log(truth.E), truth.alpha, truth.beta]
    value, low, high = profile(problem, parameters(problem), 5)
    assert ((low < planted) & (planted < high)).sum() >= 4
    np.testing.assert_allclose(value, planted, rtol=0.05)


def test_an_end_is_found_though_a_first_pull_loses_a_term():
    """Where a size adds nothing to the loss any more, the pull may send its term to nothing: no end stays open."""
    runs = RunTable.read(Path(__file__).parents[2] / "results" / "scale" / "table.csv")
    problem, sizes = estimate(LAWS["chinchilla"], runs.cells("heldout_loss")), np.geomspace(1e6, 1e9, 24)
    x = np.log(np.stack([sizes, np.full(len(sizes), 8e6)]))
    middle, low, high = profile(problem, predictions(problem.law, x), len(sizes))
    assert np.isfinite([low, high]).all()
    assert (np.abs(np.diff(high)) < 0.01 * middle[0]).all()  # far from the small sizes nothing depends on N


def test_bootstrap_and_profile_agree_on_a_clean_grid():
    """Two ways to one interval: widths within a factor of two."""
    table = RunTable.read(rows(sizes=WIDE_SIZES, data_sizes=WIDE_DATA, noise=0.004))
    problem = estimate(LAWS["chinchilla"], table.cells("heldout_loss"))
    _, low, high = profile(problem, parameters(problem), 5)
    draws = np.quantile(resample(problem, 300), [0.025, 0.975], axis=0)
    ratio = (draws[1] - draws[0]) / (high - low)
    assert ((ratio > 0.5) & (ratio < 2)).all()


def test_one_outlier_does_not_move_the_fit():
    """A run 40 % off leaves the exponents where they were: the loss is robust."""
    clean = rows(sizes=WIDE_SIZES, data_sizes=WIDE_DATA, rates=(1e-3,), seeds=1, noise=0.003)
    bad = [dict(r) for r in clean]
    bad[20]["fresh_loss"] *= 1.4
    law = LAWS["chinchilla"]
    good, moved = (estimate(law, RunTable.read(t).cells("heldout_loss")).theta for t in (clean, bad))
    np.testing.assert_allclose(moved[3:], good[3:], atol=0.01)


def test_a_shift_shared_by_a_seed_widens_predictions_and_leaves_exponents():
    """Seeds that disagree as wholes say so in the level of the loss, not in α and β."""
    calm, apart = (
        estimate(
            LAWS["chinchilla"], RunTable.read(rows(seeds=3, seed_noise=shift, rates=(1e-3,))).cells("heldout_loss")
        )
        for shift in (0.0, 0.02)
    )
    widths = []
    for problem in (calm, apart):
        _, low, high = profile(problem, predictions(problem.law, np.log([[4e4], [2e4]])), 1)
        _, a, b = profile(problem, parameters(problem), 5)
        widths.append((float(high[0] - low[0]), float(b[3] - a[3])))
    assert widths[1][0] > 3 * widths[0][0]
    assert widths[1][1] < 2 * widths[0][1]


def test_a_plane_with_a_shift_is_covered():
    """Of 1,500 planes with a shift as large as their error, 95 % of the intervals of the level hold the truth."""
    rng, inside, draws = np.random.default_rng(0), 0, 1500
    cells = linear_table(seeds=3).cells("heldout_loss")
    x = np.log(np.stack([cells.inputs["n_params"], cells.inputs["n_tokens"]]))
    gradient = np.array([[1.0, x[0].mean(), x[1].mean()]])
    for _ in range(draws):
        y = rng.normal(0, 0.01, (12, 3)) + rng.normal(0, 0.01 / math.sqrt(12), 3)
        drawn = replace(cells, seeds=list(np.exp(y)))
        theta = np.linalg.lstsq(np.column_stack([np.ones(12), *x]), y.mean(1), rcond=None)[0]
        problem = Problem(PLANE, x, y.mean(1), 1.0, theta, 0.0, True, drawn, seed_shift(drawn))
        inside += abs(float(gradient[0] @ theta)) < problem.margin(gradient)[1][0]
    assert inside / draws == pytest.approx(0.95, abs=0.015)  # 2.7 standard deviations


def test_seed_shift_recovers_its_variance():
    """The two-way layout finds a planted shift of 2 % from many seeds."""
    table = RunTable.read(rows(seeds=40, seed_noise=0.02, noise=0.005, rates=(1e-3,), data_sizes=(4_000, 16_000)))
    shift = seed_shift(table.cells("heldout_loss"))
    assert shift is not None
    assert math.sqrt(shift.between) == pytest.approx(0.02, rel=0.3)
    assert math.sqrt(shift.error) == pytest.approx(0.005, rel=0.1)


def test_one_seed_knows_no_shift():
    """Without repeats nothing is claimed about them."""
    assert seed_shift(linear_table().cells("heldout_loss")) is None


@pytest.mark.slow
def test_intervals_cover_on_simulated_grids():
    """Of 60 planted grids the 95 % intervals of α and of a loss hold the truth as often as a binomial allows."""
    truth, inside = Truth(), np.zeros(2)
    planted = np.array([[math.log(truth.A), math.log(truth.B), math.log(truth.E), truth.alpha, truth.beta]])
    law, x = LAWS["chinchilla"], np.log([[4e4], [2e4]])
    known = law.value(planted, x)[0][0, 0]
    for seed in range(60):
        table = RunTable.read(rows(truth, rates=(1e-3,), seeds=3, seed_noise=0.005, noise=0.01, seed=seed))
        problem = estimate(law, table.cells("heldout_loss"), starts=planted)
        _, low, high = profile(problem, parameters(problem), 5)
        inside[0] += low[3] <= truth.alpha <= high[3]
        _, low, high = profile(problem, predictions(law, x), 1)
        inside[1] += low[0] <= known <= high[0]
    assert (inside >= 51).all()  # a 95 % interval falls below 51 of 60 once in 1,300

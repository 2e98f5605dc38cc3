"""The batched solver finds what SciPy finds, one problem or a thousand."""

import csv

import numpy as np
import pytest
from scipy.optimize import minimize

from memscape.laws.law import LAWS
from memscape.laws.solver import Tie, huber, objective, solve
from tests.laws.planted import chinchilla_shape

LAW = LAWS["chinchilla"]


def logs(rows):
    table = np.array([[r["n_params"], r["n_tokens"], r["loss"]] for r in rows]).T
    return np.log(table[:2]), np.log(table[2])


def by_scipy(x, y, start, weights=None, delta=1e-3):
    w = 1.0 if weights is None else weights

    def value(theta):
        f, gradient = LAW.value(theta[None], x)
        r = f[0] - y
        return float((w * huber(r, delta)).sum()), gradient[0] @ (w * np.clip(r, -delta, delta))

    return minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-12})


def best(x, y, kept=64):
    starts = LAW.starts()
    return solve(LAW, x, y, starts[np.argsort(objective(LAW, x, y, starts))[:kept]])


def test_huber_is_quadratic_inside_and_linear_outside():
    """The loss and its slope are continuous at ±δ."""
    np.testing.assert_allclose(huber(np.array([0.5, 1.0, 3.0, -3.0]), 1.0), [0.125, 0.5, 2.5, 2.5])


def test_chinchilla_points_reach_the_known_optimum(shared_data):
    """E, A, B, α, β and the objective 0.00101828 on the 240 digitised points, as three other solvers found them."""
    with (shared_data / "laws/chinchilla_points.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda r: -float(r["loss_nats_per_token"]))[5:]
    n, flop, loss = (
        np.array([float(r[k]) for r in rows]) for k in ("n_params", "training_flop", "loss_nats_per_token")
    )
    found = best(np.log([n, flop / 6 / n]), np.log(loss))
    k = found.objective.argmin()
    assert found.objective[k] == pytest.approx(0.00101828, abs=1e-8)
    shown = [*np.exp(found.theta[k][:3]), *found.theta[k][3:]]
    np.testing.assert_allclose(shown, [477.87, 2143.0, 1.8172, 0.34732, 0.36716], rtol=1e-3)


def test_planted_points_no_worse_than_scipy_from_the_truth():
    """On a grid of the same shape the best of the starts is at most SciPy's optimum."""
    x, y = logs(chinchilla_shape())
    found = best(x, y)
    assert found.objective.min() <= by_scipy(x, y, LAW.constants("besiroglu")[0]).fun + 1e-9
    assert found.finished.all()


def test_bootstrap_problems_each_reach_their_own_optimum():
    """Resamples solved together equal SciPy's fits of each alone."""
    x, y = logs(chinchilla_shape(1))
    theta = best(x, y).theta[:1]
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), 12).astype(float)
    found = solve(LAW, x, y, np.repeat(theta, 12, 0), weights=weights)
    for value, w in zip(found.objective, weights, strict=True):
        assert value <= by_scipy(x, y, theta[0], w).fun * (1 + 1e-6)


def test_a_problem_alone_equals_the_same_problem_in_a_batch():
    """Blocks, threads and finished neighbours leave no trace."""
    x, y = logs(chinchilla_shape(2))
    starts = LAW.starts()[::37]
    together = solve(LAW, x, y, starts)
    for k in (0, 60, len(starts) - 1):
        np.testing.assert_allclose(together.theta[k], solve(LAW, x, y, starts[k : k + 1]).theta[0], rtol=1e-9)


def test_the_box_is_kept_and_its_edge_is_an_optimum():
    """Losses that rise with N push α against its lower end, and the rest is still fitted."""
    rng = np.random.default_rng(0)
    x = np.log(rng.uniform(1e4, 1e6, (2, 40)))
    y = np.log(1.0 + 80 * np.exp(-0.4 * x[1])) + 0.01 * (x[0] - x[0].mean())
    found = best(x, y, 16)
    k = found.objective.argmin()
    assert found.theta[k][3] == pytest.approx(0.0, abs=1e-12)
    assert (found.theta >= LAW.lower).all()
    assert (found.theta <= LAW.upper).all()


def test_a_tie_holds_one_quantity_while_the_rest_descends():
    """A stiff tie fixes β; the others minimise given β, as SciPy does with β held."""
    x, y = logs(chinchilla_shape(3))
    start = best(x, y).theta[:1]
    unit = np.array([0, 0, 0, 0, 1.0])
    tie = Tie(lambda theta, at: (theta[:, 4], np.tile(unit, (len(theta), 1))), np.array([0.45]), np.array([1e6]))
    found = solve(LAW, x, y, start, tie=tie)
    assert found.theta[0, 4] == pytest.approx(0.45, abs=1e-6)

    def held(theta):
        full = np.append(theta, found.theta[0, 4])
        r = LAW.value(full[None], x)[0][0] - y
        return huber(r, 1e-3).sum()

    other = minimize(held, start[0, :4], method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-13})
    assert found.objective[0] <= other.fun * (1 + 1e-6)


def test_a_start_without_a_value_is_left_and_not_called_finished():
    """A nan in one problem leaves its neighbours alone."""
    x, y = logs(chinchilla_shape())
    start = np.repeat(LAW.constants("besiroglu"), 2, 0)
    data = np.stack([y, np.full(len(y), np.nan)])
    found = solve(LAW, x, data, start)
    assert found.finished.tolist() == [True, False]

"""Thousands of robust fits at once: which θ minimises Σ w Huber_δ(ln f(x; θ) - y), for every start and every resample?

A damped Newton method (Levenberg-Marquardt) on all problems together, with analytic gradients: curvature from the
points inside ±δ plus a trace of the reweighted rest, a box on θ, and problems leaving the batch as they finish. numpy
only; blocks of problems that fit the cache go to the cores as threads.

>>> from memscape.laws.law import LAWS
>>> law, x = LAWS["capacity"], np.log([[1e4, 1e4, 1e4], [1e2, 1e4, 1e6]])
>>> y = law.value(np.array([[0.5, 1.0]]), x)[0][0]
>>> solve(law, x, y, law.starts()).theta.shape  # a row a start
(18, 2)
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from memscape.laws.law import Law

TRACE = 0.03
"""Share of the reweighted curvature mixed in: without it few points lie inside a narrow δ and a step may overshoot."""

BLOCK = 24_000
"""Numbers (problems x points) a block holds: its arrays stay in the second-level cache."""


@dataclass(frozen=True)
class Tie:
    """A pull on one quantity g(θ) of each problem: (stiffness/2) (g - goal)², which walks along g's profile."""

    value: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Maps θ (S, P) and each problem's number (S,) to g (S,) and its gradient (S, P)."""
    goal: np.ndarray
    stiffness: np.ndarray


@dataclass(frozen=True)
class Solutions:
    """S minimisers."""

    theta: np.ndarray
    """(S, P)."""
    objective: np.ndarray
    """Sum of Huber losses, without the tie (S,)."""
    steps: np.ndarray
    """Iterations (S,)."""
    finished: np.ndarray
    """Whether the descent came to rest (S,)."""


def huber(residual: np.ndarray, delta: np.ndarray | float) -> np.ndarray:
    """Return r²/2 inside ±δ and δ(|r| - δ/2) outside."""
    inside = np.clip(residual, -delta, delta)
    return inside * (residual - 0.5 * inside)


def objective(
    law: Law, x: np.ndarray, y: np.ndarray, theta: np.ndarray, delta: float = 1e-3, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the sum objective of every θ (S,)."""
    rows = max(1, BLOCK // x.shape[-1])
    w = 1.0 if weights is None else weights
    parts = _spread(
        lambda at: (huber(law.value(theta[at], x)[0] - y, delta) * w).sum(1),
        [slice(i, i + rows) for i in range(0, len(theta), rows)],
    )
    return np.concatenate(parts)


def solve(
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    start: np.ndarray,
    delta: float | np.ndarray = 1e-3,
    weights: np.ndarray | None = None,
    tie: Tie | None = None,
    max_steps: int = 200,
    tolerance: float = 1e-9,
) -> Solutions:
    """Return the minimiser reached from each start.

    x (K, n) log inputs; y (n,) or (S, n) logs of the measurement; start (S, P); delta a number or (S,);
    weights (n,) or (S, n), for example bootstrap counts. Stops where a step gains less than `tolerance` of the whole.
    """
    n_problems, n = len(start), x.shape[-1]
    y = np.broadcast_to(y, (n_problems, n))
    w = np.broadcast_to(1.0 if weights is None else weights, (n_problems, n))
    d = np.broadcast_to(np.asarray(delta, float), (n_problems,))
    rows = max(1, BLOCK // n)
    blocks = [np.arange(i, min(i + rows, n_problems)) for i in range(0, n_problems, rows)]
    found = _spread(
        lambda at: _descend(law, x, y[at], w[at], d[at, None], start[at], tie, at, max_steps, tolerance), blocks
    )
    theta, value, steps, finished = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Solutions(theta, value, steps, finished)


def _spread(work: Callable, blocks: list) -> list:
    """Return work(block) for all blocks, on all cores this process may use."""
    cores = min(len(blocks), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if cores < 2:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(work, blocks))


@np.errstate(over="ignore", invalid="ignore")  # a step that leaves the numbers is no gain, and is not taken
def _descend(law, x, y, w, delta, start, tie, number, max_steps, tolerance):
    """Descend in one block; `number` are its problems' numbers in the whole batch, by which a tie knows them."""
    lower, upper, theta = law.lower, law.upper, np.clip(start, law.lower, law.upper)
    n_problems, n_params = theta.shape
    stiff = np.zeros(n_problems) if tie is None else tie.stiffness[number]

    def evaluate(at, trial):
        f, gradient = law.value(trial, x)
        residual = f - y[at]
        plain = (w[at] * huber(residual, delta[at])).sum(1)
        if tie is None:
            return residual, gradient, plain, plain, np.zeros(len(at)), np.zeros(trial.shape)
        g, slope = tie.value(trial, number[at])
        off = g - tie.goal[number[at]]
        return residual, gradient, plain, plain + 0.5 * stiff[at] * off**2, off, slope

    everyone = np.arange(n_problems)
    state = tuple(np.array(part) for part in evaluate(everyone, theta))
    residual, gradient, plain, total, off, slope = state
    damping, steps = np.full(n_problems, 1e-3), np.zeros(n_problems, int)
    finished = np.zeros(n_problems, bool)
    live = everyone[np.isfinite(total)]
    for _ in range(max_steps):
        if not len(live):
            break
        r, j, d, k = residual[live], gradient[live], delta[live], stiff[live, None]
        size = np.abs(r)
        curvature = w[live] * ((size <= d) * (1 - TRACE) + TRACE * np.minimum(1, d / np.maximum(size, 1e-300)))
        down = np.matmul(j, (w[live] * np.clip(r, -d, d))[:, :, None])[:, :, 0] + k * off[live, None] * slope[live]
        hessian = np.matmul(j * curvature[:, None, :], j.transpose(0, 2, 1))
        hessian += k[:, None] * slope[live][:, :, None] * slope[live][:, None, :]
        held = ((theta[live] <= lower) & (down > 0)) | ((theta[live] >= upper) & (down < 0))
        down[held] = 0
        hessian[held[:, :, None] | held[:, None, :]] = 0
        scale = np.einsum("spp->sp", hessian)
        hessian = hessian + (damping[live, None] * scale + 1e-14 + held)[:, :, None] * np.eye(n_params)
        trial = np.clip(theta[live] - np.linalg.solve(hessian, down[:, :, None])[:, :, 0], lower, upper)
        new = evaluate(live, trial)
        gain = total[live] - new[3]
        better = gain >= 0  # False for a nan
        at = live[better]
        theta[at] = trial[better]
        for old, fresh in zip(state, new, strict=True):
            old[at] = fresh[better]
        damping[live] = np.where(better, np.maximum(damping[live] * 0.2, 1e-9), damping[live] * 8)
        steps[live] += 1
        rest = (better & (gain <= tolerance * total[live])) | (damping[live] > 1e9)
        finished[live[rest]] = True
        live = live[~rest]
    return theta, plain, steps, finished

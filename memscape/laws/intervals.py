"""How well is a fitted quantity known? Profile-likelihood and bootstrap intervals of one law on one table.

A `Problem` is a law at its optimum on a table's cells. The unit is the cell (one size, one data size, the mean of its
seeds), because the runs of a cell share what the law gets wrong; a shift common to all runs of a seed is estimated from
the seeds and added. The Huber width defaults to 1.345 robust standard deviations (95 % efficient on Gaussian noise), at
least the 1e-3 of Hoffmann et al.; pass `delta=1e-3` for theirs.

Intervals walk the profile: θ minimises the objective F at each fixed value of the quantity, and the ends are where
2 (F - F_min) m / s² = t², m the share of points inside ±δ and s² = Σψ²/(n - P): the t interval of a linear model, bent
by the law's curvature (Bates & Watts 1988, ch. 6; scaled for M-estimates as in Huber & Ronchetti 2009, ch. 7).

>>> from memscape.laws.law import LAWS
>>> from memscape.laws.table import RunTable
>>> problem = estimate(LAWS["chinchilla"], RunTable.read("runs/book").cells("heldout_loss"))
>>> value, low, high = profile(problem, parameters(problem), count=5)
>>> bool((low < value).all() and (value < high).all())
True
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from memscape.laws.critical import LEVEL, critical
from memscape.laws.law import Law
from memscape.laws.solver import Tie, objective, solve
from memscape.laws.table import Cells

Quantity = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Maps θ (S, P) and the index of each one's quantity (S,) to values (S,) and gradients (S, P)."""

KEPT_STARTS = 128
"""Starts that are descended from, out of all that are evaluated."""

POLISHED = 4
"""Of those, descents carried on to full precision."""


@dataclass(frozen=True)
class Problem:
    """A law at its optimum."""

    law: Law
    x: np.ndarray
    """Log inputs (K, n)."""
    y: np.ndarray
    """Mean over seeds of the log measurement (n,)."""
    delta: float
    theta: np.ndarray
    """The optimum (P,)."""
    objective: float
    finished: bool
    cells: Cells
    shift: "SeedShift | None" = None
    """What all runs of a seed share; None with one seed."""

    @cached_property
    def residual(self) -> np.ndarray:
        """ln(measured / fitted) (n,)."""
        return self.y - self.law.value(self.theta[None], self.x)[0][0]

    @cached_property
    def jacobian(self) -> np.ndarray:
        """Gradient of the log prediction (n, P)."""
        return self.law.value(self.theta[None], self.x)[1][0].T

    @cached_property
    def inverse(self) -> np.ndarray:
        """(J'J)^-1 (P, P), with zeros for parameters at an end of their box: they are not free to move."""
        gap = np.minimum(self.theta - self.law.lower, self.law.upper - self.theta)
        free = np.flatnonzero(gap > 1e-9)
        found = np.zeros((len(gap), len(gap)))
        j = self.jacobian[:, free]
        found[np.ix_(free, free)] = np.linalg.pinv(j.T @ j, rcond=1e-14)
        return found

    @property
    def freedom(self) -> int:
        """Points minus parameters."""
        return max(1, len(self.y) - len(self.theta))

    @cached_property
    def inside(self) -> float:
        """Share of points inside ±δ, the mean curvature of the Huber loss."""
        return max(float(np.mean(np.abs(self.residual) <= self.delta)), 1.5 / len(self.y))

    @cached_property
    def scale(self) -> float:
        """Variance that makes (J'J)^-1 the covariance of θ: Σψ²/(n-P)/m² with Huber's small-sample factor."""
        psi, m = np.clip(self.residual, -self.delta, self.delta), self.inside
        factor = 1 + len(self.theta) / len(self.y) * (1 - m) / m
        return float((psi**2).sum()) / self.freedom * (factor / m) ** 2

    @property
    def condition(self) -> float:
        """Condition number of J'J scaled to a unit diagonal."""
        normal = self.jacobian.T @ self.jacobian
        size = np.sqrt(np.maximum(np.diag(normal), 1e-300))
        return float(np.linalg.cond(normal / size[:, None] / size))

    def margin(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each interval's rise of F and its half-width were the law linear, from the quantities' ∇g (T, P)."""
        unit = np.maximum(np.einsum("tp,pq,tq->t", gradient, self.inverse, gradient), 1e-300)
        if self.shift is None:
            squared = stdtrit(self.freedom, LEVEL) ** 2 * self.scale * unit
        else:
            moved = (gradient @ (self.inverse @ self.jacobian.sum(0))) ** 2
            squared = self.shift.width(moved, self.scale * unit, self.freedom) ** 2
        return 0.5 * squared / unit * self.inside, np.sqrt(squared)


@dataclass(frozen=True)
class SeedShift:
    """Two-way layout of ln(measurement) over cells and seeds: how far do whole seeds lie apart?"""

    between: float
    """Mean square of the seeds' means, with `n_seeds` - 1 degrees of freedom."""
    error: float
    """Mean square of the rest."""
    n_seeds: int
    n_cells: int

    def width(self, moved: np.ndarray, own: np.ndarray, freedom: int) -> np.ndarray:
        """Return the half-width of quantities that a unit shift of all cells moves by sqrt(moved).

        `own` is their variance by the scatter of the cells, with `freedom`. The seeds' means vary by the shift and by
        an n_cells-th of the error; that part of `own` moves to them, and two independent variances are left.
        """
        seeds = moved * self.between / self.n_seeds
        cells = np.maximum(own - moved * self.error / self.n_seeds / self.n_cells, 0)
        total = np.maximum(seeds + cells, 1e-300)
        return critical(seeds / total, self.n_seeds - 1, freedom) * np.sqrt(total)


def estimate(
    law: Law, cells: Cells, delta: float | None = None, starts: np.ndarray | None = None, kept: int = KEPT_STARTS
) -> Problem:
    """Return the law at the best optimum found: all starts are evaluated, the best `kept` descended from."""
    x, y = cells.logs(law.inputs), cells.log
    grid = law.starts() if starts is None else starts
    width = 0.05 if delta is None else delta
    value = objective(law, x, y, np.clip(grid, law.lower, law.upper), width)
    best = grid[np.argsort(np.where(np.isfinite(value), value, np.inf))[:kept]]
    rough = solve(law, x, y, best, width, max_steps=100, tolerance=1e-6)
    found = solve(law, x, y, rough.theta[np.argsort(rough.objective)[:POLISHED]], width)
    order = np.argsort(found.objective)
    if delta is None:
        for _ in range(2):
            top = found.theta[order]
            residual = y - law.value(top[:1], x)[0][0]
            grow = np.sqrt(len(y) / max(1, len(y) - len(law.parameters)))
            width = max(1e-3, 1.345 * 1.4826 * grow * float(np.median(np.abs(residual - np.median(residual)))))
            found = solve(law, x, y, top, width)
            order = np.argsort(found.objective)
    k = order[0]
    ended = found.theta[k], float(found.objective[k]), bool(found.finished[k])
    return Problem(law, x, y, float(width), *ended, cells, seed_shift(cells))


def seed_shift(cells: Cells) -> SeedShift | None:
    """Return the two-way layout of the cells that have every seed; None with fewer than two seeds or cells."""
    names = sorted({s for cell in cells.seed_names for s in cell})
    full = [i for i, cell in enumerate(cells.seed_names) if sorted(cell) == names]
    if len(names) < 2 or len(full) < 2:
        return None
    table = np.array([np.log(cells.seeds[i])[np.argsort(cells.seed_names[i])] for i in full])
    table = table - table.mean(1, keepdims=True)
    mean = table.mean(0)
    n_cells, n_seeds = table.shape
    error = float(((table - mean) ** 2).sum() / (n_cells - 1) / (n_seeds - 1))
    return SeedShift(float((mean**2).sum() / (n_seeds - 1)), error, n_seeds, n_cells)


def profile(
    problem: Problem, quantity: Quantity, count: int, rounds: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, low and high (count,) of `count` quantities; an end that the data leave open is ±inf.

    A tie pulls θ along each profile; where it comes to rest, (g, F) lies on the profile whatever the stiffness, so a
    few rescaled goals find the ends. A first pull may throw θ into another valley (a term that vanishes, say): ends not
    found are looked for once more from the optimum, by shorter pulls.
    """
    which = np.arange(count)
    center, gradient = quantity(np.repeat(problem.theta[None], count, 0), which)
    rise, half = problem.margin(gradient)
    which, side = np.tile(which, 2), np.repeat([-1.0, 1.0], count)
    rise, half, middle = np.tile(rise, 2), np.tile(half, 2), np.tile(center, 2)
    stiffness = 60 * rise / half**2  # thirty times F's own curvature along g
    ends, theta = middle + side * half, np.repeat(problem.theta[None], 2 * count, 0)
    goal, stretch, far = middle.copy(), np.full(2 * count, np.inf), np.zeros(2 * count, bool)
    for first, most in ((1.0, np.inf), (0.25, 0.25)):
        again = np.abs(stretch - 1) >= 0.05
        goal[again], theta[again] = (middle + first * side * half)[again], problem.theta
        for _ in range(rounds):
            live = np.flatnonzero((np.abs(stretch - 1) >= 2e-3) & ~far & again)
            if not len(live):
                break
            tie = Tie(lambda t, at, live=live: quantity(t, which[live][at]), goal[live], stiffness[live])
            found = solve(problem.law, problem.x, problem.y, theta[live], problem.delta, tie=tie, max_steps=60)
            theta[live] = found.theta
            g, _ = quantity(found.theta, which[live])
            stretch[live] = np.sqrt(np.maximum(found.objective - problem.objective, 1e-300) / rise[live])
            step = (g - middle[live]) / np.maximum(stretch[live], 0.05)
            astray = side[live] * step <= 0
            stretch[live[astray]] = np.inf
            step = np.where(astray, side[live] * half[live], step)
            ends[live] = middle[live] + step
            reach = step + (goal[live] - g) / np.clip(stretch[live], 0.3, 3.0)
            reach = side[live] * np.minimum(side[live] * reach, side[live] * (g - middle[live]) + most * half[live])
            far[live] = (np.abs(goal[live] - middle[live]) > 50 * half[live]) & (stretch[live] < 0.9)
            goal[live] = middle[live] + np.clip(reach, -60 * half[live], 60 * half[live])
    ends = np.where(np.abs(stretch - 1) < 0.05, ends, side * np.inf)
    return center, ends[:count], ends[count:]


def parameters(problem: Problem) -> Quantity:
    """Return the quantity whose i-th value is θ_i."""
    eye = np.eye(len(problem.theta))
    return lambda theta, at: (theta[np.arange(len(theta)), at], eye[at])


def predictions(law: Law, x: np.ndarray) -> Quantity:
    """Return the quantity whose i-th value is the log prediction at column i of the log inputs x (K, T)."""

    def value(theta, at):
        f, gradient = law.value(theta, x[:, at][:, None, :].transpose(0, 2, 1))
        return f[:, 0], gradient[:, :, 0]

    return value


def resample(problem: Problem, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Return θ refitted to `resamples` bootstrap draws of the cells (resamples, P)."""
    n = len(problem.y)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    start = np.repeat(problem.theta[None], resamples, 0)
    return solve(problem.law, problem.x, problem.y, start, problem.delta, counts, max_steps=150, tolerance=1e-8).theta

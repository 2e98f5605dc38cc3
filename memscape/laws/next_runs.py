"""Which runs would shrink the interval most? Candidates one step outside the grid and between its rows, each scored by
the width that the interval of γ (or of a prediction) would have with it, per token that it costs.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from memscape.laws.frontier import Straight
from memscape.laws.intervals import Problem
from memscape.laws.quantity import format_quantity
from memscape.laws.results import Fit
from memscape.laws.table import RunTable


def next_runs(table: RunTable, laws: Mapping[str, Fit], count: int = 3) -> list[dict[str, Any]]:
    """Return up to `count` proposals, best first: n_params, n_tokens, quantity, shrink (new width / old), sentence."""
    found: list[dict[str, Any]] = []
    line = laws["frontier"]._problem if "frontier" in laws else None
    if isinstance(line, Straight) and line.freedom > 0:
        found += _for_gamma(table, line)
    problem = laws["chinchilla"]._problem if "chinchilla" in laws else None
    if isinstance(problem, Problem):
        found += _for_loss(problem)
    if not found and "frontier" in laws:
        return [{"quantity": "gamma", "sentence": laws["frontier"].outcome.sentence}]
    return sorted(found, key=lambda r: r["shrink"])[:count]


def _steps(values: np.ndarray) -> np.ndarray:
    """Return one geometric step below the grid, the middles of its cells and one step above (logs)."""
    values = np.unique(values)
    step = float(np.median(np.diff(values))) if len(values) > 1 else math.log(4)
    return np.concatenate([[values[0] - step], (values[1:] + values[:-1]) / 2, [values[-1] + step]])


def _for_gamma(table: RunTable, line: Straight) -> list[dict[str, Any]]:
    """A size more adds leverage and a degree of freedom: t sqrt(s² / Σ(ln N - m)²) before and after."""
    ln_n = np.log(np.unique(table.column("n_params")))
    s2 = line.var_b
    found = []
    for z in _steps(ln_n):
        spread = line.scatter**2 / s2 if s2 > 0 else 1.0
        k = line.freedom + 2
        more = spread + (z - line.middle) ** 2 * k / (k + 1)
        shrink = float(stdtrit(line.freedom + 1, 0.975) / line.t * math.sqrt(spread / more))
        d = math.exp(line.a + line.b * (z - line.middle))
        found.append(
            {
                "n_params": math.exp(z), "n_tokens": d, "quantity": "gamma", "shrink": shrink,
                "sentence": f"size {format_quantity(math.exp(z))} at data sizes around {format_quantity(d)} would narrow gamma "
                f"to {100 * shrink:.0f} % of its interval.",
            }
        )  # fmt: skip
    return found


def _for_loss(problem: Problem) -> list[dict[str, Any]]:
    """One cell more: width of the prediction one step beyond the largest size and data, by the linearised law."""
    law = problem.law
    sizes, data = _steps(problem.x[0]), _steps(problem.x[1])
    target = np.array([[sizes[-1]], [data[-1]]])
    normal = problem.jacobian.T @ problem.jacobian
    g = law.value(problem.theta[None], target)[1][0, :, 0]
    now = float(g @ np.linalg.pinv(normal, rcond=1e-14) @ g)
    grid = np.array([(a, b) for a in sizes for b in data if (a, b) != (sizes[-1], data[-1])]).T
    found = []
    for j, (a, b) in zip(law.value(problem.theta[None], grid)[1][0].T, grid.T, strict=True):
        then = float(g @ np.linalg.pinv(normal + np.outer(j, j), rcond=1e-14) @ g)
        shrink = math.sqrt(then / now)
        where = f"N = {format_quantity(math.exp(a))}, D = {format_quantity(math.exp(b))}"
        found.append(
            {
                "n_params": math.exp(a), "n_tokens": math.exp(b), "quantity": "loss beyond the grid", "shrink": shrink,
                "sentence": f"a run at {where} would narrow the loss one step beyond the grid to {100 * shrink:.0f} % of its interval.",
            }
        )  # fmt: skip
    return found

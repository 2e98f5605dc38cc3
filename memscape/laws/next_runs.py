"""Which runs would shrink the interval most? Candidates one step outside the grid and between its rows, each scored by
how wide the interval of γ, or of the loss one step beyond the grid, would be with it.

>>> from memscape.laws.frontier import frontier
>>> table = RunTable.read("runs/book")
>>> next_runs(table, {"frontier": frontier(table)})[0]["sentence"]
'Size ... at data sizes around ... would narrow gamma to ... % of its interval.'
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from memscape.laws.critical import LEVEL
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
        found += _for_gamma(np.log(table.column("n_params")), line)
    problem = laws["chinchilla"]._problem if "chinchilla" in laws else None
    if isinstance(problem, Problem):
        found += _for_loss(problem)
    found.sort(key=lambda run: run["shrink"])
    if line is None and "frontier" in laws:
        found.insert(0, {"quantity": "gamma", "shrink": 0.0, "sentence": laws["frontier"].outcome.sentence})
    return found[:count]


def _steps(values: np.ndarray) -> np.ndarray:
    """Return one geometric step below the grid, the middles of its cells, and one step above (logs)."""
    values = np.unique(values)
    step = float(np.median(np.diff(values))) if len(values) > 1 else math.log(4)
    return np.concatenate([[values[0] - step], (values[1:] + values[:-1]) / 2, [values[-1] + step]])


def _for_gamma(ln_n: np.ndarray, line: Straight) -> list[dict[str, Any]]:
    """A size more adds leverage and a degree of freedom: t sqrt(s² / Σ(ln N - m)²) before and after."""
    k, found = line.freedom + 2, []
    spread = line.scatter**2 / line.var_b
    for z in _steps(ln_n):
        more = spread + (z - line.middle) ** 2 * k / (k + 1)
        shrink = float(stdtrit(line.freedom + 1, LEVEL)) / line.t * math.sqrt(spread / more)
        size, data = math.exp(z), math.exp(line.at(math.exp(z)))
        what = f"Size {format_quantity(size)} at data sizes around {format_quantity(data)} would narrow gamma"
        found.append(_proposal(size, data, "gamma", shrink, what))
    return found


def _for_loss(problem: Problem) -> list[dict[str, Any]]:
    """One cell more: standard error of the loss one step beyond the largest size and data, by the linearised law."""
    law, theta = problem.law, problem.theta[None]
    sizes, data = _steps(problem.x[0]), _steps(problem.x[1])
    g = law.value(theta, np.array([[sizes[-1]], [data[-1]]]))[1][0, :, 0]
    inverse, now = problem.inverse, float(g @ problem.inverse @ g)
    grid = np.array([(a, b) for a in sizes for b in data if (a, b) != (sizes[-1], data[-1])]).T
    found = []
    for j, (a, b) in zip(law.value(theta, grid)[1][0].T, np.exp(grid.T), strict=True):
        gain = float(g @ inverse @ j) ** 2 / (1 + float(j @ inverse @ j))  # Sherman & Morrison
        what = f"A run at N = {format_quantity(a)}, D = {format_quantity(b)} would narrow the loss beyond the grid"
        found.append(_proposal(float(a), float(b), "loss beyond the grid", math.sqrt(max(0.0, 1 - gain / now)), what))
    return found


def _proposal(n_params: float, n_tokens: float, quantity: str, shrink: float, what: str) -> dict[str, Any]:
    sentence = f"{what} to {100 * shrink:.0f} % of its interval."
    return {"n_params": n_params, "n_tokens": n_tokens, "quantity": quantity, "shrink": shrink, "sentence": sentence}

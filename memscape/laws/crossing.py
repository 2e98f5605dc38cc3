"""Up to which data size D* does a model memorise? Where a criterion, followed over the data, crosses its threshold.

Values are means over seeds at the best learning rate, made monotone, and interpolated in ln D by a monotone cubic.
Criteria and thresholds are fixed before the runs: `share`, memorisation proper; `gap`, the paper's, where overfitting
ends; `floor`, memorised to the end.

>>> rows = [{"N": 1e4, "D": 10**k, "loss": 3.0, "memorised_share": 1.4 - 0.2 * k} for k in (3, 4, 5, 6)]
>>> round(crossings(RunTable.read(rows), CRITERIA["share"], 0.5)[0].d_star)
31623
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator

from memscape.laws.table import Cells, RunTable

Censored = Literal["no", "beyond the grid", "before the grid"]


@dataclass(frozen=True)
class Criterion:
    """What counts as memorised (or as no longer overfitted)."""

    name: str
    title: str
    value: Callable[[RunTable], np.ndarray]
    """One number a run."""
    threshold: float
    sweep: tuple[float, ...]
    """Thresholds of the sensitivity table."""
    judge: str
    """Column by which the best learning rate is chosen: lowest, or largest for a share."""
    rising: bool = False
    """Whether the value grows with D."""
    log: bool = True
    """Whether the value is nearly straight in ln D on a log scale, or as it is."""

    def scaled(self, value: np.ndarray) -> np.ndarray:
        """Return the value on its scale, turned so that it falls with D."""
        straight = np.log(np.maximum(value, 1e-4)) if self.log else np.asarray(value, float)
        return -straight if self.rising else straight


def _squared_gap(table: RunTable) -> np.ndarray:
    """Return (held-out - train)² + the variance of both, at the lowest held-out loss where that is known."""
    if "gap_mse" in table:
        return table.column("gap_mse")
    train = table.column("best_train_loss" if "best_train_loss" in table else "train_loss")
    sems = [np.nan_to_num(table.columns.get(f"{loss}_sem", np.zeros(1))) for loss in ("train_loss", "fresh_loss")]
    return (table.column("heldout_loss") - train) ** 2 + sems[0] ** 2 + sems[1] ** 2


CRITERIA: dict[str, Criterion] = {
    c.name: c
    for c in (
        Criterion(
            "share", "memorised share of the data's bits", lambda table: table.column("memorised_share"),
            0.5, (0.25, 0.35, 0.5, 0.65, 0.8), "memorised_share", log=False,
        ),
        Criterion(
            "gap", "squared train-held-out gap, nats²", _squared_gap,
            0.04, (0.01, 0.02, 0.04, 0.045, 0.055, 0.1), "heldout_loss",
        ),
        Criterion(
            "floor", "training loss above its floor, nats/token", lambda t: t.column("train_loss") - t.column("floor"),
            0.1, (0.03, 0.05, 0.1, 0.2, 0.3), "train_loss", rising=True,
        ),
    )
}  # fmt: skip
"""Name -> criterion."""


@dataclass(frozen=True)
class Crossing:
    """One size's D*."""

    n_params: float
    n_params_total: float
    ln_d: float
    """ln D*; of a censored crossing the end of the grid that it lies past."""
    variance: float
    """Of ln D*, from the seeds."""
    below: float
    """ln of the data size before the crossing."""
    runs: list[str]
    censored: Censored = "no"

    @property
    def d_star(self) -> float:
        """D* in unique tokens."""
        return math.exp(self.ln_d)


def crossings(table: RunTable, criterion: Criterion, threshold: float, first: bool = False) -> list[Crossing]:
    """Return each size's D*, smallest size first.

    `first`: the first data size past the threshold, as in the paper, instead of the interpolated crossing; `below` and
    `ln_d` then bracket it.
    """
    values = replace(table, columns={**table.columns, "criterion": criterion.value(table)})
    judge = criterion.judge if criterion.judge in table else None
    cells = values.cells("criterion", judge, largest=judge == "memorised_share")
    level = float(criterion.scaled(np.array([threshold]))[0])
    sizes = np.unique(cells.inputs["n_params"])
    rows = [np.flatnonzero(cells.inputs["n_params"] == n) for n in sizes]
    raw = [criterion.scaled(cells.value[at]) for at in rows]
    curves = raw if first else [falling(curve) for curve in raw]
    places = [int(np.argmax(curve < level)) if (curve < level).any() else len(curve) for curve in curves]
    noise = _noise(cells, rows, raw, places, criterion)
    grid, found = np.log(np.unique(table.column("n_tokens"))), []
    for n, at, curve, j in zip(sizes.tolist(), rows, curves, places, strict=True):
        ln_d = np.log(cells.inputs["n_tokens"][at])
        total = float(cells.inputs["n_params_total"][at].mean()) if "n_params_total" in cells.inputs else n
        if j == len(at) or (j == 0 and not first):
            end = float(ln_d[min(j, len(at) - 1)])
            side: Censored = "before the grid" if j == 0 else "beyond the grid"
            found.append(Crossing(n, total, end, 0.0, end, cells.runs[at[min(j, len(at) - 1)]], side))
        elif first:  # the cell of the whole grid, though this size may not have been run at its lower end
            lower = grid[grid < ln_d[j] - 1e-9]
            below = float(lower[-1] if len(lower) else ln_d[j])
            found.append(Crossing(n, total, float(ln_d[j]), 0.0, below, cells.runs[at[j]]))
        else:
            drop, step = curve[j - 1] - curve[j], float(ln_d[j] - ln_d[j - 1])
            u = (_reaches(ln_d, curve, j, level) - float(ln_d[j - 1])) / step
            weight = (1 - u) ** 2 / len(cells.seeds[at[j - 1]]) + u**2 / len(cells.seeds[at[j]])
            variance = min(noise * weight * float(step / drop) ** 2, step**2)
            runs = cells.runs[at[j - 1]] + cells.runs[at[j]]
            found.append(Crossing(n, total, float(ln_d[j - 1]) + u * step, variance, float(ln_d[j - 1]), runs))
    return found


def _reaches(ln_d: np.ndarray, curve: np.ndarray, j: int, level: float) -> float:
    """Return where the monotone cubic through a falling curve takes the level between points j-1 and j."""
    fine = np.linspace(ln_d[j - 1], ln_d[j], 65)
    value = PchipInterpolator(ln_d, curve)(fine)
    return float(np.interp(-level, -value, fine))


def falling(curve: np.ndarray) -> np.ndarray:
    """Return the non-increasing least-squares fit: min over starts of the max over ends of the block means."""
    n = len(curve)
    total = np.concatenate([[0.0], np.cumsum(curve)])
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    block = np.where(j >= i, (total[j + 1] - total[i]) / np.maximum(j - i + 1, 1), -np.inf)
    best = np.maximum.accumulate(block[:, ::-1], axis=1)[:, ::-1]
    return np.array([best[: k + 1, k].min() for k in range(n)])


def _noise(cells: Cells, rows: list[np.ndarray], curves, places: list[int], criterion: Criterion) -> float:
    """Return the variance of one run around its cell, pooled near the crossings: between seeds, or by the roughness."""
    between, freedom, rough = 0.0, 0, []
    for at, curve, j in zip(rows, curves, places, strict=True):
        for k in range(max(0, j - 2), min(len(at), j + 2)):
            values = criterion.scaled(cells.seeds[at[k]])
            between += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
            if 0 < k < len(at) - 1:
                x = np.log(cells.inputs["n_tokens"][at[k - 1 : k + 2]])
                u = (x[1] - x[0]) / (x[2] - x[0])
                rough.append((curve[k] - (1 - u) * curve[k - 1] - u * curve[k + 1]) ** 2 / (1 + u * u + (1 - u) ** 2))
    if freedom > 0:
        return between / freedom
    return float(np.mean(rough)) if rough else 0.0

"""Up to which data size D* does a model memorise? Where a criterion, followed over the data, crosses its threshold.

Values are means over seeds at the best learning rate, made monotone, and interpolated in ln D by a monotone cubic, a
share on the scale of its logit: a sigmoid is straight there, and steps of D that are wide for a share are fine for it.
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
from scipy.optimize import isotonic_regression
from scipy.special import logit

from memscape.laws.table import Cells, RunTable

Censored = Literal["no", "beyond the grid", "before the grid"]


@dataclass(frozen=True)
class Criterion:
    """What counts as memorised (or as no longer overfitted)."""

    name: str
    title: str
    size: str
    """What the size of D tokens is called."""
    value: Callable[[RunTable], np.ndarray]
    """One number a run."""
    threshold: float
    sweep: tuple[float, ...]
    """Thresholds of the sensitivity table."""
    judge: str
    """Column by which the best learning rate is chosen: lowest, or largest for a share."""
    scaled: Callable
    """Maps the value to a scale on which it falls with D and runs scatter evenly."""
    straight: Callable = lambda scaled: scaled
    """Maps that to a scale on which it is nearly straight in ln D."""


def _squared_gap(table: RunTable) -> np.ndarray:
    """Return (held-out - train)² + the variance of both, at the lowest held-out loss where that is known."""
    train = table.column("best_train_loss" if "best_train_loss" in table else "train_loss")
    sems = [np.nan_to_num(table.columns.get(f"{loss}_sem", np.zeros(1))) for loss in ("train_loss", "fresh_loss")]
    return (table.column("heldout_loss") - train) ** 2 + sems[0] ** 2 + sems[1] ** 2


def _log(value):
    return np.log(np.maximum(value, 1e-4))


def _logit(share):
    return logit(np.clip(share, 1e-3, 1 - 1e-3))


CRITERIA: dict[str, Criterion] = {
    c.name: c
    for c in (
        Criterion(
            "share", "memorised share of the data's bits", "size that memorises D tokens",
            lambda table: table.column("memorised_share"),
            0.5, (0.25, 0.35, 0.5, 0.65, 0.8), "memorised_share", lambda value: value, _logit,
        ),
        Criterion(
            "gap", "squared train-held-out gap, nats²", "size that just overfits D tokens", _squared_gap,
            0.04, (0.01, 0.02, 0.04, 0.1), "heldout_loss", _log,
        ),
        Criterion(
            "floor", "training loss above its floor, nats/token", "size that learns D tokens to their floor",
            lambda table: table.column("train_loss") - table.column("floor"),
            0.1, (0.03, 0.05, 0.1, 0.2, 0.3), "train_loss", lambda value: -_log(value),
        ),
    )
}  # fmt: skip
"""Name -> criterion."""


NUDGE = 1e-4
"""Step of a cell's value by which the crossing's sensitivity to it is measured."""


@dataclass(frozen=True)
class Crossing:
    """One size's D*."""

    n_params: float
    n_params_total: float
    ln_d: float
    """ln D*; of a censored crossing the end of the grid that it lies past."""
    variance: float
    """Of ln D*, from the seeds."""
    runs: list[str]
    censored: Censored = "no"

    @property
    def d_star(self) -> float:
        """D* in unique tokens."""
        return math.exp(self.ln_d)


def crossings(table: RunTable, criterion: Criterion, threshold: float) -> list[Crossing]:
    """Return each size's D*, smallest size first."""
    values = replace(table, columns={**table.columns, "criterion": criterion.value(table)})
    judge = criterion.judge if criterion.judge in table else None
    cells = _distinct(values.cells("criterion", judge, largest=judge == "memorised_share"))
    level = float(criterion.scaled(threshold))
    rows = [np.flatnonzero(cells.inputs["n_params"] == n) for n in np.unique(cells.inputs["n_params"])]
    curves = [isotonic_regression(criterion.scaled(cells.value[at]), increasing=False).x for at in rows]
    places = [int(np.argmax(curve < level)) if (curve < level).any() else len(curve) for curve in curves]
    noise = _noise(cells, rows, places, criterion)
    found = []
    for at, curve, j in zip(rows, curves, places, strict=True):
        ln_d = np.log(cells.inputs["n_tokens"][at])
        n = float(cells.inputs["n_params"][at[0]])
        total = float(cells.inputs["n_params_total"][at].mean()) if "n_params_total" in cells.inputs else n
        if j in (0, len(at)):
            end = min(j, len(at) - 1)
            side: Censored = "before the grid" if j == 0 else "beyond the grid"
            found.append(Crossing(n, total, float(ln_d[end]), 0.0, cells.runs[at[end]], side))
            continue
        crossed = _cross(ln_d, curve, level, j, criterion)
        variance = 0.0
        for k in range(max(0, j - 2), min(len(at), j + 2)):
            nudged = curve + NUDGE * (np.arange(len(at)) == k)
            pull = (_cross(ln_d, nudged, level, j, criterion) - crossed) / NUDGE
            variance += noise * pull**2 / len(cells.seeds[at[k]])
        variance = min(variance, float(ln_d[j] - ln_d[j - 1]) ** 2)
        found.append(Crossing(n, total, crossed, variance, cells.runs[at[j - 1]] + cells.runs[at[j]]))
    return found


def _distinct(cells: Cells) -> Cells:
    """Return the cells with those of one size and data size made one: runs that differ only in length."""
    place = np.stack([cells.inputs["n_params"], cells.inputs["n_tokens"]])
    other = ~np.isclose(place[:, 1:], place[:, :-1], rtol=1e-9, atol=0).all(0)
    groups = np.split(np.arange(len(cells)), np.flatnonzero(other) + 1)
    return Cells(
        {k: np.array([v[at].mean() for at in groups]) for k, v in cells.inputs.items()},
        [np.concatenate([cells.seeds[i] for i in at]) for at in groups],
        [np.concatenate([cells.seed_names[i] for i in at]) for at in groups],
        [[run for i in at for run in cells.runs[i]] for at in groups],
    )


def _cross(ln_d: np.ndarray, curve: np.ndarray, level: float, j: int, criterion: Criterion) -> float:
    """Return where between places j - 1 and j the curve passes the level."""
    fine = np.linspace(ln_d[j - 1], ln_d[j], 65)
    between = PchipInterpolator(ln_d, criterion.straight(curve))(fine)
    return float(np.interp(-criterion.straight(level), -between, fine))


def _noise(cells: Cells, rows: list[np.ndarray], places: list[int], criterion: Criterion) -> float:
    """Return the variance between seeds of one cell, pooled near the crossings; 0 with one seed.

    What seeds do not show is in the scatter of the crossings around the frontier.
    """
    near = [at[k] for at, j in zip(rows, places, strict=True) for k in range(max(0, j - 2), min(len(at), j + 2))]
    values = [criterion.scaled(cells.seeds[i]) for i in near]
    freedom = sum(len(v) - 1 for v in values)
    return sum(float(((v - v.mean()) ** 2).sum()) for v in values) / freedom if freedom else 0.0

"""The picture of a fitted law: measured points with their residuals, one line a size with its 95 % band.

>>> from memscape.laws.fitting import fit
>>> fit("runs/book", law="chinchilla").curve.lines[0].label
'N = 10k'
"""

import math

import numpy as np

from memscape.laws.intervals import Problem, predictions, profile
from memscape.laws.law import BITS, Law
from memscape.laws.quantity import format_quantity
from memscape.laws.results import Curve, Line, Point
from memscape.laws.table import Cells

MOST_LINES = 8
"""Sizes drawn; of more, quantiles."""


def points(law: Law, cells: Cells, residual: np.ndarray | None = None) -> Curve:
    """Return the measured cells over data size (or data bits), with the range of their seeds."""
    bits = law.target == BITS
    x, size = cells.inputs[law.inputs[1]], cells.inputs[law.inputs[0]]
    found = [
        Point(
            x=float(x[i]), y=float(cells.value[i]), n_params=float(size[i]), runs=cells.runs[i],
            y_low=float(cells.seeds[i].min()), y_high=float(cells.seeds[i].max()),
            residual=None if residual is None else float(residual[i]),
        )
        for i in range(len(cells))
    ]  # fmt: skip
    axes = ("data, bits", "memorised, bits") if bits else ("D, unique tokens", "held-out loss, nats/token")
    return Curve(x=axes[0], y=axes[1], points=found)


def draw(problem: Problem) -> Curve:
    """Return points, fitted lines with their bands, and for the capacity law the plateau c N of each size."""
    law = problem.law
    sizes = np.unique(problem.x[0])
    if len(sizes) > MOST_LINES:
        sizes = np.quantile(sizes, np.linspace(0, 1, MOST_LINES))
    along = np.linspace(problem.x[1].min() - 0.7, problem.x[1].max() + 0.7, 21)
    x = np.stack([np.repeat(sizes, len(along)), np.tile(along, len(sizes))])
    if len(law.inputs) == 3:  # drawn at the grid's own number of epochs
        x = np.concatenate([x, x[1:] + float(np.median(problem.x[2] - problem.x[1]))])
    ends = np.exp(np.array(profile(problem, predictions(law, x), x.shape[1], rounds=6))).reshape(3, len(sizes), -1)
    lines = [
        Line(
            label=f"N = {format_quantity(math.exp(size))}", n_params=math.exp(size), x=np.exp(along).tolist(),
            y=value.tolist(), low=_known(low), high=_known(high),
        )
        for size, value, low, high in zip(sizes, *ends, strict=True)
    ]  # fmt: skip
    plateaus = [] if law.name != "capacity" else [
        Line(
            label=f"plateau of {format_quantity(math.exp(size))}", n_params=math.exp(size),
            x=[math.exp(along[0]), math.exp(along[-1])], y=[math.exp(problem.theta[0] + size)] * 2,
        )
        for size in sizes
    ]  # fmt: skip
    return points(law, problem.cells, problem.residual).model_copy(update={"lines": lines, "references": plateaus})


def _known(ends: np.ndarray) -> list[float | None]:
    """Return the ends of a band; one that the data leave open is None."""
    return [float(end) if math.isfinite(end) and end > 0 else None for end in ends]

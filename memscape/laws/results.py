"""What fitting answers with: a `Fit` per law, `Fits` for a table, `Advice` for a corpus; each goes to JSON and back.

Every picture of the laws is one `Curve`: points with their intervals, lines with their bands, dashed references. A page
that can draw a `Curve` can draw all of them.

>>> Outcome(name="converged", sentence="20 points, 5 parameters.").good
True
"""

import html
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, PrivateAttr

from memscape.errors import TableError
from memscape.folder import read_json
from memscape.theory.measure import Measured


class Answer(BaseModel):
    """Base of all results here: frozen, and JSON both ways."""

    model_config = ConfigDict(frozen=True)


def measured(ends: Iterable[float | None], unit: str, n: int, interval: str) -> Measured:
    """Return (value, low, high) as one number with its interval; an end that is not finite is open."""
    value, low, high = (None if end is None or not math.isfinite(end) else float(end) for end in ends)
    return Measured(value=math.nan if value is None else value, unit=unit, n=n, low=low, high=high, interval=interval)


def _short(m: Measured) -> str:
    low, high = ("?" if end is None else f"{end:.3g}" for end in (m.low, m.high))
    return f"{m.value:.3g} [{low}, {high}]"


class Outcome(Answer):
    """How a fit ended, with a sentence that says what to do about it."""

    name: Literal["converged", "boundary", "ill-conditioned", "misfit", "too-few-points", "unfinished"]
    sentence: str

    @property
    def good(self) -> bool:
        """Whether the parameters may be read at face value."""
        return self.name == "converged"


class Line(Answer):
    """A drawn line: y over x, with the 95 % band where one is known."""

    label: str
    x: list[float]
    y: list[float]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    n_params: float | None = None
    """The size this line belongs to, if it belongs to one."""
    slope: float | None = None
    """The exponent of a reference line."""
    inside: bool | None = None
    """Whether a reference lies inside the fitted interval."""


class Point(Answer):
    """A drawn point: the mean over the seeds of one (size, data) cell, or one size's crossing."""

    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    n_params: float | None = None
    residual: float | None = None
    """ln(measured / fitted)."""
    censored: Literal["no", "beyond the grid", "before the grid"] = "no"
    """A censored crossing is only known to lie past x."""
    runs: list[str] = []


class Curve(Answer):
    """One picture: axis titles with units, points, lines with bands, reference lines. Both axes logarithmic."""

    x: str
    y: str
    points: list[Point] = []
    lines: list[Line] = []
    references: list[Line] = []

    def plot(self):
        """Return a Plotly figure: points with error bars, lines with bands, dashed references."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for line in self.lines:
            if line.low and line.high and None not in line.low + line.high:
                edge = {"x": line.x + line.x[::-1], "y": line.high + line.low[::-1], "line": {"width": 0}}
                figure.add_scatter(**edge, fill="toself", opacity=0.25, hoverinfo="skip", showlegend=False)
        for line, dash in [*((li, "solid") for li in self.lines), *((li, "dash") for li in self.references)]:
            figure.add_scatter(x=line.x, y=line.y, mode="lines", line_dash=dash, name=line.label)
        table = pd.DataFrame([p.model_dump() for p in self.points], columns=[*Point.model_fields])
        for axis in "xy":  # an end that is not known has no bar
            for end in ("low", "high"):
                table[f"{axis}_{end}"] = table[f"{axis}_{end}"].astype(float).fillna(table[axis])
        figure.add_scatter(
            x=table.x, y=table.y, mode="markers", name="measured",
            marker_symbol=["circle" if side == "no" else "circle-open" for side in table.censored],
            error_x={"array": table.x_high - table.x, "arrayminus": table.x - table.x_low},
            error_y={"array": table.y_high - table.y, "arrayminus": table.y - table.y_low},
        )  # fmt: skip
        return figure.update_layout(
            xaxis={"type": "log", "title": self.x}, yaxis={"type": "log", "title": self.y}, template="simple_white"
        )


class Variant(Answer):
    """The exponent again under another threshold, criterion or parameter convention."""

    what: str
    gamma: Measured | None
    sizes: int


class Fit(Answer):
    """One law fitted to one table."""

    law: str
    formula: str
    source: str
    target: str
    """The column that was fitted."""
    params: dict[str, Measured] = {}
    """Fitted values with 95 % intervals (profile likelihood; frontier: t interval)."""
    bootstrap: dict[str, Measured] = {}
    """The same parameters with 95 % bootstrap intervals over cells."""
    outcome: Outcome
    n: int
    """Independent points used: cells of (size, data), or crossings."""
    objective: float | None = None
    """Sum of Huber losses of ln(measured / fitted)."""
    delta: float | None = None
    """Width of the Huber loss, in ln(loss)."""
    noise: float | None = None
    """Robust standard deviation of ln(measured / fitted)."""
    condition: float | None = None
    """Condition number of the scaled normal matrix."""
    curve: Curve
    verdict: str = ""
    """The answer in one plain sentence."""
    sensitivity: list[Variant] = []

    _problem: Any = PrivateAttr(default=None)
    _table: Any = PrivateAttr(default=None)
    _predict: Any = PrivateAttr(default=None)

    def predict(self, **inputs: float) -> Measured:
        """Return the law at `inputs` (for example `n_params=1e6, n_tokens=3e6`) with its 95 % interval."""
        if self._predict is None:
            raise TableError(
                f"{self.law} has no runs to predict from (too few, or read from a file); fit the table again."
            )
        for name, value in inputs.items():
            if not 0 < value < math.inf:
                raise TableError(f"expected positive, finite inputs, got {name}={value}; give numbers above 0.")
        return self._predict(inputs)

    def plot(self):
        """Return the fit's picture as a Plotly figure."""
        return self.curve.plot()

    def to_frame(self) -> pd.DataFrame:
        """Return the parameters as a table, a row each."""
        return pd.DataFrame({name: m.model_dump() for name, m in self.params.items()}).T

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def __str__(self) -> str:
        rows = "\n".join(f"  {name:<10} {value}" for name, value in self.params.items())
        lines = [f"{self.law}: {self.formula}", rows, f"  {self.outcome.name}: {self.outcome.sentence}"]
        return "\n".join([line for line in [*lines, f"  {self.verdict}"] if line.strip()])


class Rank(Answer):
    """One law's standing: error on the largest sizes and data sizes it was not shown, and in-sample criteria beside."""

    law: str
    about: Literal["loss", "frontier"]
    heldout_error: float | None
    """Root mean square of ln(measured / predicted) over both hold-outs; None if a hold-out could not be fitted."""
    largest_size_error: float | None
    largest_data_error: float | None = None
    n_heldout: int
    aic: float | None = None
    bic: float | None = None
    n_params: int
    """Fitted parameters."""
    note: str = ""


class Fits(Answer):
    """Everything `fit` finds in a table; `fit.json`."""

    table: dict[str, Any]
    """Source, rows used and dropped (with reasons), sizes, data sizes, conventions."""
    laws: dict[str, Fit]
    ranking: list[Rank]
    next_runs: list[dict[str, Any]] = []
    sentence: str

    _table: Any = PrivateAttr(default=None)

    def __getitem__(self, law: str) -> Fit:
        return self.laws[law]

    def __str__(self) -> str:
        lines = [self.sentence]
        for name, fit in self.laws.items():
            values = ", ".join(f"{k} {_short(m)}" for k, m in fit.params.items())
            lines.append(f"  {name:<16} {fit.outcome.name:<16} {values or fit.outcome.sentence}")
        own = [r for r in self.ranking if r.about == "loss" and r.heldout_error and "constants" not in r.law]
        if own:
            told = ", ".join(f"{r.law} {100 * (r.heldout_error or 0):.2g} %" for r in own)
            lines.append(f"Held-out loss of the largest runs, left out of the fit, is missed by: {told}.")
        told = self.table
        size = f"{told['rows']} runs, {len(told['sizes'])} sizes x {len(told['data_sizes'])} data sizes"
        return "\n".join([*lines, "; ".join([size, *told["notes"]]) + "."])

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.sentence)}</p>{self.to_frame().to_html()}"

    def to_frame(self) -> pd.DataFrame:
        """Return the ranking as a table."""
        return pd.DataFrame([rank.model_dump() for rank in self.ranking])

    @classmethod
    def read(cls, folder: str | Path) -> "Fits":
        """Read `fit.json` of a result folder."""
        return cls.model_validate(read_json(Path(folder) / "fit.json"))


class Advice(Answer):
    """What to train for a corpus; `advice.json`."""

    tokens: int
    """Unique training tokens."""
    epochs_max: float
    recommended: dict[str, Measured]
    """n_params, epochs, fresh_loss, train_loss, floor, memorised_share."""
    memorise: dict[str, Measured]
    """n_params: the smallest size that would memorise all of it; bits: what there is to memorise."""
    cost: dict[str, Measured]
    """flops, and with a measured throughput hours and money."""
    extrapolation: dict[str, Any]
    """factor, n_params_factor, tokens_factor, sentence."""
    changes: list[str]
    """What would change the advice, a sentence each."""
    next_runs: list[dict[str, Any]]
    sentence: str
    curve: Curve
    """Expected held-out loss over size at this many tokens."""

    def plot(self):
        """Return the expected loss over size as a Plotly figure."""
        return self.curve.plot()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def __str__(self) -> str:
        rows = "\n".join(f"  {name:<16} {value}" for name, value in {**self.recommended, **self.cost}.items())
        return "\n".join([self.sentence, rows, *[f"  - {change}" for change in self.changes]])

"""What does a figure consist of? Columns with their sources, traces that only name columns, a sentence it supports.

A figure holds no number of its own: traces pick rows of columns, columns are read from the result folder, and labels
are words and cited values. The page's script turns this into Plotly, the CSV download and the fallbacks; a test
resolves every column again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memscape.pages.citation import Cited, Measure, Records, Sentence


@dataclass(frozen=True)
class Column:
    """Values for one axis, colour or hover line."""

    values: list
    source: str
    unit: str = ""
    operation: str = "each"


@dataclass(frozen=True)
class Figure:
    """One figure: drawn by Plotly, downloaded as SVG, PNG and CSV."""

    name: str
    """Anchor on the page and file name of the downloads."""
    title: str | Sentence
    caption: Sentence
    """The sentence it supports, with n and the kind of interval."""
    columns: dict[str, Column]
    traces: list[dict[str, Any]]
    """`kind` (line, points, band, bars, heat, tiles, surface, peaks), names of columns for x, y, z, `rows` of them,
    `label`, `look`."""
    axes: dict[str, dict[str, Any]]
    """`x`, `y` (and `z`): `title` with its unit, `scale` (linear, log, category)."""
    height: int = 420
    key: str = ""
    """What the names at the ends of the lines are."""

    @property
    def sources(self) -> str:
        """The files it draws on."""
        parts = {part.split("#")[0] for column in self.columns.values() for part in column.source.split(" | ")}
        return " ".join(sorted(parts))

    def plain(self) -> dict[str, Any]:
        """Return what the page embeds: JSON values only."""
        return {
            "name": self.name,
            "columns": {
                name: {"src": c.source, "op": c.operation, "unit": c.unit, "values": [_short(v) for v in c.values]}
                for name, c in self.columns.items()
            },
            "traces": [{**t, "label": label(t["label"])} if t.get("label") else t for t in self.traces],
            "axes": {k: a | {"title": label(a["title"])} if a.get("title") else a for k, a in self.axes.items()},
            "height": self.height,
            "key": self.key,
        }


@dataclass(frozen=True)
class Table:
    """Headings and rows of cited values, or of words without a number."""

    name: str
    headings: list[tuple[str, bool]]
    """Heading and whether the column holds words."""
    rows: Sequence[Sequence[Cited | Measure | Sentence | None]]


def table(name: str, headings: dict[str, bool], rows: Sequence[Sequence[Any]]) -> Table | None:
    """Return the table with its headings (and whether each column holds words), or None without rows."""
    return Table(name, list(headings.items()), rows) if rows else None


def shade(place: int, of: int) -> str:
    """Return the look of one line among `of`: the later, the deeper."""
    return f"size:{place / max(1, of - 1):.3f}"


def columns(records: Records, **wanted: tuple[str, ...]) -> dict[str, Column]:
    """Return the columns `name=(source, unit[, operation])` of `records` that hold at least one value."""
    found = {}
    for name, (source, unit, *operation) in wanted.items():
        column = Column(records.values(source, *operation), source, unit, *operation)
        if any(value is not None for value in column.values):
            found[name] = column
    return found


def anchor(name: str, profile: str) -> str:
    """Return the anchor of a figure: its name and the probe's folder, letters and digits only."""
    folder = profile.split("/")[-2] if "/" in profile else "model"
    return "".join(c if c.isalnum() else "-" for c in f"{name}-{folder}")


def label(sentence: Any) -> list[Any]:
    """Return a sentence as the list of its words and cited values, for the script to put together."""
    if isinstance(sentence, Cited):
        return [sentence.plain()]
    if isinstance(sentence, str):
        return [sentence]
    if isinstance(sentence, Measure):
        return label(sentence.parts)
    parts: list[Any] = []
    for piece in re.split(r"(\{\w+\})", sentence.words):
        parts += label(sentence.values[piece[1:-1]]) if piece.startswith("{") else [piece] if piece else []
    return parts


def _short(value: Any) -> Any:
    """Seven significant digits are more than a screen shows and half the bytes."""
    return float(f"{value:.7g}") if isinstance(value, float) else value

"""Where does this number come from? Values of a result folder that carry the JSON pointer they were read from.

A source is `file#/json/pointer`, both parts may hold `*`: `runs/*/result.json#/train_loss` is one value a run, in the
order of the run names, and `profile.json#/layers/*/depth` one a layer. Two sources are joined by ` | ` for an operation
of two values. Nothing on a page is a number unless it is one of these.

>>> records = Records({"fit.json": {"gamma": 1.904}})
>>> str(say("N grows as D to the {gamma}.", gamma=records.number("fit.json#/gamma")))
'N grows as D to the 1.90.'
"""

import fnmatch
import math
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

JOIN = " | "


def _elementwise(rule: Callable[[float, float], float]) -> Callable[[list, list], list]:
    def apply(a: list, b: list) -> list:
        b = b * len(a) if len(b) == 1 else b
        return [_guarded(rule, x, y) for x, y in zip(a, b, strict=True)]

    return apply


def _guarded(rule: Callable[[float, float], float], x: Any, y: Any) -> float | None:
    if x is None or y is None:
        return None
    try:
        return rule(x, y)
    except (ZeroDivisionError, ValueError):
        return None


def _of_numbers(rule: Callable) -> Callable[[list], list]:
    def apply(a: list) -> list:
        known = [x for x in a if x is not None]
        return [rule(known) if known else None]

    return apply


OPERATIONS: dict[str, Callable[..., list]] = {
    "each": lambda a: a,
    "count": lambda a: [len(a)],
    "where": lambda a, wanted: [sum(str(x) == wanted for x in a)],
    "starts": lambda a, wanted: [sum(str(x).startswith(wanted) for x in a)],
    "min": _of_numbers(min),
    "max": _of_numbers(max),
    "median": _of_numbers(statistics.median),
    "joined": lambda a: ["".join(a)],
    "ratio": _elementwise(lambda x, y: x / y),
    "product": _elementwise(lambda x, y: x * y),
    "difference": _elementwise(lambda x, y: x - y),
    "contrast": _elementwise(lambda x, y: (x - y) / (abs(x) + abs(y))),
}
"""What may be done to sources before they are shown. `where=x` and `starts=x` count; `contrast` lies in [-1, 1]."""


class Records:
    """The JSON files of one result folder by their path in it, and the only way from them to a page."""

    def __init__(self, files: dict[str, Any]):
        self.files = dict(sorted(files.items()))

    def values(self, source: str, operation: str = "each") -> list:
        """Return the values at `source`, one per match of its stars; a missing value is None."""
        name, _, wanted = operation.partition("=")
        values = [self._lookup(part) for part in source.split(JOIN)]
        return OPERATIONS[name](*values, *([wanted] if wanted else []))

    def first(self, source: str) -> Any:
        """Return the single value at `source`, or None where the folder has none."""
        found = self._lookup(source)
        return found[0] if found else None

    def has(self, source: str) -> bool:
        return any(value is not None for value in self._lookup(source))

    def number(self, source: str, style: str = "sig3", operation: str = "each") -> "Cited | None":
        """Return the number at `source` ready to be shown, or None where it is missing or not finite."""
        found = self.values(source, operation)
        value = found[0] if found else None
        if isinstance(value, str) or value is None or not math.isfinite(value):
            return None
        return Cited(value, source, style, operation)

    def text(self, source: str) -> "Cited | None":
        """Return the words at `source`, or None; numbers are shown as they stand, so names may be either."""
        value = self.first(source)
        return None if value is None or isinstance(value, dict | list) else Cited(value, source, "text")

    def measured(self, source: str, style: str = "sig3") -> "Measure | None":
        """Return a `Measured` (or a bare number) at `source` with its interval, unit and count."""
        if not isinstance(self.first(source), dict):
            number = self.number(source, style)
            return None if number is None else Measure(number)
        value = self.number(f"{source}/value", style)
        if value is None:
            return None
        low, high = self.number(f"{source}/low", style), self.number(f"{source}/high", style)
        unit = self.text(f"{source}/unit")
        pure = unit is None or unit.value in ("1", "", "ratio", "exponent") or style == "percent"
        return Measure(
            value,
            low,
            high,
            None if pure else unit,
            self.number(f"{source}/n", "count"),
            self.text(f"{source}/interval"),
        )

    def _lookup(self, source: str) -> list:
        file, _, pointer = source.partition("#")
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        paths = [file] if file in self.files else fnmatch.filter(self.files, file)
        paths = [path for path in paths if path.count("/") == file.count("/")]
        return [value for path in paths for value in _walk(self.files[path], steps)]


def _walk(value: Any, steps: list[str]) -> Iterator[Any]:
    """Yield what lies at `steps` below `value`, in order; a path that ends early yields None."""
    if not steps:
        yield value
    elif steps[0] == "*":
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        for item in inside:
            yield from _walk(item, steps[1:])
    elif isinstance(value, dict) and steps[0] in value:
        yield from _walk(value[steps[0]], steps[1:])
    elif isinstance(value, list) and steps[0].isdigit() and int(steps[0]) < len(value):
        yield from _walk(value[int(steps[0])], steps[1:])
    else:
        yield None


def step(name: str) -> str:
    """Return `name` as one step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def named(key: str, source: str) -> "str | Cited":
    """Return a field's name as words; one with digits in it is cited like every other digit."""
    return Cited(key, source, "key") if any(c.isdigit() for c in key) else key.replace("_", " ")


@dataclass(frozen=True)
class Cited:
    """One value with its source: prints as a person reads it, renders as an element that carries the source."""

    value: Any
    source: str
    style: str = "sig3"
    operation: str = "each"

    def __str__(self) -> str:
        return shown(self.value, self.style)

    def __html__(self) -> str:
        operation = "" if self.operation == "each" else Markup(' data-op="{}"').format(self.operation)
        value = Markup("") if isinstance(self.value, str) else Markup(' value="{}"').format(repr(self.value))
        return Markup('<data data-src="{}"{} data-fmt="{}"{}>{}</data>').format(
            self.source, operation, self.style, value, str(self)
        )

    def plain(self) -> dict[str, Any]:
        """The same for the data that a figure carries."""
        return {"text": str(self), "src": self.source, "op": self.operation, "fmt": self.style}


@dataclass(frozen=True)
class Measure:
    """A number with interval, unit, count and the kind of its interval, each with its own source."""

    value: Cited
    low: Cited | None = None
    high: Cited | None = None
    unit: Cited | None = None
    n: Cited | None = None
    interval: Cited | None = None

    @property
    def parts(self) -> "Sentence":
        return Sentence("{bare}{unit}", {"bare": self.bare, "unit": say(" {unit}", unit=self.unit) or ""})

    @property
    def bare(self) -> "Sentence":
        """Value and interval without the unit, where the sentence names it."""
        span = say(" {span}", span=between(self.low, self.high))
        return Sentence("{value}{span}", {"value": self.value, "span": span or ""})

    @property
    def note(self) -> "Sentence | None":
        """What the interval is and on how many it stands."""
        kind = self.interval if self.interval and self.interval.value != "none" else None
        n = say("n = {n}", n=self.n)
        return join(", ", [part for part in (say("{kind}", kind=kind), n) if part])

    def __str__(self) -> str:
        return str(self.parts)

    def __html__(self) -> str:
        return self.parts.__html__()


@dataclass(frozen=True)
class Sentence:
    """Words with cited values in the places `{name}`; a digit among the words themselves is refused."""

    words: str
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fixed = [self.words, *(value for value in self.values.values() if isinstance(value, str))]
        for text in fixed:
            if re.search(r"\d", re.sub(r"\{\w+\}", "", text)):
                raise ValueError(
                    f"expected numbers to come from a result file, got one in the words {text!r}; cite it."
                )

    def __str__(self) -> str:
        return self.words.format_map({name: str(value) for name, value in self.values.items()})

    def __html__(self) -> str:
        return Markup(escape(self.words)).format_map({name: escape(value) for name, value in self.values.items()})

    def cited(self) -> list[Cited]:
        """Every value in it that has a source, in order."""
        found: list[Cited] = []
        for name in re.findall(r"\{(\w+)\}", self.words):
            value = self.values[name]
            if isinstance(value, Measure):
                value = value.parts
            found += [value] if isinstance(value, Cited) else value.cited() if isinstance(value, Sentence) else []
        return found


def between(low: Cited | None, high: Cited | None) -> Sentence | None:
    """Return [low, high], [above low] or [below high] where the other end is open; None without any."""
    return (
        say("[{low}, {high}]", low=low, high=high) or say("[above {low}]", low=low) or say("[below {high}]", high=high)
    )


def say(words: str, **values: Any) -> Sentence | None:
    """Return the sentence, or None when one of its values is missing: a page leaves out what a folder does not have."""
    return None if any(value is None for value in values.values()) else Sentence(words, values)


def join(between: str, parts: list[Any]) -> Sentence | None:
    """Return the parts that are there, one after another; None when there are none."""
    parts = [part for part in parts if part is not None]
    names = [f"part_{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(len(parts))]
    return (
        Sentence(between.join(f"{{{name}}}" for name in names), dict(zip(names, parts, strict=True))) if parts else None
    )


def shown(value: Any, style: str) -> str:
    """Return `value` as a person reads it: `sig3` three significant digits, `count` 4.2 M, `percent`, `fixed3`, `text`.

    `short3` drops zeros at the end, for numbers that were chosen. Below the precision of a computation stands 0.

    >>> shown(4_210_000, "count"), shown(0.0313, "percent"), shown(-2.5, "sig3")
    ('4.21\u202fM', '3.1\u202f%', '−2.50')
    """
    if style in ("text", "key", "file"):
        return str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if abs(value) < 1e-12:
        value = 0
    if style == "percent":
        return _signed(f"{100 * value:.0f}" if abs(value) >= 0.0995 else f"{100 * value:.2g}") + "\u202f%"
    if style.startswith("short"):
        return _signed(f"{value:.{style[5:]}g}")
    if style.startswith("fixed"):
        return _signed(f"{value:,.{style[5:]}f}")
    if style == "count":
        return _signed(_scaled(value))
    return _signed(_significant(value, int(style.removeprefix("sig"))))


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _significant(value: float, digits: int) -> str:
    if value == 0 or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        digits = 2
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4 or exponent > 8:
        return f"{value:.{digits - 1}e}"
    # A zero before the point would be read as a digit that is known: 171.5 is 172 at two digits too.
    return f"{rounded:,.{digits - 1 - exponent}f}" if exponent < digits - 1 else f"{value:,.0f}"


def _scaled(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (10 * unit if unit == 1e3 and float(value).is_integer() else 0.9995 * unit):
            return f"{_significant(float(f'{value / unit:.3g}'), 3)}\u202f{name}"
    return _significant(value, 3)

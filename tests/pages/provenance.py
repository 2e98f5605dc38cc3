"""A reader who believes nothing: resolves every number of a report again, by rules of its own, and lists what is wrong.

    problems(Path("runs/book/report.html").read_text(), Path("runs/book")) == []

Works on any report, as written or as the browser holds it. A digit outside a cited element, a cited number that differs
at the precision it is shown with, words that differ, and figure data that are not in the folder are each a problem.
"""

import json
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
UNSEEN = {"script", "style", "template"}
SPOKEN = ("title", "aria-label", "alt", "placeholder")
FACTOR = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "%": 1e-2}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    parent: "Node | None"
    children: list = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def up(self) -> Iterator["Node"]:
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def all(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.all()


class Tree(HTMLParser):
    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.root = self.at = Node("", {}, None)
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag, attrs):
        self.at.children.append(Node(tag, {name: value or "" for name, value in attrs}, self.at))

    def handle_endtag(self, tag):
        found = next((node for node in self.at.up() if node.tag == tag), None)
        if found is not None and found.parent is not None:
            self.at = found.parent

    def handle_data(self, data):
        self.at.children.append(data)


def resolve(folder: Path, source: str, operation: str = "each") -> list:
    """Return the values that `source` names in `folder`."""
    name, _, wanted = (operation or "each").partition("=")
    a, *rest = [_values(folder, part) for part in source.split(" | ")]
    known = [x for x in a if x is not None]
    if name == "each":
        return a
    if name in ("where", "starts"):
        return [sum(str(x) == wanted if name == "where" else str(x).startswith(wanted) for x in a)]
    if name in ("count", "joined", "min", "max", "median"):
        return [
            {
                "count": lambda: len(a),
                "joined": lambda: "".join(a),
                "min": lambda: min(known),
                "max": lambda: max(known),
                "median": lambda: statistics.median(known),
            }[name]()
        ]
    b = rest[0] * len(a) if len(rest[0]) == 1 else rest[0]
    rule = {
        "ratio": lambda x, y: x / y if y else None,
        "product": lambda x, y: x * y,
        "difference": lambda x, y: x - y,
        "contrast": lambda x, y: (x - y) / (abs(x) + abs(y)) if x or y else None,
    }[name]
    return [None if x is None or y is None else rule(x, y) for x, y in zip(a, b, strict=True)]


def _values(folder: Path, source: str) -> list:
    file, _, pointer = source.partition("#")
    if file not in ("", "verdict.json") and (folder / file).is_file():
        paths = [folder / file]
    else:
        paths = sorted(folder.glob(file), key=lambda path: path.relative_to(folder).as_posix())
    found = []
    for path in paths:
        try:
            level = [json.loads(path.read_text(encoding="utf-8"))]
        except json.JSONDecodeError:
            continue
        for name in [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]:
            level = [inner for value in level for inner in _below(value, name)]
        found += level
    return found


def _below(value: Any, name: str) -> list:
    if name == "*":
        return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(value, list):
        return [value[int(name)]] if name.isdigit() and int(name) < len(value) else [None]
    return [value.get(name)] if isinstance(value, dict) else [None]


def problems(page: str, folder: Path) -> list[str]:
    """Return every unproven digit and every broken citation of a report of `folder`."""
    found: list[str] = []
    for node in Tree(page).root.all():
        if any(above.tag in UNSEEN for above in node.up()):
            continue
        found += _uncited(node)
        if "data-fmt" in node.attributes:
            found += _differs(folder, node.text, node.attributes)
        if node.tag == "figure":
            found += _figure(folder, node)
    return found


def _uncited(node: Node) -> list[str]:
    found = [
        f"digit in {name}={node.attributes[name]!r}"
        for name in SPOKEN
        if re.search(r"\d", node.attributes.get(name, ""))
    ]
    if "data-src" in node.attributes:
        found = [problem for problem in found if not problem.startswith("digit in title=")]
    if any("plot" in above.attributes.get("class", "").split() for above in node.up()):
        return found  # drawn from the figure's own data, which are resolved one by one
    cited = any("data-fmt" in above.attributes for above in node.up())
    return found + [
        f"digit without a source: {child.strip()[:60]!r}"
        for child in node.children
        if isinstance(child, str) and re.search(r"\d", child) and not cited
    ]


def _differs(folder: Path, text: str, cited: dict[str, str]) -> list[str]:
    source, style = cited["data-src"], cited["data-fmt"]
    if style == "key":
        return (
            []
            if text == source.rsplit("/", 1)[-1] and resolve(folder, source) != [None]
            else [f"{source} is no field {text!r}"]
        )
    if style == "file":
        return [] if text == source and (folder / source).is_file() else [f"{source} is no file {text!r}"]
    try:
        values = resolve(folder, source, cited.get("data-op", "each"))
    except (KeyError, ValueError, TypeError, OSError) as problem:
        return [f"{source} does not resolve: {problem!r}"]
    if len(values) != 1 or values[0] is None:
        return [f"{source} resolves to {len(values)} values, shown as {text!r}"]
    if style == "last":  # words without a digit before it
        before, _, text = text.rpartition(" ")
        style, text = "text", before if re.search(r"\d", before) else text
    if style == "text":
        return (
            []
            if " ".join(text.split()) == " ".join(str(values[0]).split())
            else [f"{source} is {values[0]!r}, shown as {text!r}"]
        )
    shown, half = read_number(text)
    if "value" in cited and not math.isclose(float(cited["value"]), values[0], rel_tol=1e-12):
        return [f"{source} is {values[0]!r}, carried as {cited['value']}"]
    return [] if abs(shown - values[0]) <= half * (1 + 1e-9) else [f"{source} is {values[0]!r}, shown as {text!r}"]


def read_number(text: str) -> tuple[float, float]:
    """Return the number that is shown and half a unit of its last digit: `4.2 M` is 4,200,000 and 50,000."""
    plain = re.sub(r"[\s,]", "", text).replace("−", "-")
    match = re.fullmatch(r"(-?\d+)(?:\.(\d+))?(?:e(-?\+?\d+))?([kMBT%]?)", plain)
    if match is None:
        return math.nan, 0.0
    scale = 10.0 ** int(match[3] or 0) * FACTOR.get(match[4], 1.0)
    return float(f"{match[1]}.{match[2] or 0}") * scale, 0.5 * 10.0 ** -len(match[2] or "") * scale


def _figure(folder: Path, node: Node) -> list[str]:
    script = next((child for child in node.all() if child.tag == "script"), None)
    if script is None or "data-src" not in node.attributes:
        return [f"figure {node.attributes.get('id')!r} carries no data or no source"]
    spec = json.loads(script.text)
    found = []
    for name, column in spec["columns"].items():
        try:
            values = resolve(folder, column["src"], column["op"])
        except (KeyError, ValueError, TypeError, OSError) as problem:
            found.append(f"{spec['name']}: column {name} does not resolve: {problem!r}")
            continue
        same = len(values) == len(column["values"]) and all(map(_close, column["values"], values))
        found += [] if same else [f"{spec['name']}: column {name} differs from {column['src']}"]
    for trace in spec["traces"]:
        for axis in ("x", "y", "z", "low", "high", "left", "right"):
            names = trace.get(axis, [])
            for name in [names] if isinstance(names, str) else names:
                if (trace["kind"], axis) == ("heat", "y"):
                    found += _label(folder, spec["name"], name)
                elif name not in spec["columns"]:
                    found.append(f"{spec['name']}: a trace draws {name!r}, which is no column")
        found += _label(folder, spec["name"], trace.get("label", []))
    for axis in spec["axes"].values():
        found += _label(folder, spec["name"], axis.get("title", []))
    return found


def _label(folder: Path, name: str, parts: Any) -> list[str]:
    found = []
    for part in parts:
        if isinstance(part, str):
            found += [f"{name}: digit without a source in {part!r}"] if re.search(r"\d", part) else []
        else:
            found += _differs(
                folder, part["text"], {"data-src": part["src"], "data-op": part["op"], "data-fmt": part["fmt"]}
            )
    return found


def _close(a: Any, b: Any) -> bool:
    both = isinstance(a, int | float) and isinstance(b, int | float)
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-300) if both else a == b

"""Draw the pictures of the findings from the tables in results/, as SVG: labels at the lines, units on the axes.

    python docs/make_figures.py         # docs/figures/NAME.svg, one a result that is there, and a link to it beside it

Each function below answers one question with one picture; `Chart` is the paper it draws on.
"""

import json
import math
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from memscape.laws import Fit, fit
from memscape.theory.measure import Measured

ROOT = Path(__file__).parents[1]
RESULTS, OUT = ROOT / "results", ROOT / "docs" / "figures"

INK, GREY, PALE, RULE, HOT = "#1b2733", "#667788", "#c5ced6", "#e8ecef", "#c8442b"
BLUES = ("#93c3de", "#62a8d1", "#3b8cc0", "#226da3", "#155182", "#0b3459")
"""Small to large."""
WORDS = "#2b74a8"
"""The blue of words whose lines are too pale to be read."""
DARK = dict(zip(
    (INK, GREY, PALE, RULE, HOT, WORDS, "#fff", *BLUES),
    ("#e9e7e1", "#a3afba", "#4b565f", "#2a3036", "#ef8d70", "#7db8dc", "#14171a",
     "#356f93", "#4587b0", "#5f9fc8", "#7db8dc", "#a6d0ea", "#d3eaf7"),
    strict=True,
))  # fmt: skip
"""Every colour by day -> by night."""

Points = Iterable[tuple[float, float]]


class Chart:
    """A picture with one sentence as its title, two axes, and every label where it belongs."""

    def __init__(
        self,
        title: str,
        note: str,
        x: tuple[str, float, float],
        y: tuple[str, float, float],
        *,
        log: str = "x",
        xticks: dict[float, str] | None = None,
        yticks: dict[float, str] | None = None,
        left: int = 66,
        right: int = 205,
        size: tuple[int, int] = (880, 500),
    ):
        """`x` and `y` are title, low and high end; `log` names logarithmic axes; `left` and `right` leave room."""
        self.size, self.log, self.ends = size, log, {"x": x[1:], "y": y[1:]}
        self.box = {"x": (left, size[0] - right), "y": (size[1] - 58, 100 + 17 * note.count("\n"))}
        self.marks: list[str] = []
        self.words(24, 34, title, size=19, weight=650)
        for i, line in enumerate(note.split("\n")):
            self.words(24, 57 + 17 * i, line, GREY)
        wide, (low, high) = self.box["x"][1], self.box["y"]
        for value, name in (self._ticks("y") if yticks is None else yticks).items():
            at = self.at("y", value)
            self.add(f'<line x1="{left}" x2="{wide}" y1="{at:.1f}" y2="{at:.1f}" stroke="{RULE}"/>')
            self.words(left - 8, at + 4, name, GREY, 12, "end")
        for value, name in (self._ticks("x") if xticks is None else xticks).items():
            self.words(self.at("x", value), low + 19, name, GREY, 12, "middle")
        self.words(left, high - 12, y[0], GREY, 12)
        self.words(wide, low + 40, x[0], GREY, 12, "end")
        self.add(f'<line x1="{left}" x2="{wide}" y1="{low}" y2="{low}" stroke="{PALE}"/>')

    def _ticks(self, axis: str) -> dict[float, str]:
        low, high = self.ends[axis]
        if axis in self.log:
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
            between = (1, 2, 5) if high < 30 * low else (1,)
            ticks = [i * 10.0**p for p in powers for i in between] + [10.0**powers.stop]
            return {tick: short(tick) for tick in ticks if low <= tick <= high}
        step = next(s for s in (0.1, 0.2, 0.25, 0.5, 1, 2, 5) if (high - low) / s <= 7)
        first = math.ceil(low / step - 1e-9)
        return {step * i: f"{step * i:g}" for i in range(first, math.floor(high / step + 1e-9) + 1)}

    def at(self, axis: str, value: float) -> float:
        """Return the place of a value, in pixels."""
        (low, high), (start, end) = self.ends[axis], self.box[axis]
        if axis in self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return start + (end - start) * (value - low) / (high - low)

    def xy(self, point: tuple[float, float]) -> tuple[float, float]:
        return self.at("x", point[0]), self.at("y", point[1])

    def add(self, mark: str) -> None:
        self.marks.append(mark)

    def words(
        self, x: float, y: float, text: str, colour: str = INK, size: int = 13, anchor: str = "start", weight: int = 400
    ) -> None:
        """Write at pixels."""
        colour = WORDS if colour in BLUES[:3] else colour
        style = f'fill="{colour}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>')

    def say(
        self, point: tuple[float, float], text: str, colour: str = GREY, anchor: str = "start", up: int = 6
    ) -> None:
        """Write at a point, a little above it."""
        x, y = self.xy(point)
        self.words(x, y - up, text, colour, anchor=anchor)

    def line(self, points: Points, colour: str, width: float = 2.2, dash: str = "") -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.xy, points))
        self.add(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-dasharray="{dash}" stroke-linejoin="round" stroke-linecap="round"/>'
        )

    def band(self, low: Points, high: Points, colour: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.xy, [*low, *reversed([*high])]))
        self.add(f'<polygon points="{path}" fill="{colour}" fill-opacity="0.4"/>')

    def dots(self, points: Points, colour: str, radius: float = 3.2, hollow: bool = False) -> None:
        look = f'fill="{"#fff" if hollow else colour}" stroke="{colour}" stroke-width="{2 if hollow else 0}"'
        for x, y in map(self.xy, points):
            self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}/>')

    def tags(self, tags: list[tuple[float, str, str]], gap: float = 17) -> None:
        """Write (y, text, colour) at the right edge, pushed apart where they would overlap."""
        places: list[float] = []
        for y, _, _ in (ordered := sorted(tags, key=lambda tag: -tag[0])):
            places.append(max(self.at("y", y) + 4, places[-1] + gap if places else -1))
        over = max(0.0, places[-1] - self.box["y"][0]) if places else 0
        for place, (y, text, colour) in zip(places, ordered, strict=True):
            x, here = self.box["x"][1], place - over
            self.add(
                f'<line x1="{x + 4}" y1="{self.at("y", y):.1f}" x2="{x + 14}" y2="{here - 4:.1f}" stroke="{PALE}"/>'
            )
            self.words(x + 17, here, text, colour)

    def svg(self) -> str:
        wide, high = self.size
        font = "-apple-system, 'Segoe UI', Inter, Helvetica, Arial, sans-serif"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="{font}">'
        night = "".join(f'[fill="{a}"]{{fill:{b}}}[stroke="{a}"]{{stroke:{b}}}' for a, b in DARK.items())
        head += f"\n<style>@media (prefers-color-scheme: dark) {{{night}}}</style>"
        return "\n".join([head, f'<rect width="{wide}" height="{high}" fill="#fff"/>', *self.marks, "</svg>\n"])


def short(n: float) -> str:
    """Return 64k, 1.6M: a count as one says it."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.3g}"


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / name / "table.csv")


def scale(name: str) -> str:
    return json.loads((RESULTS / name / "result.json").read_text())["scale"]


def leaves(curve: pd.DataFrame, by: float = 0.1) -> tuple[float, float] | None:
    """Return (D, loss) where a curve of training losses first lies `by` nats above its floor, log-linear in D."""
    above = (curve.train_loss - curve.floor).to_numpy()
    i = int(np.argmax(above > by))
    if i == 0:
        return None
    u = (by - above[i - 1]) / (above[i] - above[i - 1])
    d, loss = np.log(curve.n_tokens.to_numpy()), curve.train_loss.to_numpy()
    return math.exp(d[i - 1] + u * (d[i] - d[i - 1])), float(loss[i - 1] + u * (loss[i] - loss[i - 1]))


def grid() -> Chart:
    """Up to which amount of text does each size memorise?"""
    runs = pd.read_csv(RESULTS / "gpu_grid.csv")
    best = runs.loc[runs.groupby(["n_params_total", "n_tokens"]).train_loss.idxmin()]
    chart = Chart(
        "A model learns a text by heart, until the text is too long for it",
        f"Training loss of six GPT-2 shapes on English prose, {len(runs)} runs, the best of six at each point.\n"
        "A ring marks where a size leaves the floor by 0.1 nats. In brackets: width × layers.",
        ("unique training bytes", 6e4, 8.4e6), ("training loss, nats per byte", 0, 1.6),
        xticks={n: short(n) for n in (64e3, 128e3, 256e3, 512e3, 1e6, 2e6, 8e6)},
    )  # fmt: skip
    tags = []
    for colour, (size, curve) in zip(BLUES, best.groupby("n_params_total"), strict=True):
        points = list(zip(curve.n_tokens, curve.train_loss, strict=True))
        chart.line(points, colour)
        chart.dots(points, colour)
        if place := leaves(curve):
            chart.dots([place], colour, 6.5, hollow=True)
        one = curve.iloc[0]
        tags.append((points[-1][1], f"{short(size)} parameters ({one.d_model} × {one.n_layers})", colour))
    floor = best.groupby("n_tokens").floor.first()
    chart.line(floor.items(), HOT, 1.6, "5 4")
    chart.tags([*tags, (floor.iloc[-1], "floor ln d / T:", HOT), (floor.iloc[-1] - 0.02, "all of it by heart", HOT)])
    return chart


def question_formation() -> Chart:
    """Is 1 a bound of all losses?"""
    runs = table("question-formation")
    arm = runs.run_id.str.split("-s", n=1).str[0]
    depths = sorted(runs[arm.str.startswith("paper")].n_layers.unique())
    lines = {g: int(r.n_sequences.iloc[0]) for g, r in runs.groupby(arm)}
    rows = [(f"paper-l{d}", f"{d} layers, {short(lines[f'paper-l{d}'])} lines") for d in depths]
    stream, few = next(a for a in lines if a.startswith("stream")), next(a for a in lines if a.startswith("few"))
    rows += [(stream, f"{short(lines[stream])} lines, once"), (few, f"{lines[few]:,} lines, again and again")]
    chart = Chart(
        "The loss of 1 is the entropy of a grammar, and memorised lines go below it",
        f"Question-Formation, {scale('question-formation')} scale: training loss at the end, one dot a seed "
        "(where each line is seen once: held-out loss).",
        ("loss, nats per token", 0.2, 1.1), ("", 0, len(rows)), log="", yticks={}, left=250, right=40,
        size=(880, 158 + 52 * len(rows)),
    )  # fmt: skip
    for x in (0.2, 0.4, 0.6, 0.8, 1.0):
        chart.line([(x, 0), (x, len(rows))], RULE, 1)
    chart.line([(0.9953, 0), (0.9953, len(rows))], HOT, 1.6, "5 4")
    chart.say((0.9953, len(rows)), "entropy of the grammar, 0.9953", HOT, "middle")
    for i, (name, words) in enumerate(rows):
        y, mine = len(rows) - 0.5 - i, runs[arm == name]
        x = mine.fresh_loss if name == stream else mine.train_loss
        chart.words(238, chart.at("y", y) + 4, words, INK, 13, "end")
        chart.dots([(v, y) for v in x], BLUES[3], 5)
        floor = mine.floor.iloc[0]
        if name != stream and floor >= 0.2:
            chart.line([(floor, y - 0.22), (floor, y + 0.22)], GREY, 2)
            if name in (rows[0][0], few):
                chart.say((floor, y), "floor ln d / T", GREY, "start" if floor < 0.4 else "middle", 16)
    return chart


def capacity() -> Chart:
    """How many bits does a model hold?"""
    runs = table("capacity")
    cells = runs.groupby(["n_params_total", "data_bits"], as_index=False).memorised_bits.mean()
    low, high = cells.data_bits.min() * 0.8, cells.data_bits.max() * 1.3
    chart = Chart(
        "What fits is stored whole, what does not is stored in part",
        f"Uniform random tokens, {scale('capacity')} scale, {len(runs)} runs, {runs.epochs.min():.0f} passes or more: "
        "bits memorised against bits of data, means over seeds.",
        ("bits of data", low, high), ("bits memorised", low, high), log="xy", right=222,
    )  # fmt: skip
    chart.line([(low, low), (high, high)], HOT, 1.6, "5 4")
    chart.say((high**0.8 * low**0.2, high**0.8 * low**0.2), "all of it ", HOT, "end", 10)
    tags, sizes = [], list(cells.groupby("n_params_total"))
    for colour, (size, curve) in zip(BLUES[-len(sizes) :], sizes, strict=True):
        points = list(zip(curve.data_bits, curve.memorised_bits, strict=True))
        chart.line(points, colour)
        chart.dots(points, colour)
        most = curve.memorised_bits.max()
        tags.append((points[-1][1], f"{short(size)} parameters: ≤ {most / size:.1f} bits each", colour))
    chart.tags(tags)
    return chart


def landscape() -> Chart:
    """Has the training loss an interior minimum over data size?"""
    runs = table("landscape")
    arm = runs.run_id.str.split("-").str[0]
    means = runs.groupby([arm.rename("arm"), "n_tokens"], as_index=False)[["train_loss", "floor"]].mean()
    sizes = means.n_tokens
    chart = Chart(
        "The training loss rises with the data from the first: no minimum inside",
        f"One GPT-2 shape of width {runs.d_model.iloc[0]}, {scale('landscape')} scale, {runs.seed.nunique()} seeds; "
        f"equal steps: {runs.epochs.max():,.0f} passes over the least data, {runs.epochs.min():.0f} over the most.\n"
        "Proposition 4 asks for a valley in u = ln(D / D_opt) whose floor is 1, wherever D_opt, the best size, lies.",
        ("unique training tokens", sizes.min() * 0.9, sizes.max() * 1.1), ("training loss, nats per token", 0, 5),
        xticks={n: short(n) for n in np.geomspace(sizes.min(), sizes.max(), 5)},
    )  # fmt: skip
    tags = []
    for name, words, colour in (("random", "random tokens", BLUES[4]), ("text", "text", BLUES[1])):
        curve = means[means.arm == name]
        points = list(zip(curve.n_tokens, curve.train_loss, strict=True))
        chart.line(points, colour)
        chart.dots(points, colour)
        tags.append((points[-1][1], words, colour))
    floor = means[means.arm == "random"]
    chart.line(zip(floor.n_tokens, floor.floor, strict=True), GREY, 1.6, "2 4")
    middle = math.sqrt(sizes.min() * sizes.max())
    fine = [float(x) for x in np.geomspace(middle / 6, middle * 10, 60)]
    chart.line([(x, (u := math.log(x / middle)) + math.exp(-u)) for x in fine], HOT, 1.6, "5 4")
    chart.say((middle / 5.4, 4.05), "as printed: u + 1/eᵘ, D_opt in the middle", HOT)
    chart.tags([*tags, (float(floor.floor.iloc[-1]), "floor ln d / T", GREY)])
    return chart


def fractions() -> Chart:
    """What does a small share of the data do?"""
    runs = table("fractions")
    arm = runs.run_id.str.split("-").str[0]
    shares = {"whole": 100.0, "tenth": 10.0, "hundredth": 1.0, "thousandth": 0.1}
    columns = ["train_loss", "fresh_loss", "best_fresh_loss", "floor", "epochs"]
    means = runs.groupby(arm)[columns].mean().loc[list(shares)]
    x = [1 / shares[name] for name in means.index]
    passes = [f"{n:,.0f} pass{'es' if n >= 1.5 else ''}" for n in means.epochs]
    chart = Chart(
        "Held-out text is known like trained text only where the text is seen once",
        f"One GPT-2 shape of width {runs.d_model.iloc[0]}, the same number of steps, {scale('fractions')} scale: loss "
        f"at the end, means over {runs.seed.nunique()} seeds.",
        ("share of the corpus trained on, smaller to the right", 0.008, 13),
        ("loss, nats per token", 0, float(means.fresh_loss.max()) * 1.08),
        xticks={1 / s: f"{s:g} %, {told}" for s, told in zip(shares.values(), passes, strict=True)},
    )  # fmt: skip
    looks = (
        ("fresh_loss", "held-out text, at the end", HOT, ""),
        ("best_fresh_loss", "held-out text, at its lowest", HOT, "5 4"),
        ("train_loss", "trained text", BLUES[4], ""),
    )
    for name, _, colour, dash in looks:
        points = list(zip(x, means[name], strict=True))
        chart.line(points, colour, 1.6 if dash else 2.2, dash)
        chart.dots(points, colour, 3 if dash else 4)
    chart.line(zip(x, means.floor, strict=True), GREY, 1.6, "2 4")
    ends = means.iloc[-1]
    tags = [(ends[name], words, colour) for name, words, colour, _ in looks]
    chart.tags([*tags, (ends.floor, "floor ln d / T", GREY)])
    return chart


def radius() -> Chart:
    """Is the distance between states a constant times sqrt(n)?"""
    places = {"": RESULTS / "radius", " (laptop scale)": RESULTS / "radius" / "laptop"}
    seen, at_laptop = (pd.DataFrame(json.loads((p / "models.json").read_text())["models"]) for p in places.values())
    large = at_laptop[~at_laptop.own & (at_laptop.width > 100)]
    looks = (
        ("gaussian", "Gaussian, same moments", GREY),
        ("untrained", "untrained weights", BLUES[1]),
        ("distance", "trained", BLUES[4]),
    )
    chart = Chart(
        "States lie half as far apart as in a Gaussian, and off the predicted 0.484",
        "Distance to the nearest state of another document after the final norm, over sqrt(n); "
        f"{scale('radius')} scale, {len(seen)} models,\nand {len(large)} at laptop scale. "
        "Lines: GPT-2 shapes trained on the same books. Dots off the lines: models of others.",
        ("width n of the model", 54, 900), ("distance / sqrt(n)", 0, 1.4),
        xticks={float(w): f"{w:g}" for w in sorted(set(seen.width))},
    )  # fmt: skip
    chart.line([(54, 0.4839), (900, 0.4839)], HOT, 1.6, "5 4")
    own, tags = seen[seen.own].sort_values("width"), [(0.4839, "predicted: 0.484", HOT)]
    for name, words, colour in looks:
        points = list(zip(own.width, own[name] / np.sqrt(own.width), strict=True))
        chart.line(points, colour)
        for models in (seen, large):
            root = np.sqrt(models.width)
            chart.dots(zip(models.width, models[name] / root, strict=True), colour, 4.5, hollow=name != "distance")
        tags.append((points[-1][1], words, colour))
    for words, models in zip(places, (seen[~seen.own], large), strict=True):
        for _, one in models.iterrows():
            place = (one.width, one.distance / math.sqrt(one.width))
            name = one["name"].removesuffix("-Instruct")
            chart.say(place, name + words, INK, "start" if one.width < 100 else "end", -14 if one.width < 100 else -16)
    chart.tags(tags)
    return chart


def openelm() -> Chart:
    """How does the size that just overfits D tokens grow with D?"""
    law, again = (
        fit(table(place), "frontier:gap", where={"tokenizer": "bpe:4096"}) for place in ("openelm", "openelm/seed-1")
    )
    whole = table("openelm").assign(n_params=lambda runs: runs.n_params_total)
    counted = fit(whole, "frontier:gap", where={"tokenizer": "bpe:4096"})
    low, high = 8.5e5, 8.4e6
    chart = Chart(
        "By the paper's count the size that just overfits a text grows as its square",
        f"OpenELM shapes on books, {scale('openelm')} scale; D*: held-out minus training loss falls to 0.2 nats a "
        f"token.\nDots: n = {law.n} sizes. Rings: with another seed, D to the {interval(again)}.\n"
        "Grey: the same D*, with embeddings counted in N: no square.",
        ("D*, unique training tokens", low, high), ("N, parameters", 3.5e4, 6e6), log="xy", right=265,
        xticks={n: short(n) for n in (1e6, 2e6, 4e6, 8e6)}, yticks={n: short(n) for n in (1e5, 3e5, 1e6, 3e6)},
    )  # fmt: skip
    middle = [math.exp(sum(map(math.log, values)) / law.n) for values in zip(*crossed(law), strict=True)]
    slope_1 = [(d, middle[1] * d / middle[0]) for d in (low, high)]
    fitted, pale = ([(d, found.predict(n_tokens=d).value) for d in (low, high)] for found in (law, counted))
    chart.line(slope_1, PALE, 2.2, "5 4")
    chart.line(pale, PALE)
    chart.dots(crossed(counted), GREY, 3)
    chart.line(fitted, HOT)
    chart.dots(crossed(again), BLUES[4], 6.5, hollow=True)
    chart.dots(crossed(law), BLUES[4], 4.5)
    chart.tags([
        (pale[1][1], f"embeddings counted: {interval(counted)}", GREY),
        (fitted[1][1], f"D to the {interval(law)}", HOT),
        (slope_1[1][1], "in proportion: D to the 1", GREY),
    ])  # fmt: skip
    return chart


def crossed(law: Fit) -> list[tuple[float, float]]:
    """Return (D*, N) of every size whose D* lies inside the grid."""
    return [(point.x, point.y) for point in law.curve.points if point.censored == "no"]


def interval(law: Fit) -> str:
    """Return an exponent with its interval as one writes it."""
    return within(law.params["gamma"])


def within(m: Measured) -> str:
    return f"{m.value:.2f} [{m.low:.2f}, {m.high:.2f}]"


def architecture() -> Chart:
    """Which parts of a transformer change what it holds, and how far apart its states lie?"""
    answer = json.loads((RESULTS / "architecture" / "result.json").read_text())["questions"]
    names = {name.removesuffix("-capacity") for name in answer if name.endswith("-capacity")}
    rows = sorted(names, key=lambda name: -answer[f"{name}-capacity"]["measured"]["value"])
    told = {
        "rms": "RMSNorm",
        "unplaced": "no positions",
        "unnormed": "no norms",
        "sparse": "top 4 keys",
        "alibi": "ALiBi",
    }
    runs = table("architecture")
    held = runs[runs.run_id.str.contains("-random-")].groupby(runs.run_id.str.split("-").str[0]).mean(numeric_only=True)
    most = held.data_bits / held.n_params_total / held.bits_per_param["base"]
    chart = Chart(
        "Most parts of a transformer leave what it holds as it was",
        f"Against the base, {scale('architecture')} scale, means of {runs.seed.nunique()} seeds with 95 % t intervals; "
        "red: the whole interval outside the grey lines.\nDots: bits per parameter, of random tokens. "
        "Rings: distance between states, on text.",
        ("times the base", -0.02, 1.7), ("", 0, len(rows)), log="", yticks={}, left=110, right=40,
        xticks={x: f"{x:g}" for x in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)}, size=(880, 175 + 34 * len(rows)),
    )  # fmt: skip
    for x in (0.9, 1.1):
        chart.line([(x, 0), (x, len(rows))], PALE, 1.6)
    for i, name in enumerate(rows):
        y = len(rows) - 0.5 - i
        chart.words(98, chart.at("y", y) + 4, told.get(name, name), INK, 13, "end")
        chart.line([(-0.02, y), (1.7, y)], RULE, 1)
        for what, up in (("capacity", 0.16), ("radius", -0.16)):
            one = answer[f"{name}-{what}"]
            colour, seen = HOT if one["outcome"].endswith("contradicted") else BLUES[3], one["measured"]
            chart.line([(seen["low"], y + up), (seen["high"], y + up)], colour)
            chart.dots([(seen["value"], y + up)], colour, 4.5, hollow=what == "radius")
        if most[name] < 1:
            chart.line([(most[name], y - 0.3), (most[name], y + 0.3)], GREY, 2)
            x, level = chart.xy((most[name], y + 0.16))
            chart.words(x + 7, level + 4, "all there was to hold", GREY)
    return chart


def correlation() -> Chart:
    """Has every state a ball of the paper's radius to itself?"""
    places = ("correlation", "correlation/seed-1")
    answers = [json.loads((RESULTS / place / "result.json").read_text()) for place in places]
    trials = [[*answer["claims"]["C11"], answer["questions"]["repeated"]] for answer in answers]
    rows = ("after the embedding", "after the final norm", "half of the documents twice")
    chart = Chart(
        "Half of the states or fewer have a ball of the paper's radius to themselves",
        f"A GPT-2 shape of width {table('correlation').d_model.iloc[0]}, {scale('correlation')} scale: states whose "
        "ball meets no other, with 95 % bootstrap intervals.\nRings: with another seed. "
        "The last row is after the final norm, too.",
        ("share of states alone in their ball", 0, 1), ("", 0, len(rows)), log="", yticks={}, left=220, right=40,
        xticks={x: f"{100 * x:g} %" for x in (0, 0.25, 0.5, 0.75, 1)}, size=(880, 175 + 52 * len(rows)),
    )  # fmt: skip
    asked = trials[0][0]["low"]
    chart.line([(asked, 0), (asked, len(rows))], HOT, 1.6, "5 4")
    chart.say((asked, len(rows)), f"Assumption 3 needs all of them; asked: {100 * asked:g} %", HOT, "end")
    for i, (words, *pair) in enumerate(zip(rows, *trials, strict=True)):
        y, both = len(rows) - 0.5 - i, [trial["measured"] for trial in pair]
        chart.words(206, chart.at("y", y) + 4, words, INK, 13, "end")
        for seen, up in zip(both, (0.13, -0.13), strict=True):
            chart.line([(seen["low"], y + up), (seen["high"], y + up)], BLUES[3])
            chart.dots([(seen["value"], y + up)], BLUES[3], 4.5, hollow=up < 0)
        value, low, high = (100 * both[0][end] for end in ("value", "low", "high"))
        told = f"{value:.0f} % [{low:.0f}, {high:.0f}]" if high else "0 %: equal tokens are equal patterns"
        chart.say((max(seen["high"] for seen in both) + 0.02, y), told, up=-4)
    return chart


def z_loss() -> Chart:
    """Does the penalty move the floor?"""
    runs = table("z-loss")
    loss = runs.pivot_table("train_loss", "seed", runs.run_id.str.rsplit("-s", n=1).str[0])
    change = loss.drop(columns="z0").sub(loss.z0, axis=0).abs()[["z0.0001", "z0.001", "z0.01", "decay"]]
    change = change.clip(1e-7)  # the table's last digit: a logarithmic axis has no 0
    names = [*(f"λ = {n[1:]}" for n in change.columns[:-1]), f"weight decay {runs.weight_decay.max():g}: contrast"]
    chart = Chart(
        "z-loss moves the loss by millionths, not hundredths; the contrast fails too",
        "How far the training loss at the end moves from that of the same seed without z-loss, "
        f"{scale('z-loss')} scale.\nOne dot a seed; bars: means of {len(change)} seeds.",
        ("", 0, len(names)), ("change of the training loss, nats per token", 1e-7, 0.1), log="y", left=90, right=40,
        xticks={i + 0.5: name for i, name in enumerate(names)},
        yticks={10.0**p: f"1e{p}" for p in range(-7, 0)},
    )  # fmt: skip
    chart.line([(0, 0.02), (len(names), 0.02)], HOT, 1.6, "5 4")
    chart.say((0.03, 0.02), "written down before anything ran: 0.02 or more is a move", HOT)
    for i, name in enumerate(change):
        mean, colour = float(change[name].mean()), GREY if name == "decay" else BLUES[3]
        chart.dots(zip(i + np.linspace(0.32, 0.68, len(change)), change[name], strict=True), colour, 4)
        chart.line([(i + 0.28, mean), (i + 0.72, mean)], colour)
        chart.say((i + 0.74, mean), f"{mean:.1e}".replace("e-0", "e-"), colour, up=-4)
    return chart


def billion() -> Chart:
    """How well do small models know the loss of a large one?"""
    runs = table("scale")
    law, most = fit(runs, "chinchilla"), int(runs.n_tokens.max())
    best = runs[runs.n_tokens == most].groupby("n_params").best_fresh_loss.min()
    largest, sizes = float(best.index.max()), [*map(float, best.index), 1e7, 1e8, 1e9]
    line = [(n, law.predict(n_params=n, n_tokens=most)) for n in sizes]
    end, far = line[-1][1], law.predict(n_params=1e9, n_tokens=2e10)
    chart = Chart(
        f"At {1e9 / largest:.0f} times the largest size the law allows any loss from {far.low:.2f} to {far.high:.2f}",
        f"Held-out loss of six GPT-2 shapes on {short(most)} bytes of books, {scale('scale')} scale; dots: best of "
        f"three rates and {runs.seed.nunique()} seeds.\nGrey: E + A/N^α + B/D^β at that D, fitted to {law.n} cells of "
        "N and D, 95 % profile intervals. Red: at D = 2e10.",
        ("N, parameters without embeddings", 1.7e5, 1e9), ("held-out loss, nats per byte", 1, 1.5), right=225,
        xticks={2e5: "0.2M", 1e6: "1M", 1e7: "10M", 1e8: "100M", 1e9: "1000M"},
    )  # fmt: skip
    chart.band([(n, m.low) for n, m in line], [(n, m.high) for n, m in line], PALE)
    chart.line([(n, m.value) for n, m in line], GREY)
    middle = math.sqrt(largest * 1e9)
    chart.say((middle, end.value), "the law: its exponent of N is at the end of its range", GREY, "middle", -17)
    chart.dots(best.items(), BLUES[4], 4.5)
    chart.say((largest, best[largest]), "measured", BLUES[4], "end", -18)
    chart.line([(1e9, edge) for edge in (far.low, far.high) if edge], HOT, 3)
    chart.dots([(1e9, far.value)], HOT, 4.5)
    chart.line([(largest, 1.02), (1e9, 1.02)], GREY, 1.6, "2 4")
    chart.say((middle, 1.02), f"× {1e9 / largest:.0f}: nothing trained here", GREY, "middle")
    chart.tags([
        (end.value, f"{short(most)} bytes: {within(end)}", GREY),
        (far.value, f"2e10 bytes: {within(far)}", HOT),
    ])  # fmt: skip
    return chart


FIGURES: dict[str, Callable[[], Chart]] = {
    "grid": grid, "question-formation": question_formation, "capacity": capacity, "landscape": landscape,
    "fractions": fractions, "radius": radius, "openelm": openelm, "architecture": architecture,
    "correlation": correlation, "z-loss": z_loss, "scale": billion,
}  # fmt: skip
"""Name of the result -> its picture."""


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        if name == "grid" or (RESULTS / name).exists():
            path = OUT / f"{name}.svg"
            path.write_text(draw().svg(), encoding="utf-8")
            print(path.relative_to(ROOT))
            if name != "grid":
                (link := RESULTS / name / "figure.svg").unlink(missing_ok=True)
                link.symlink_to(Path("../../docs/figures", path.name))


if __name__ == "__main__":
    main()

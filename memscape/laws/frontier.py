"""The frontier: up to which data size D* does a model of N parameters memorise, and is N = c D*^γ with γ = 1, or 2?

For each size the criterion is followed over the data sizes (mean over seeds at the best learning rate, made monotone)
and D* is where it crosses its threshold, interpolated in ln D. The line ln D* = a + ln N / γ is then fitted to the
crossings: D* is the measured side, with the variance of its seeds and, from the scatter of the points, whatever the law
leaves out (random-effects regression with the t interval of Hartung & Knapp 2001). Criteria and thresholds are fixed
before the runs; the exponent under other thresholds and conventions stands beside.

>>> frontier(RunTable.read("runs/book")).params["gamma"].interval
'95 % t interval over 4 sizes'
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import stdtrit

from memscape.errors import TableError, unknown
from memscape.laws.quantity import format_quantity
from memscape.laws.results import Curve, Fit, Line, Outcome, Point, Variant
from memscape.laws.table import Cells, RunTable
from memscape.theory.measure import Measured

FORMULA, SOURCE = "N = c D^γ", "Niu et al. 2024, arXiv 2405.08707, Table 3, with intervals"

REFERENCES = {
    1.0: "capacity laws",
    1.35: "Kaplan et al.",
    2.0: "the paper, width frozen",
    4.0: "the paper, width growing",
}
"""Exponents that others predict."""

UNDECIDED = 0.3
"""Half-width of γ's interval above which no single exponent is claimed."""


@dataclass(frozen=True)
class Criterion:
    """What counts as memorised (or as no longer overfitted)."""

    name: str
    title: str
    threshold: float
    sweep: tuple[float, ...]
    """Thresholds of the sensitivity table."""
    rising: bool
    """Whether the value grows with D."""
    judge: str
    """The column by which the best learning rate is chosen."""
    largest: bool
    """Whether the judge should be large."""
    value: Callable[[RunTable], np.ndarray]
    scale: Callable[[np.ndarray], np.ndarray]
    """The scale on which the value is nearly straight in ln D."""


def _log(value: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(value, 1e-4))


def _squared_gap(table: RunTable) -> np.ndarray:
    if "gap_mse" in table:
        return table.column("gap_mse")
    sem = sum(
        np.nan_to_num(table.columns.get(f"{loss}_sem", np.zeros(len(table)))) ** 2
        for loss in ("train_loss", "fresh_loss")
    )
    train = table.columns.get("best_train_loss", table.columns.get("train_loss"))
    if train is None:
        train = table.column("train_loss")
    return (table.column("heldout_loss") - train) ** 2 + sem


CRITERIA: dict[str, Criterion] = {
    c.name: c
    for c in (
        Criterion(
            "share", "memorised share of the data's bits", 0.5, (0.25, 0.35, 0.5, 0.65, 0.8), False, "memorised_share", True,
            lambda table: table.column("memorised_share"), lambda value: value,
        ),
        Criterion(
            "gap", "squared train-held-out gap, nats²", 0.04, (0.01, 0.02, 0.04, 0.045, 0.055, 0.1), False, "heldout_loss", False,
            _squared_gap, _log,
        ),
        Criterion(
            "floor", "training loss above its floor, nats/token", 0.1, (0.03, 0.05, 0.1, 0.2, 0.3), True, "train_loss", False,
            lambda table: table.column("train_loss") - table.column("floor"), _log,
        ),
    )
}  # fmt: skip
"""Name -> criterion: `share` (memorisation), `gap` (the paper's, where overfitting ends), `floor` (memorised to the end)."""


@dataclass(frozen=True)
class Crossing:
    """One size's D*."""

    n_params: float
    n_params_total: float
    ln_d: float
    variance: float
    """Of ln D*, from the seeds."""
    censored: str
    """`no`, or on which side of the grid it lies."""
    below: float
    """ln of the last data size before the crossing."""
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Straight:
    """ln D* = a + b (ln N - m): the fitted line, with its covariance at the centroid m."""

    a: float
    b: float
    middle: float
    var_a: float
    var_b: float
    freedom: int
    scatter: float
    """Standard deviation of ln D* around the line."""

    @property
    def t(self) -> float:
        return float(stdtrit(self.freedom, 0.975)) if self.freedom > 0 else math.inf

    def gamma(self) -> tuple[float, float | None, float | None]:
        """Return γ = 1/b and its interval; an open end is None."""
        if self.freedom < 1:
            return 1 / self.b, None, None
        half = self.t * math.sqrt(self.var_b)
        low, high = self.b - half, self.b + half
        if high <= 0:
            return 1 / self.b, None, None
        return 1 / self.b, 1 / high, 1 / low if low > 0 else None

    def size(self, n_tokens: float) -> tuple[float, float | None, float | None]:
        """Return the N whose D* is `n_tokens`, with the interval of inverse prediction for the line."""
        d = math.log(n_tokens) - self.a
        best = self.middle + d / self.b
        if self.freedom < 1:
            return math.exp(best), None, None
        q = self.t**2
        lead, half, last = self.b**2 - q * self.var_b, -self.b * d, d * d - q * self.var_a
        root = half * half - lead * last
        if lead <= 0 or root < 0:
            return math.exp(best), None, None
        ends = sorted((-half + sign * math.sqrt(root)) / lead for sign in (-1, 1))
        return math.exp(best), math.exp(min(700.0, self.middle + ends[0])), math.exp(min(700.0, self.middle + ends[1]))


def crossings(table: RunTable, criterion: Criterion, threshold: float, rule: str = "interpolate") -> list[Crossing]:
    """Return each size's D*, smallest size first.

    rule `interpolate`: where the monotone curve crosses, linear in ln D. `first`: the first data size past the threshold,
    as in the paper; then `below` and `ln_d` bracket the crossing.
    """
    cells = _criterion_cells(table, criterion)
    sign = -1.0 if criterion.rising else 1.0
    level = sign * float(criterion.scale(np.array(threshold)))
    sizes = sorted(set(cells.inputs["n_params"]))
    members = [np.flatnonzero(cells.inputs["n_params"] == n) for n in sizes]
    curves = [sign * criterion.scale(cells.value[at]) for at in members]
    monotone = curves if rule == "first" else [_falling(curve) for curve in curves]
    places = [_place(curve, level) for curve in monotone]
    noise = _noise(cells, members, curves, places, criterion)
    found = []
    for n, at, curve, j in zip(sizes, members, monotone, places, strict=True):
        ln_d = np.log(cells.inputs["n_tokens"][at])
        total = float(cells.inputs["n_params_total"][at].mean()) if "n_params_total" in cells.inputs else float(n)
        if (j == 0 and rule == "interpolate") or j == len(at):
            side, end = ("before the grid", ln_d[0]) if j == 0 else ("beyond the grid", ln_d[-1])
            found.append(
                Crossing(float(n), total, float(end), 0.0, side, float(end), tuple(cells.runs[at[min(j, len(at) - 1)]]))
            )
            continue
        below = float(ln_d[max(j - 1, 0)])
        if rule == "first":
            # the cell of the experiment's grid, though this size may not have been run at its lower end
            below = float(
                np.log(
                    max(
                        (d for d in table.column("n_tokens") if d < math.exp(ln_d[j]) * 0.999),
                        default=math.exp(ln_d[j]),
                    )
                )
            )
            found.append(Crossing(float(n), total, float(ln_d[j]), 0.0, "no", below, tuple(cells.runs[at[j]])))
            continue
        drop, step = curve[j - 1] - curve[j], ln_d[j] - ln_d[j - 1]
        u = (curve[j - 1] - level) / drop
        weight = (1 - u) ** 2 / len(cells.seeds[at[j - 1]]) + u**2 / len(cells.seeds[at[j]])
        variance = min(noise * weight * (step / drop) ** 2, step**2)
        runs = (*cells.runs[at[j - 1]], *cells.runs[at[j]])
        found.append(Crossing(float(n), total, float(below + u * step), float(variance), "no", below, runs))
    return found


def _criterion_cells(table: RunTable, criterion: Criterion) -> Cells:
    value = criterion.value(table)
    judge = criterion.judge if criterion.judge in table else None
    return replace(table, columns={**table.columns, "criterion": value}).cells(
        "criterion", judge, criterion.largest and judge is not None
    )


def _falling(curve: np.ndarray) -> np.ndarray:
    """Return the isotonic (non-increasing) least-squares fit: min over starts of the max over ends of the block means."""
    n = len(curve)
    total = np.concatenate([[0.0], np.cumsum(curve)])
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    block = (total[j + 1] - total[i]) / np.maximum(j - i + 1, 1)
    block = np.where(j >= i, block, -np.inf)
    best = np.maximum.accumulate(block[:, ::-1], axis=1)[:, ::-1]
    return np.array([best[: k + 1, k].min() for k in range(n)])


def _place(curve: np.ndarray, level: float) -> int:
    """Return the first index below the level; the length if there is none."""
    under = np.flatnonzero(curve < level)
    return int(under[0]) if len(under) else len(curve)


def _noise(cells: Cells, members, curves, places, criterion: Criterion) -> float:
    """Return the variance of one run around its cell, pooled near the crossings: between seeds, or from the roughness."""
    between, freedom, rough = 0.0, 0, []
    for at, curve, j in zip(members, curves, places, strict=True):
        for k in range(max(0, j - 2), min(len(at), j + 2)):
            values = criterion.scale(cells.seeds[at[k]])
            between += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
            if 0 < k < len(at) - 1:
                x = np.log(cells.inputs["n_tokens"][at[k - 1 : k + 2]])
                u = (x[1] - x[0]) / (x[2] - x[0])
                rough.append((curve[k] - (1 - u) * curve[k - 1] - u * curve[k + 1]) ** 2 / (1 + u * u + (1 - u) ** 2))
    if freedom > 0:
        return between / freedom
    return float(np.mean(rough)) if rough else 0.0


def straight(ln_n: np.ndarray, ln_d: np.ndarray, variance: np.ndarray) -> Straight:
    """Return the random-effects line of ln D* on ln N; extra scatter by Paule & Mandel's moment equation."""
    k = len(ln_n)

    def weighted(extra: float):
        w = 1.0 / (variance + extra)
        middle = float(w @ ln_n / w.sum())
        x = ln_n - middle
        a, b = float(w @ ln_d / w.sum()), float(w @ (x * ln_d) / (w @ x**2))
        return w, middle, a, b, float(w @ (ln_d - a - b * x) ** 2)

    tiny = 1e-12 + 1e-6 * float(variance.max(initial=0.0))
    variance = variance + tiny
    extra = 0.0
    if k > 2 and weighted(0.0)[-1] > k - 2:
        top = 1.0
        while weighted(top)[-1] > k - 2:
            top *= 4
        extra = float(brentq(lambda e: weighted(e)[-1] - (k - 2), 0.0, top, xtol=1e-14))
    w, middle, a, b, rest = weighted(extra)
    q = rest / (k - 2) if k > 2 else math.nan
    x = ln_n - middle
    scatter = float(np.sqrt(np.sum((ln_d - a - b * x) ** 2) / (k - 2))) if k > 2 else math.nan
    return Straight(a, b, middle, q / float(w.sum()), q / float(w @ x**2), k - 2, scatter)


def frontier(
    table: RunTable,
    criterion: str = "share",
    threshold: float | None = None,
    convention: str = "n_params",
    rule: str = "interpolate",
    sensitivity: bool = True,
) -> Fit:
    """Return N = c D*^γ fitted to a table: `gamma` and `ln_c` with intervals, the crossings, and what they depend on."""
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA, TableError)
    if rule not in ("interpolate", "first"):
        raise unknown("rule", rule, ("interpolate", "first"), TableError)
    rules = CRITERIA[criterion]
    level = rules.threshold if threshold is None else threshold
    found = crossings(table, rules, level, rule)
    points = [
        Point(
            x=math.exp(c.ln_d), y=getattr(c, convention), n_params=c.n_params, runs=list(c.runs), censored=c.censored,
            x_low=math.exp(c.below if rule == "first" else c.ln_d - 1.96 * math.sqrt(c.variance)),
            x_high=math.exp(c.ln_d + 1.96 * math.sqrt(c.variance)),
        )
        for c in found
    ]  # fmt: skip
    used = [c for c in found if c.censored == "no"]
    curve = Curve(x=f"D*, unique tokens ({rules.title} crosses {level:g})", y="N, parameters", points=points)
    law = "frontier" if criterion == "share" else f"frontier:{criterion}"
    base = Fit(
        law=law, formula=FORMULA, source=SOURCE, target=rules.title, n=len(used), curve=curve,
        outcome=_too_few(table, found, rules, level),
    )  # fmt: skip
    ln_n = np.array([math.log(getattr(c, convention)) for c in used])
    if len(used) < 3 or len(set(ln_n)) < 3:
        return base.model_copy(update={"verdict": f"gamma: cannot tell. {base.outcome.sentence}"})
    ln_d, variance = np.array([c.ln_d for c in used]), np.array([c.variance for c in used])
    line = straight(ln_n, ln_d, variance)
    gamma = _first_rule(ln_n, used) if rule == "first" else _gamma(line, len(used))
    outcome = _outcome(line, gamma, found, used)
    fit = base.model_copy(
        update={
            "params": {"gamma": gamma, "ln_c": _ln_c(line, len(used))},
            "outcome": outcome,
            "noise": line.scatter,
            "objective": float(np.sum((ln_d - line.a - line.b * (ln_n - line.middle)) ** 2)),
            "curve": curve.model_copy(update=_drawing(line, gamma, ln_n, ln_d, points)),
            "verdict": verdict(gamma),
        }
    )
    if sensitivity:
        fit = fit.model_copy(update={"sensitivity": _variants(table, criterion, level, convention, rule)})
    fit._problem = line
    return fit


def verdict(gamma: Measured) -> str:
    """Return in words which of the exponents 1, 1.35, 2, 4 lie inside the interval."""
    if gamma.low is None and gamma.high is None:
        return f"gamma = {gamma.value:.2f} without an interval: cannot tell which exponent holds."
    low, high = gamma.low or 0.0, math.inf if gamma.high is None else gamma.high
    inside = [r for r in REFERENCES if low <= r <= high]
    outside = [r for r in REFERENCES if r not in inside]
    span = f"gamma = {gamma.value:.2f} [{low:.2f}, {'∞' if math.isinf(high) else f'{high:.2f}'}]"
    if len(inside) > 1:
        return f"{span}: cannot tell {inside[0]:g} from {_and(inside[1:])}{f'; excludes {_and(outside)}' if outside else ''}."
    if not inside:
        return f"{span}: none of {_and(outside)} lies inside."
    loose = (high - low) / 2 > UNDECIDED
    word = "undecided, the interval is wider than ±0.3; of the four only" if loose else "agrees with"
    return f"{span}: {word} {inside[0]:g} ({REFERENCES[inside[0]]}); excludes {_and(outside)}."


def _and(numbers: list[float]) -> str:
    words = [f"{n:g}" for n in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _gamma(line: Straight, k: int) -> Measured:
    value, low, high = line.gamma()
    return Measured(value=value, unit="1", n=k, low=low, high=high, interval=f"95 % t interval over {k} sizes")


def _first_rule(ln_n: np.ndarray, used: list[Crossing]) -> Measured:
    """Return the slope of ln N on ln D*, with the slopes possible when each D* lies anywhere in its grid cell."""

    def slope(ln_d):
        x = np.asarray(ln_d) - np.mean(ln_d)
        return float(x @ ln_n / (x @ x))

    boxes = [(c.below, c.ln_d) for c in used]
    middle = np.mean(boxes, axis=1)
    ends = [sign * minimize(lambda d, sign=sign: sign * slope(d), middle, bounds=boxes).fun for sign in (1, -1)]
    return Measured(
        value=slope([c.ln_d for c in used]), unit="1", n=len(used), low=min(ends), high=max(ends),
        interval="range that the grid step of D allows",
    )  # fmt: skip


def _ln_c(line: Straight, k: int) -> Measured:
    value, low, high = line.size(1.0)
    ends = [None if end is None or end <= 0 else math.log(end) for end in (low, high)]
    return Measured(
        value=math.log(value),
        unit="ln(parameters/token^gamma)",
        n=k,
        low=ends[0],
        high=ends[1],
        interval=f"95 % t interval over {k} sizes",
    )


def _drawing(line: Straight, gamma: Measured, ln_n: np.ndarray, ln_d: np.ndarray, points: list[Point]) -> dict:
    """Return the fitted line with its band, references through the centroid, and the points' residuals."""
    margin = 0.35 * max(np.ptp(ln_d), 0.5)
    x = np.exp(np.linspace(ln_d.min() - margin, ln_d.max() + margin, 41))
    sizes = [line.size(float(d)) for d in x]
    band = Line(
        label=f"N ∝ D^{gamma.value:.2f}", x=x.tolist(), y=[s[0] for s in sizes], low=[s[1] for s in sizes],
        high=[s[2] for s in sizes], slope=gamma.value,
    )  # fmt: skip
    low, high = gamma.low or 0.0, math.inf if gamma.high is None else gamma.high
    center = float(ln_d.mean()), float(ln_n.mean())
    references = [
        Line(
            label=f"slope {slope:g}: {who}", x=x.tolist(), slope=slope, inside=low <= slope <= high,
            y=np.exp(center[1] + slope * (np.log(x) - center[0])).tolist(),
        )
        for slope, who in REFERENCES.items()
    ]  # fmt: skip
    marked = [
        p
        if p.censored != "no"
        else p.model_copy(update={"residual": math.log(p.x) - line.a - line.b * (math.log(p.y) - line.middle)})
        for p in points
    ]
    return {"lines": [band], "references": references, "points": marked}


def _outcome(line: Straight, gamma: Measured, found: list[Crossing], used: list[Crossing]) -> Outcome:
    notes = _censored_note(found, line)
    if gamma.high is None or gamma.low is None:
        return Outcome(
            name="ill-conditioned",
            sentence=f"D* hardly moves with N over these {len(used)} sizes, so gamma has no upper end; add sizes further apart.{notes}",
        )
    return Outcome(
        name="converged", sentence=f"{len(used)} sizes, crossings scatter by {100 * line.scatter:.2g} % in D*.{notes}"
    )


def _censored_note(found: list[Crossing], line: Straight) -> str:
    """Say which sizes cross outside the grid, and whether the line agrees that they do."""
    notes = []
    for side in ("before the grid", "beyond the grid"):
        sizes = [c for c in found if c.censored == side]
        if not sizes:
            continue
        sign = 1 if side == "beyond the grid" else -1
        against = [
            c
            for c in sizes
            if sign * (line.a + line.b * (math.log(c.n_params) - line.middle) - c.ln_d) < -2 * line.scatter
        ]
        names = ", ".join(format_quantity(c.n_params) for c in sizes)
        agreement = "against" if against else "in agreement with"
        notes.append(f" N = {names} cross {side} (left out of the line, {agreement} it).")
    return "".join(notes)


def _too_few(table: RunTable, found: list[Crossing], criterion: Criterion, level: float) -> Outcome:
    used = [c for c in found if c.censored == "no"]
    sizes, data = sorted({c.n_params for c in found}), table.column("n_tokens")
    if len(sizes) < 3:
        top = format_quantity(4 * sizes[-1])
        sentence = f"the frontier needs three sizes or more, the table has {len(sizes)}; add sizes such as {format_quantity(sizes[0] / 4)} and {top}."
    else:
        beyond = [format_quantity(c.n_params) for c in found if c.censored == "beyond the grid"]
        before = [format_quantity(c.n_params) for c in found if c.censored == "before the grid"]
        add = []
        if beyond:
            add.append(f"data sizes above {format_quantity(float(data.max()))} for N = {', '.join(beyond)}")
        if before:
            add.append(f"data sizes below {format_quantity(float(data.min()))} for N = {', '.join(before)}")
        sentence = (
            f"{criterion.title} crosses {level:g} inside the grid for {len(used)} of {len(sizes)} sizes, and three are needed; "
            f"add {' and '.join(add) or 'more sizes'}."
        )
    return Outcome(name="too-few-points", sentence=sentence)


def _variants(table: RunTable, criterion: str, level: float, convention: str, rule: str) -> list[Variant]:
    """Return γ at other thresholds, by the other parameter convention, and with the scatter laid on N."""
    variants = [
        _variant(table, f"threshold {threshold:g}", criterion, threshold, convention, rule)
        for threshold in CRITERIA[criterion].sweep
        if threshold != level
    ]
    if "n_params_total" in table:
        other = "n_params" if convention == "n_params_total" else "n_params_total"
        variants.append(_variant(table, f"sizes counted as {other}", criterion, level, other, rule))
    if rule == "interpolate":
        used = [c for c in crossings(table, CRITERIA[criterion], level) if c.censored == "no"]
        ln_n, ln_d = np.array([math.log(getattr(c, convention)) for c in used]), np.array([c.ln_d for c in used])
        turned = straight(ln_d, ln_n, np.zeros(len(used)))
        half = turned.t * math.sqrt(turned.var_b)
        gamma = Measured(
            value=turned.b, unit="1", n=len(used), low=turned.b - half, high=turned.b + half,
            interval=f"95 % t interval over {len(used)} sizes",
        )  # fmt: skip
        variants.append(Variant(what="scatter laid on N instead of D*", gamma=gamma, sizes=len(used)))
    return variants


def _variant(table: RunTable, what: str, criterion: str, threshold: float, convention: str, rule: str) -> Variant:
    fit = frontier(table, criterion, threshold, convention, rule, sensitivity=False)
    return Variant(what=what, gamma=fit.params.get("gamma"), sizes=fit.n)

"""The frontier N = c D*^γ: is the size that D tokens call for linear in D, as capacity says, or D², as the paper says?

The line ln D* = a + ln N / γ is fitted to each size's crossing (`crossing.py`): D* is the measured side, with the
variance of its seeds and, from the scatter of the points, whatever the law leaves out (random-effects regression, t
interval of Hartung & Knapp 2001). The exponent under other thresholds and conventions stands beside.

>>> frontier(RunTable.read("runs/book")).params["gamma"].interval
'95 % t interval over 4 sizes'
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from memscape.errors import TableError, unknown
from memscape.laws.critical import LEVEL
from memscape.laws.crossing import CRITERIA, Criterion, Crossing, crossings
from memscape.laws.quantity import format_quantity
from memscape.laws.results import Curve, Fit, Line, Outcome, Point, Variant, measured
from memscape.laws.table import RunTable
from memscape.theory.measure import Measured

REFERENCES = {1.0: "capacity", 1.35: "Kaplan et al.", 2.0: "the paper, width frozen", 4.0: "the paper, width growing"}
"""Exponents that others predict."""

UNDECIDED = 0.3
"""Half-width of γ's interval above which no single exponent is claimed."""

FLAT = 1e-3
"""Slope of ln D* on ln N below which there is no exponent: γ would be over a thousand, or negative."""

FEWEST = 3
"""Sizes that must cross inside the grid."""


@dataclass(frozen=True)
class Straight:
    """ln D* = a + b (ln N - m): the fitted line, with variances at the centroid m."""

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
        """The 97.5 % quantile of the scatter's t distribution."""
        return float(stdtrit(self.freedom, LEVEL)) if self.freedom > 0 else math.inf

    def at(self, n_params: float) -> float:
        """Return ln D* of a size."""
        return self.a + self.b * (math.log(n_params) - self.middle)

    def gamma(self) -> tuple[float, float | None, float | None]:
        """Return γ = 1/b and its interval; an open end is None."""
        half = self.t * math.sqrt(self.var_b)
        low, high = self.b - half, self.b + half
        return 1 / self.b, 1 / high if 0 < high < math.inf else None, 1 / low if low > 0 else None

    def log_size(self, ln_d: float) -> tuple[float, float | None, float | None]:
        """Return ln N whose D* is given, with the interval of inverse prediction for the line (Fieller)."""
        d, q = ln_d - self.a, self.t**2
        lead, half, last = self.b**2 - q * self.var_b, -self.b * d, d * d - q * self.var_a
        root = half * half - lead * last
        if not lead > 0 or root < 0:
            return self.middle + d / self.b, None, None
        low, high = sorted((-half + sign * math.sqrt(root)) / lead for sign in (-1, 1))
        return self.middle + d / self.b, self.middle + low, self.middle + high

    def size(self, n_tokens: float) -> tuple[float, float | None, float | None]:
        """Return the N whose D* is `n_tokens`, with its interval; ends past float64 are None."""
        value, low, high = self.log_size(math.log(n_tokens))
        ends = [None if end is None or abs(end) > 700 else math.exp(end) for end in (low, high)]
        return math.exp(max(-700.0, min(700.0, value))), ends[0], ends[1]


def straight(ln_n: np.ndarray, ln_d: np.ndarray, variance: np.ndarray) -> Straight:
    """Return the random-effects line of ln D* on ln N; the scatter beyond `variance` by Paule & Mandel's equation."""
    k = len(ln_n)
    variance = variance + 1e-12 + 1e-6 * float(variance.max(initial=0.0))

    def weighted(extra: float):
        w = 1 / (variance + extra)
        middle = float(w @ ln_n / w.sum())
        x = ln_n - middle
        a, b = float(w @ ln_d / w.sum()), float(w @ (x * ln_d) / (w @ x**2))
        return w, x, middle, a, b, float(w @ (ln_d - a - b * x) ** 2)

    extra, top = 0.0, 1.0
    if k > 2 and weighted(0.0)[-1] > k - 2:
        while weighted(top)[-1] > k - 2:
            top *= 4
        extra = brentq(lambda e: weighted(e)[-1] - (k - 2), 0.0, top, xtol=1e-14)
    w, x, middle, a, b, rest = weighted(extra)  # pyright: ignore[reportArgumentType]
    q = rest / (k - 2) if k > 2 else math.inf
    scatter = math.sqrt(float(np.sum((ln_d - a - b * x) ** 2)) / (k - 2)) if k > 2 else math.inf
    return Straight(a, b, middle, q / float(w.sum()), q / float(w @ x**2), k - 2, scatter)


def frontier(
    table: RunTable, criterion: str = "share", threshold: float | None = None, convention: str = "n_params",
    sensitivity: bool = True,
) -> Fit:  # fmt: skip
    """Return N = c D*^γ fitted to a table: `gamma` and `ln_c` with intervals, the crossings, and what they depend on.

    `convention` is how sizes are counted: n_params, or n_params_total with embeddings.
    """
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA, TableError)
    rule = CRITERIA[criterion]
    level = rule.threshold if threshold is None else threshold
    found = crossings(table, rule, level)
    used = [c for c in found if c.censored == "no"]
    ln_n, ln_d = np.log([getattr(c, convention) for c in used]), np.array([c.ln_d for c in used])
    line = straight(ln_n, ln_d, np.array([c.variance for c in used])) if len(used) >= FEWEST else None
    curve = Curve(
        x=f"D*, unique tokens ({rule.title} crosses {level:g})", y="N, parameters",
        points=[_point(c, convention, line) for c in found],
    )  # fmt: skip
    base = {
        "law": "frontier" if criterion == "share" else f"frontier:{criterion}", "formula": "N = c D^γ",
        "source": "Niu et al. 2024, arXiv 2405.08707, Table 3, with intervals", "target": rule.title, "n": len(used),
    }  # fmt: skip
    if line is None or line.b < FLAT:
        told = _missing(found, rule, level) if line is None else _flat(len(used))
        outcome = Outcome(name="too-few-points" if line is None else "ill-conditioned", sentence=told)
        told = f"These runs cannot tell the {rule.size}: {told}"
        return Fit(**base, outcome=outcome, curve=curve, verdict=told)
    how = f"95 % t interval over {len(used)} sizes"
    gamma = measured(line.gamma(), "1", len(used), how)
    ln_c = measured(line.log_size(0.0), "ln(parameters/token^gamma)", len(used), how)
    fit = Fit(
        **base, params={"gamma": gamma, "ln_c": ln_c}, outcome=_outcome(line, gamma, found), noise=line.scatter,
        objective=line.scatter**2 * line.freedom, verdict=verdict(gamma, rule.size),
        curve=curve.model_copy(update=_lines(line, gamma, ln_n, ln_d)),
        sensitivity=_variants(table, rule, level, convention, ln_n, ln_d) if sensitivity else [],
    )  # fmt: skip
    fit._problem, fit._predict = line, lambda inputs: measured(line.size(inputs["n_tokens"]), "parameters", fit.n, how)
    return fit


def verdict(gamma: Measured, size: str = "size that memorises D tokens") -> str:
    """Return in words how size grows with data, and which of the exponents 1, 1.35, 2, 4 lie inside the interval."""
    low, high = gamma.low or 0.0, math.inf if gamma.high is None else gamma.high
    inside = [r for r in REFERENCES if low <= r <= high]
    outside = [r for r in REFERENCES if r not in inside]
    rest = f"; excludes {_and(outside)}" if outside else ""
    end = "∞" if math.isinf(high) else f"{high:.2f}"
    span = f"The {size} grows as D to the {gamma.value:.2f} [{low:.2f}, {end}]"
    if len(inside) > 1:
        return f"{span}: cannot tell {inside[0]:g} from {_and(inside[1:])}{rest}."
    if not inside:
        return f"{span}: none of {_and(outside)} lies inside."
    if (high - low) / 2 > UNDECIDED:
        return f"{span}: undecided, wider than ±{UNDECIDED}; of the four only {inside[0]:g} lies inside."
    return f"{span}: agrees with {inside[0]:g} ({REFERENCES[inside[0]]}){rest}."


def _and(numbers: list[float]) -> str:
    words = [f"{n:g}" for n in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _point(c: Crossing, convention: str, line: Straight | None) -> Point:
    """Return a crossing as a point, with a horizontal bar for 95 % of its seeds."""
    n, half = getattr(c, convention), 1.96 * math.sqrt(c.variance)
    return Point(
        x=c.d_star, y=n, n_params=c.n_params, runs=c.runs, censored=c.censored,
        x_low=math.exp(c.ln_d - half), x_high=math.exp(c.ln_d + half),
        residual=None if line is None or c.censored != "no" else c.ln_d - line.at(n),
    )  # fmt: skip


def _lines(line: Straight, gamma: Measured, ln_n: np.ndarray, ln_d: np.ndarray) -> dict[str, list[Line]]:
    """Return the fitted line with its band, and the references through the centroid."""
    margin = 0.35 * max(float(np.ptp(ln_d)), 0.5)
    x = np.linspace(ln_d.min() - margin, ln_d.max() + margin, 41)
    value, low, high = (list(end) for end in zip(*(line.size(math.exp(d)) for d in x), strict=True))
    tokens = np.exp(x).tolist()
    band = Line(label=f"N ∝ D^{gamma.value:.2f}", x=tokens, y=value, low=low, high=high, slope=gamma.value)
    bottom, top = gamma.low or 0.0, math.inf if gamma.high is None else gamma.high
    references = [
        Line(
            label=f"slope {slope:g}: {who}", x=tokens, slope=slope, inside=bottom <= slope <= top,
            y=np.exp(ln_n.mean() + slope * (x - ln_d.mean())).tolist(),
        )
        for slope, who in REFERENCES.items()
    ]  # fmt: skip
    return {"lines": [band], "references": references}


def _outcome(line: Straight, gamma: Measured, found: list[Crossing]) -> Outcome:
    """Return how well the line is known, and whether the sizes that cross outside the grid agree with it."""
    notes = ""
    for side, sign in (("before the grid", -1), ("beyond the grid", 1)):
        past = [c for c in found if c.censored == side]
        if past:
            against = any(sign * (line.at(c.n_params) - c.ln_d) < -2 * line.scatter for c in past)
            names = ", ".join(format_quantity(c.n_params) for c in past)
            told = "against what the line says" if against else "as the line says"
            notes += f" N = {names}: the crossing lies {side}, {told}, and is left out."
    n = line.freedom + 2
    if gamma.low is None or gamma.high is None:
        return Outcome(name="ill-conditioned", sentence=_flat(n) + notes)
    seeds = math.sqrt(sum(c.variance for c in found if c.censored == "no") / n)
    known = f", their seeds by {100 * seeds:.2g} %" if seeds else ""
    sentence = f"The D* of {n} sizes scatter by {100 * line.scatter:.2g} % around the line{known}.{notes}"
    return Outcome(name="converged", sentence=sentence)


def _flat(n: int) -> str:
    return f"D* does not clearly grow with N over {n} sizes, so gamma has no upper end; add sizes further apart."


def _missing(found: list[Crossing], rule: Criterion, level: float) -> str:
    """Return which runs to add before a line can be fitted."""
    if len(found) < FEWEST:
        ends = (format_quantity(found[0].n_params / 4), format_quantity(found[-1].n_params * 4)) if found else ("", "")
        return f"the frontier needs {FEWEST} sizes, the table has {len(found)}; add sizes such as {' and '.join(ends)}."
    add = []
    for side, where, end in (("beyond the grid", "above", max), ("before the grid", "below", min)):
        past = [c for c in found if c.censored == side]
        if past:
            data = format_quantity(end(c.d_star for c in past))
            add.append(f"data sizes {where} {data} for N = {', '.join(format_quantity(c.n_params) for c in past)}")
    used = sum(c.censored == "no" for c in found)
    return (
        f"{rule.title} crosses {level:g} inside the grid for {used} of {len(found)} sizes ({FEWEST} needed); "
        f"add {' and '.join(add)}."
    )


def _variants(
    table: RunTable, rule: Criterion, level: float, convention: str, ln_n: np.ndarray, ln_d: np.ndarray
) -> list[Variant]:
    """Return γ at other thresholds, by the other parameter convention, and with the scatter laid on N."""
    other = "n_params" if convention == "n_params_total" else "n_params_total"
    asked = [(f"threshold {t:g}", t, convention) for t in rule.sweep if t != level]
    if "n_params_total" in table:
        asked.append((f"sizes counted as {other}", level, other))
    found = []
    for what, threshold, counted in asked:
        fit = frontier(table, rule.name, threshold, counted, sensitivity=False)
        found.append(Variant(what=what, gamma=fit.params.get("gamma"), sizes=fit.n))
    n, turned = len(ln_n), straight(ln_d, ln_n, np.zeros(len(ln_n)))
    half = turned.t * math.sqrt(turned.var_b)
    gamma = measured((turned.b, turned.b - half, turned.b + half), "1", n, f"95 % t interval over {n} sizes")
    return [*found, Variant(what="scatter laid on N instead of D*", gamma=gamma, sizes=n)]

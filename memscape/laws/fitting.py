"""`fit`: which laws does a table of runs obey, with which constants, and how well are they known?

>>> fit("runs/book", law="frontier").params["gamma"].interval  # without law=, all of them, ranked
'95 % t interval over 4 sizes'
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np

from memscape.errors import TableError, unknown
from memscape.folder import write_json
from memscape.laws.checking import STILL
from memscape.laws.compare import rank
from memscape.laws.curves import draw, points
from memscape.laws.frontier import frontier
from memscape.laws.intervals import Problem, estimate, parameters, predictions, profile, resample
from memscape.laws.law import BITS, LAWS, Law
from memscape.laws.next_runs import next_runs
from memscape.laws.quantity import format_quantity
from memscape.laws.reading import how_to_map
from memscape.laws.results import Fit, Fits, Outcome, measured
from memscape.laws.table import FRONTIERS, Cells, RunTable
from memscape.theory.measure import Measured

ILL = 1e7
"""Condition number of the scaled normal matrix above which single parameters mean nothing."""

MISFIT = 15.0
"""Scatter around a law, per cent, above which it does not describe the runs."""

Names = Mapping[str, str] | None
Rows = Mapping[str, Any] | None


@overload
def fit(
    source: Any, law: None = None, *, columns: Names = None, units: str = "nats", where: Rows = None,
    delta: float | None = None, resamples: int = 500, out: str | Path | None = None,
) -> Fits: ...  # fmt: skip
@overload
def fit(
    source: Any, law: str, *, columns: Names = None, units: str = "nats", where: Rows = None,
    delta: float | None = None, threshold: float | None = None, resamples: int = 500,
) -> Fit: ...  # fmt: skip
def fit(
    source, law=None, *, columns=None, units="nats", where=None, delta=None, threshold=None, resamples=500, out=None
):
    """Return one law, or every law the table has columns for, fitted with intervals and outcome.

    `source` is a result folder, a CSV, Parquet, JSON or JSONL file, a DataFrame or rows; `columns` maps our names to
    its; `units` of its losses are nats or bits; `where` selects rows. `law` is one of `LAWS` or `frontier`,
    `frontier:gap`, `frontier:floor` (whose `threshold` may be given). `delta` is the Huber width on ln(loss): 1.345
    robust standard deviations if not given, 1e-3 for the published recipe. `out` is a folder for `fit.json` (all laws
    only). A table that cannot be read is a TableError; a law that cannot be fitted is a `Fit` whose outcome says which
    runs to add.
    """
    table = RunTable.read(source, columns, units, where)
    if law is not None:
        return fit_one(table, law, delta, threshold, resamples)
    names = [name for name in (*LAWS, *FRONTIERS) if table.carries(name)]
    if not names:
        have = ", ".join(sorted(table.columns))
        raise TableError(f"no law fits the columns of {table.source} ({have}); {how_to_map('fresh_loss')}.")
    laws = {name: fit_one(table, name, delta, None, resamples) for name in names}
    fits = Fits(
        table=table.describe(), laws=laws, ranking=rank(table, delta, laws), next_runs=next_runs(table, laws),
        sentence=_sentence(table, laws),
    )  # fmt: skip
    fits._table = table
    if out is not None:
        write_json(Path(out) / "fit.json", fits)
    return fits


def fit_one(
    table: RunTable, name: str, delta: float | None = None, threshold: float | None = None, resamples: int = 500
) -> Fit:
    """Return one law fitted to a checked table (see `fit`)."""
    if name in FRONTIERS:
        found = frontier(table, name.partition(":")[2] or "share", threshold)
        found._table = table
        return found
    if name not in LAWS:
        raise unknown("law", name, (*LAWS, *FRONTIERS), TableError)
    if threshold is not None:
        raise TableError(f"threshold belongs to {', '.join(FRONTIERS)}; {name} has none: leave it out.")
    law = LAWS[name]
    cells = law_cells(table, law)
    base = {"law": name, "formula": law.formula, "source": law.source, "target": law.target, "n": len(cells)}
    missing = _missing(law, cells)
    if missing:
        outcome = Outcome(name="too-few-points", sentence=missing)
        return Fit(**base, outcome=outcome, curve=points(law, cells), verdict=f"{name}: {missing}")
    problem = estimate(law, cells, delta)
    params, bootstrap = _params(problem, resamples)
    outcome = _outcome(problem, params)
    found = Fit(
        **base, params=params, bootstrap=bootstrap, outcome=outcome, objective=problem.objective, delta=problem.delta,
        noise=math.sqrt(problem.scale), condition=problem.condition, curve=draw(problem),
        verdict=_verdict(problem, params, outcome),
    )  # fmt: skip
    found._problem, found._table, found._predict = problem, table, partial(_predicted, problem)
    return found


def _predicted(problem: Problem, inputs: Mapping[str, float]) -> Measured:
    """Return the law at `inputs` with its profile interval."""
    law, n = problem.law, len(problem.y)
    x = np.log([[float(inputs[name])] for name in law.inputs])
    ends = np.exp(profile(problem, predictions(law, x), 1))[:, 0]
    return measured(_open(ends), "bits" if law.target == BITS else "nats/token", n, f"95 % profile over {n} cells")


def _open(ends: np.ndarray) -> list[float | None]:
    """Return (value, low, high) left from the logarithm; a low end of exp(-inf) is open."""
    return [ends[0], ends[1] or None, ends[2]]


def law_cells(table: RunTable, law: Law) -> Cells:
    """Return the cells a law is fitted to; a memory of zero bits has no logarithm and is left out."""
    if "n_params_total" in law.inputs and "n_params_total" not in table:
        table = replace(table, columns={**table.columns, "n_params_total": table.column("n_params")})
    cells = table.cells(law.target, largest=law.target == BITS)
    good = np.array([bool((values > 0).all()) for values in cells.seeds], bool)
    for name in law.inputs:
        table.column(name)
        good &= cells.inputs[name] > 0
    return cells.take(good)


def _params(problem: Problem, resamples: int) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Return every parameter with its profile and its bootstrap interval; prefactors leave the logarithm."""
    n, by_profile, by_bootstrap = len(problem.y), {}, {}
    ends = np.array(profile(problem, parameters(problem), len(problem.theta)))
    draws = np.quantile(resample(problem, resamples), [0.025, 0.975], axis=0)
    for k, p in enumerate(problem.law.parameters):
        found, drawn = ends[:, k], np.array([ends[0, k], *draws[:, k]])
        if p.name != p.shown:
            found, drawn = _open(np.exp(found)), np.exp(drawn)
        by_profile[p.shown] = measured(found, p.unit, n, f"95 % profile over {n} cells")
        by_bootstrap[p.shown] = measured(drawn, p.unit, n, f"95 % bootstrap over {n} cells, {resamples} resamples")
    return by_profile, by_bootstrap


def _missing(law: Law, cells: Cells) -> str:
    """Return which runs a law lacks, or nothing."""
    least = 2 if law.target == BITS else 3
    short = []
    for name in law.inputs:
        values = np.unique(cells.inputs[name])
        if len(values) < least:
            what = {"n_params": "sizes", "n_params_total": "sizes", "tokens_seen": "lengths of training"}
            ends = (values.min() / 4, values.max() * 4) if len(values) else ()
            such = f" (such as {' or '.join(map(format_quantity, ends))})" if ends else ""
            short.append(f"{least - len(values)} or more {what.get(name, 'data sizes')}{such}")
    enough = len(law.parameters) + 2
    if not short and len(cells) < enough:
        short.append(f"{enough - len(cells)} or more cells of other size and data")
    return f"{len(cells)} cells for {len(law.parameters)} parameters; add {' and '.join(short)}." if short else ""


def _outcome(problem: Problem, params: Mapping[str, Measured]) -> Outcome:
    bends = {p.shown for p in problem.law.parameters if p.shape}
    held = [
        f"{p.shown} at its {'lower' if value < (p.lower + p.upper) / 2 else 'upper'} end"
        for p, value in zip(problem.law.parameters, problem.theta, strict=True)
        if min(value - p.lower, p.upper - value) <= 1e-9 and p.shown not in bends
    ]
    loose = [name for name, m in params.items() if (m.low is None or m.high is None) and name not in bends]
    kappa, spread = f"condition number {problem.condition:.1e}", 100 * math.sqrt(problem.scale)
    if spread > MISFIT:
        told = f"the runs scatter by {spread:.0f} % around this law, which does not describe them."
        return Outcome(name="misfit", sentence=told)
    if held:
        told = f"the best fit has {' and '.join(held)}: the data do not show this term; widen the grid along it."
        return Outcome(name="boundary", sentence=told)
    if problem.condition > ILL:
        told = f"single parameters cannot be told apart ({kappa}), predictions inside the grid hold; widen the grid."
        return Outcome(name="ill-conditioned", sentence=told)
    if not problem.finished:
        told = f"the descent ran out of steps ({kappa}); look at the residuals, and for wrong units in the table."
        return Outcome(name="unfinished", sentence=told)
    if loose:
        told = f"the data leave {' and '.join(loose)} open on one side ({kappa}); add sizes or data sizes at both ends."
        return Outcome(name="ill-conditioned", sentence=told)
    told = f"{len(problem.y)} cells, {len(params)} parameters, residuals of {spread:.2g} %."
    return Outcome(name="converged", sentence=told)


def _verdict(problem: Problem, params: Mapping[str, Measured], outcome: Outcome) -> str:
    name = problem.law.name
    if name == "capacity":
        full = np.exp(problem.x[1]) > 2 * params["c"].value * np.exp(problem.x[0])
        sizes, shown = (len(set(problem.x[0][rows])) for rows in (slice(None), full))
        firm = f"{shown} of {sizes} sizes saw over twice that" if outcome.good else f"not firm: {outcome.sentence[:-1]}"
        return f"A parameter holds {_span(params['c'])} bits, embeddings counted ({firm})."
    if name == "capacity-power":
        g = params["g"]
        low, high = g.low or -math.inf, math.inf if g.high is None else g.high
        told = "linear lies inside" if low <= 1 <= high else "no one number of bits per parameter holds for all sizes"
        return f"Capacity grows as N to the {_span(g)}: {told}."
    if not outcome.good:
        return f"{name}: {outcome.sentence}"
    if name == "chinchilla":
        size, data = (2 ** (1 / params[p].value) for p in ("alpha", "beta"))
        return f"Halving the term of N takes {size:.3g} times the parameters, that of D {data:.3g} times the tokens."
    return ""


def _span(m: Measured) -> str:
    low, high = ("?" if end is None else f"{end:.2f}" for end in (m.low, m.high))
    return f"{m.value:.2f} [{low}, {high}]"


def _sentence(table: RunTable, laws: Mapping[str, Fit]) -> str:
    """Return the result in plain words: how size grows with data, what a parameter holds, what to hold against it."""
    main = [laws[name].verdict for name in ("frontier", "capacity") if name in laws and laws[name].outcome.good]
    first = next((laws[name].verdict for name in ("frontier", "capacity", "chinchilla") if name in laws), "")
    reasons = Counter(d["reason"] for d in table.dropped)
    left = [f"Left out: {'; '.join(f'{n} because {why}' for why, n in reasons.items())}."] if reasons else []
    late = [f"But {note}." for note in table.notes if note.startswith(STILL)]
    return " ".join([*(main or [first]), *late, *left])

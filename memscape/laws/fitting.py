"""`fit`: which laws does a table of runs obey, with which constants, and how well are they known?

>>> fit("runs/book", law="frontier").params["gamma"].interval  # one law
'95 % t interval over 4 sizes'
>>> fit("runs/book").ranking[0].about  # all of them, ranked
'loss'
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from memscape.errors import TableError, unknown
from memscape.folder import write_json
from memscape.laws.compare import rank
from memscape.laws.curves import draw, points
from memscape.laws.frontier import Straight, frontier
from memscape.laws.intervals import Problem, estimate, parameters, predictions, profile, resample
from memscape.laws.law import LAWS, Law
from memscape.laws.next_runs import next_runs
from memscape.laws.quantity import format_quantity
from memscape.laws.results import Fit, Fits, Outcome
from memscape.laws.table import FRONTIERS, Cells, RunTable
from memscape.theory.measure import Measured

ILL = 1e7
"""Condition number of the scaled normal matrix above which single parameters mean nothing."""

Names = Mapping[str, str] | None
Rows = Mapping[str, Any] | None
Folder = str | Path | None


@overload
def fit(
    source: Any, law: None = None, *, columns: Names = None, units: str = "nats", where: Rows = None,
    delta: float | None = None, threshold: None = None, resamples: int = 500, seed: int = 0, out: Folder = None,
) -> Fits: ...  # fmt: skip
@overload
def fit(
    source: Any, law: str, *, columns: Names = None, units: str = "nats", where: Rows = None,
    delta: float | None = None, threshold: float | None = None, resamples: int = 500, seed: int = 0, out: None = None,
) -> Fit: ...  # fmt: skip
def fit(
    source: Any,
    law: str | None = None,
    *,
    columns: Names = None,
    units: str = "nats",
    where: Rows = None,
    delta: float | None = None,
    threshold: float | None = None,
    resamples: int = 500,
    seed: int = 0,
    out: Folder = None,
) -> Fit | Fits:
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
        return fit_one(table, law, delta, threshold, resamples, seed)
    names = [name for name in (*LAWS, *FRONTIERS) if table.carries(name)]
    if not names:
        raise TableError(f"no law fits the columns of {table.source} ({', '.join(sorted(table.columns))}); map a loss.")
    laws = {name: fit_one(table, name, delta, None, resamples, seed) for name in names}
    fits = Fits(
        table=table.describe(),
        laws=laws,
        ranking=rank(table, delta, laws),
        next_runs=next_runs(table, laws),
        sentence=_sentence(table, laws),
    )
    fits._table = table
    if out is not None:
        write_json(Path(out) / "fit.json", fits)
    return fits


def fit_one(
    table: RunTable, name: str, delta: float | None = None, threshold: float | None = None,
    resamples: int = 500, seed: int = 0,
) -> Fit:  # fmt: skip
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
    params, bootstrap = _params(problem, resamples, seed)
    outcome = _outcome(problem, params)
    found = Fit(
        **base, params=params, bootstrap=bootstrap, outcome=outcome, objective=problem.objective, delta=problem.delta,
        noise=math.sqrt(problem.scale), condition=problem.condition, curve=draw(problem),
        verdict=_verdict(problem, params, outcome),
    )  # fmt: skip
    found._problem, found._table = problem, table
    return found


def predict(fit: Fit, inputs: Mapping[str, float]) -> Measured:
    """Return the fitted law at `inputs` with its 95 % interval (see `Fit.predict`)."""
    if fit.law in FRONTIERS:
        d = inputs["n_tokens"]
        if isinstance(fit._problem, Straight):
            return _measured(fit._problem.size(d), "parameters", fit.n, f"95 % t interval over {fit.n} sizes")
        size = math.exp(fit.params["ln_c"].value + fit.params["gamma"].value * math.log(d))
        return Measured(value=size, unit="parameters", n=fit.n)
    law = LAWS[fit.law]
    x = np.log([[float(inputs[name])] for name in law.inputs])
    unit = "bits" if law.target == "memorised_bits" else "nats/token"
    if isinstance(fit._problem, Problem):
        ends = np.array([end[0] for end in profile(fit._problem, predictions(law, x), 1)])
        return _measured(
            np.exp(np.where(np.isfinite(ends), ends, np.nan)), unit, fit.n, f"95 % profile over {fit.n} cells"
        )
    values = [(p, fit.params[p.shown].value) for p in law.parameters]
    theta = np.array([[value if p.name == p.shown else math.log(value) for p, value in values]])
    return Measured(value=float(np.exp(law.value(theta, x)[0][0, 0])), unit=unit, n=fit.n)


def _measured(ends, unit: str, n: int, interval: str) -> Measured:
    value, low, high = (None if e is None or not math.isfinite(e) else float(e) for e in ends)
    return Measured(value=math.nan if value is None else value, unit=unit, n=n, low=low, high=high, interval=interval)


def law_cells(table: RunTable, law: Law) -> Cells:
    """Return the cells a law is fitted to; a memory of zero bits has no logarithm and is left out."""
    if "n_params_total" in law.inputs and "n_params_total" not in table:
        table = replace(table, columns={**table.columns, "n_params_total": table.column("n_params")})
    cells = table.cells(law.target, largest=law.target == "memorised_bits")
    good = np.array([bool((values > 0).all()) for values in cells.seeds], bool)
    for name in law.inputs:
        table.column(name)
        good &= cells.inputs[name] > 0
    return cells.take(good)


def _params(problem: Problem, resamples: int, seed: int) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Return every parameter with its profile and its bootstrap interval; prefactors leave the logarithm."""
    n = len(problem.y)
    ends = np.array(profile(problem, parameters(problem), len(problem.theta)))
    draws = np.quantile(resample(problem, resamples, seed), [0.025, 0.975], axis=0)
    by_profile, by_bootstrap = {}, {}
    for k, p in enumerate(problem.law.parameters):
        out = np.asarray if p.name == p.shown else np.exp
        how = f"95 % profile over {n} cells"
        open_ends = np.where(np.isfinite(ends[:, k]), ends[:, k], np.nan)
        by_profile[p.shown] = _measured(out(open_ends), p.unit, n, how)
        how = f"95 % bootstrap over {n} cells, {resamples} resamples"
        by_bootstrap[p.shown] = _measured(out(np.array([ends[0, k], *draws[:, k]])), p.unit, n, how)
    return by_profile, by_bootstrap


def _missing(law: Law, cells: Cells) -> str:
    """Return which runs a law lacks, or nothing."""
    least = 2 if law.target == "memorised_bits" else 3
    short = []
    for name in law.inputs:
        values = np.unique(cells.inputs[name]) if len(cells) else np.array([])
        if len(values) < least:
            what = {"n_params": "sizes", "n_params_total": "sizes", "tokens_seen": "lengths of training"}
            such = (
                " or ".join(format_quantity(v) for v in (values.min() / 4, values.max() * 4)) if len(values) else "any"
            )
            short.append(f"{least - len(values)} or more {what.get(name, 'data sizes')} (such as {such})")
    enough = len(law.params) + 2
    if not short and len(cells) < enough:
        short.append(f"{enough - len(cells)} or more cells of other size and data")
    return f"{len(cells)} cells for {len(law.params)} parameters; add {' and '.join(short)}." if short else ""


def _outcome(problem: Problem, params: Mapping[str, Measured]) -> Outcome:
    law, theta = problem.law, problem.theta
    held = [
        f"{p.shown} at its {'lower' if value < (p.lower + p.upper) / 2 else 'upper'} end"
        for p, value in zip(law.parameters, theta, strict=True)
        if min(value - p.lower, p.upper - value) <= 1e-9
    ]
    loose = [name for name, m in params.items() if m.low is None or m.high is None]
    kappa = f"condition number {problem.condition:.1e}"
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
    spread = 100 * math.sqrt(problem.scale)
    told = f"{len(problem.y)} cells, {len(theta)} parameters, residuals of {spread:.2g} %."
    return Outcome(name="converged", sentence=told)


def _verdict(problem: Problem, params: Mapping[str, Measured], outcome: Outcome) -> str:
    name = problem.law.name
    if name == "capacity":
        full = np.exp(problem.x[1]) > 2 * params["c"].value * np.exp(problem.x[0])
        sizes, shown = (len(set(problem.x[0][rows])) for rows in (slice(None), full))
        told = f"The models hold {_span(params['c'])} bits per parameter, embeddings counted"
        return f"{told} (saturation shown at {shown} of {sizes} sizes)."
    if name == "capacity-power":
        g = params["g"]
        linear = g.low is not None and g.high is not None and g.low <= 1 <= g.high
        return f"Capacity grows as N to the {_span(g)}: {'linear lies inside' if linear else 'not shown to be linear'}."
    if not outcome.good:
        return f"{name}: {outcome.sentence}"
    if name == "chinchilla":
        size, data = (2 ** (1 / params[p].value) for p in ("alpha", "beta"))
        return (
            f"Halving the size term takes {size:.3g} times the parameters, the data term {data:.3g} times the tokens."
        )
    return ""


def _span(m: Measured) -> str:
    low, high = ("?" if end is None else f"{end:.2f}" for end in (m.low, m.high))
    return f"{m.value:.2f} [{low}, {high}]"


def _sentence(table: RunTable, laws: Mapping[str, Fit]) -> str:
    """Return the whole result in plain words: rows, frontier, capacity."""
    told = table.describe()
    words = [f"{told['rows']} runs, {len(told['sizes'])} sizes x {len(told['data_sizes'])} data sizes."]
    if table.dropped:
        words.append(f"Left out: {'; '.join(f'{n} because {why}' for why, n in told['dropped_reasons'].items())}.")
    words += [f"{note[0].upper()}{note[1:]}." for note in table.notes]
    main = [name for name in ("frontier", "capacity", "capacity-power") if name in laws] or ["chinchilla"]
    return " ".join(words + [laws[name].verdict for name in main if name in laws])


__all__ = ["fit", "fit_one", "law_cells", "predict"]

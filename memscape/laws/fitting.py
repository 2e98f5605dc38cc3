"""`fit`: which laws does a table of runs obey, with which constants, and how well are they known?

>>> fit("runs/book", law="frontier").params["gamma"].interval      # one law
'95 % t interval over 6 sizes'
>>> print(fit("runs/book"))                                         # all of them, ranked
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from memscape.errors import TableError, unknown
from memscape.folder import write_json
from memscape.laws.compare import rank
from memscape.laws.frontier import Straight, frontier
from memscape.laws.intervals import Problem, estimate, parameters, predictions, profile, resample
from memscape.laws.law import LAWS, Law
from memscape.laws.next_runs import next_runs
from memscape.laws.quantity import format_quantity
from memscape.laws.results import Curve, Fit, Fits, Line, Outcome, Point
from memscape.laws.table import FRONTIERS, Cells, RunTable
from memscape.theory.measure import Measured

ILL = 1e7
"""Condition number of the scaled normal matrix above which single parameters mean nothing."""


@overload
def fit(source: Any, law: None = None, **how: Any) -> Fits: ...
@overload
def fit(source: Any, law: str, **how: Any) -> Fit: ...
def fit(
    source: Any,
    law: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    units: Literal["nats", "bits"] = "nats",
    where: Mapping[str, Any] | None = None,
    delta: float | None = None,
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
) -> Fit | Fits:
    """Return one law, or every law the table has columns for, fitted with intervals and outcome.

    `source` is a result folder, a CSV, Parquet, JSON or JSONL file, a DataFrame or rows; `columns` maps our names to its;
    `units` of its losses; `where` selects rows. `law` is one of `LAWS` or `frontier`, `frontier:gap`, `frontier:floor`
    (whose `threshold` may be given). `delta` is the Huber width on ln(loss): by default 1.345 robust standard deviations,
    1e-3 for the published recipe. `out` is a folder for `fit.json`. A table that cannot be read is a `TableError`; a law
    that cannot be fitted is a `Fit` whose outcome says which runs to add.
    """
    table = RunTable.read(source, columns, units, where)
    if law is not None:
        one = fit_one(table, law, delta, threshold, resamples, seed)
        one._table = table
        return one
    laws = {}
    for name in (*LAWS, *FRONTIERS):
        if table.carries(name):
            laws[name] = fit_one(table, name, delta, None, resamples, seed)
    if not laws:
        raise TableError(
            f"no law fits the columns of {table.source} ({', '.join(sorted(table.columns))}); map a loss column."
        )
    fits = Fits(
        table=table.describe(),
        laws=laws,
        ranking=rank(table, delta),
        next_runs=next_runs(table, laws),
        sentence=_sentence(table, laws),
    )
    fits._table = table
    if out is not None:
        write_json(Path(out) / "fit.json", fits)
    return fits


def predict(fit: Fit, inputs: Mapping[str, float]) -> Measured:
    """Return the fitted law at `inputs` with its 95 % interval (see `Fit.predict`)."""
    if fit.law.startswith("frontier"):
        line = fit._problem
        if not isinstance(line, Straight):
            gamma, ln_c = (fit.params[name].value for name in ("gamma", "ln_c"))
            return Measured(value=math.exp(ln_c + gamma * math.log(inputs["n_tokens"])), unit="parameters", n=fit.n)
        value, low, high = line.size(inputs["n_tokens"])
        return Measured(
            value=value, unit="parameters", n=fit.n, low=low, high=high, interval=f"95 % t interval over {fit.n} sizes"
        )
    law = LAWS[fit.law]
    x = np.log([[float(inputs[name])] for name in law.inputs])
    unit = "bits" if law.target == "memorised_bits" else "nats/token"
    if not isinstance(fit._problem, Problem):
        theta = np.array(
            [[fit.params[p].value if p in fit.params else math.log(fit.params[p[3:]].value) for p in law.params]]
        )
        return Measured(value=float(np.exp(law.value(theta, x)[0][0, 0])), unit=unit, n=fit.n)
    return _measured(np.exp(np.concatenate(profile(fit._problem, predictions(law, x), 1))), unit, fit.n, "95 % profile")


def _measured(ends: np.ndarray, unit: str, n: int, interval: str) -> Measured:
    value, low, high = (float(e) for e in ends)
    return Measured(
        value=value, unit=unit, n=n, low=low if math.isfinite(low) else None, high=high if math.isfinite(high) else None,
        interval=interval,
    )  # fmt: skip


def fit_one(
    table: RunTable,
    name: str,
    delta: float | None = None,
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Fit:
    """Return one law fitted to a checked table (see `fit`)."""
    if name in FRONTIERS:
        return frontier(table, name.partition(":")[2] or "share", threshold)
    if name not in LAWS:
        raise unknown("law", name, (*LAWS, *FRONTIERS), TableError)
    if threshold is not None:
        raise TableError(f"threshold belongs to {', '.join(FRONTIERS)}; {name} has none: leave it out.")
    law = LAWS[name]
    cells = law_cells(table, law)
    base = Fit(
        law=name, formula=law.formula, source=law.source, target=law.target, n=len(cells), outcome=_too_few(law, cells),
        curve=_points(law, cells, None),
    )  # fmt: skip
    if base.outcome.name == "too-few-points" and base.outcome.sentence:
        return base.model_copy(update={"verdict": f"{name}: {base.outcome.sentence}"})
    problem = estimate(law, cells, delta)
    params, bootstrap = _params(problem, resamples, seed)
    result = base.model_copy(
        update={
            "params": params,
            "bootstrap": bootstrap,
            "outcome": _outcome(problem, params),
            "objective": problem.objective,
            "delta": problem.delta,
            "noise": math.sqrt(problem.scale),
            "condition": problem.condition,
            "curve": _draw(problem),
            "verdict": _verdict(name, params),
        }
    )
    result._problem = problem
    return result


def law_cells(table: RunTable, law: Law) -> Cells:
    """Return the cells a law is fitted to; memorised bits of zero have no logarithm and are left out."""
    if "n_params_total" in law.inputs and "n_params_total" not in table:
        table = replace(table, columns={**table.columns, "n_params_total": table.column("n_params")})
    for name in law.inputs:
        table.column(name)
    bits = law.target == "memorised_bits"
    cells = table.cells(law.target, largest=bits)
    good = np.array([bool((values > 0).all()) for values in cells.seeds])
    for name in law.inputs:
        good &= cells.inputs[name] > 0
    return cells.take(good)


def _shown(param: str) -> str:
    return param.removeprefix("ln_")


def _params(problem: Problem, resamples: int, seed: int) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Return every parameter with its profile and its bootstrap interval; prefactors leave the logarithm."""
    law, n = problem.law, len(problem.y)
    ends = np.array(profile(problem, parameters(problem), len(law.params)))
    draws = np.quantile(resample(problem, resamples, seed), [0.025, 0.975], axis=0)
    by_profile, by_bootstrap = {}, {}
    for k, param in enumerate(law.params):
        out = np.exp if param.startswith("ln_") else np.asarray
        unit = law.units.get(_shown(param), "1")
        by_profile[_shown(param)] = _measured(out(ends[:, k]), unit, n, f"95 % profile over {n} cells")
        boot = out(np.array([ends[0, k], *draws[:, k]]))
        by_bootstrap[_shown(param)] = _measured(boot, unit, n, f"95 % bootstrap over {n} cells, {resamples} resamples")
    return by_profile, by_bootstrap


def _too_few(law: Law, cells: Cells) -> Outcome:
    """Return the outcome `too-few-points` with what to add, or an empty sentence if the points suffice."""
    short = []
    names = {
        "n_params": "sizes",
        "n_params_total": "sizes",
        "n_tokens": "data sizes",
        "data_bits": "data sizes",
        "tokens_seen": "amounts of training",
    }
    least = 2 if law.target == "memorised_bits" else 3
    for name in law.inputs:
        values = np.unique(cells.inputs[name]) if len(cells) else np.array([])
        if len(values) < least:
            ends = [values.min() / 4, values.max() * 4] if len(values) else []
            short.append(
                f"{least - len(values)} or more further {names[name]} (such as {' or '.join(format_quantity(v) for v in ends)})"
            )
    if not short and len(cells) < len(law.params) + 2:
        short.append(f"{len(law.params) + 2 - len(cells)} or more cells of other size and data")
    sentence = f"{len(cells)} cells for {len(law.params)} parameters; add {' and '.join(short)}." if short else ""
    return Outcome(name="too-few-points", sentence=sentence)


def _outcome(problem: Problem, params: Mapping[str, Measured]) -> Outcome:
    law, n = problem.law, len(problem.y)
    at = [
        (_shown(p), end)
        for p, value, low, high in zip(law.params, problem.theta, law.lower, law.upper, strict=True)
        for end, gap in (("lower", value - low), ("upper", high - value))
        if gap <= 1e-9
    ]
    if not problem.finished:
        return Outcome(
            name="unfinished",
            sentence="the descent ran out of steps; the table may be in wrong units, look at the residuals.",
        )
    if at:
        which = " and ".join(f"{name} at its {end} end" for name, end in at)
        return Outcome(
            name="boundary",
            sentence=f"the best fit has {which}: the data do not show this term; widen the grid along it.",
        )
    if problem.condition > ILL:
        sentence = f"the parameters cannot be told apart (condition number {problem.condition:.1e}); predictions inside the grid still hold, single parameters do not; widen the grid."
        return Outcome(name="ill-conditioned", sentence=sentence)
    loose = [name for name, m in params.items() if m.low is None or m.high is None]
    if loose:
        sentence = f"the data leave {' and '.join(loose)} open on one side (condition number {problem.condition:.1e}); add sizes or data sizes at both ends."
        return Outcome(name="ill-conditioned", sentence=sentence)
    return Outcome(
        name="converged",
        sentence=f"{n} cells, {len(law.params)} parameters, residuals {100 * math.sqrt(problem.scale):.2g} %.",
    )


def _verdict(name: str, params: Mapping[str, Measured]) -> str:
    if name == "capacity":
        c = params["c"]
        return f"The models hold {c.value:.2f}{_span(c)} bits per parameter, embeddings counted."
    if name == "capacity-power":
        g = params["g"]
        linear = g.low is not None and g.high is not None and g.low <= 1 <= g.high
        return f"Capacity grows as N^{g.value:.2f}{_span(g)}: {'linear lies inside' if linear else 'not linear'}."
    if name in ("chinchilla", "broken"):
        return f"Halving what size costs takes {2 ** (1 / max(params['alpha'].value, 1e-3)):.3g} times the parameters; what data costs, {2 ** (1 / max(params['beta'].value, 1e-3)):.3g} times the tokens."
    return ""


def _span(m: Measured) -> str:
    low = "?" if m.low is None else f"{m.low:.2f}"
    return f" [{low}, {'?' if m.high is None else f'{m.high:.2f}'}]"


def _points(law: Law, cells: Cells, residual: np.ndarray | None) -> Curve:
    """Return the measured points over data size (or data bits), with the range of their seeds."""
    bits = law.target == "memorised_bits"
    x, size = cells.inputs[law.inputs[1]], cells.inputs[law.inputs[0]]
    points = [
        Point(
            x=float(x[i]), y=float(cells.value[i]), n_params=float(size[i]), runs=cells.runs[i],
            y_low=float(cells.seeds[i].min()), y_high=float(cells.seeds[i].max()),
            residual=None if residual is None else float(residual[i]),
        )
        for i in range(len(cells))
    ]  # fmt: skip
    return Curve(
        x="data, bits" if bits else "D, unique tokens",
        y="memorised, bits" if bits else "held-out loss, nats/token",
        points=points,
    )


def _draw(problem: Problem) -> Curve:
    """Return the points with residuals, one fitted line with its 95 % band for up to eight sizes, and capacity's plateaus."""
    law, cells = problem.law, problem.cells
    sizes = np.unique(problem.x[0])
    if len(sizes) > 8:
        sizes = np.quantile(sizes, np.linspace(0, 1, 8))
    along = np.linspace(problem.x[1].min() - 0.7, problem.x[1].max() + 0.7, 25)
    x = np.stack([np.repeat(sizes, len(along)), np.tile(along, len(sizes))])
    if len(law.inputs) == 3:
        x = np.concatenate([x, x[1:] + float(np.median(problem.x[2] - problem.x[1]))])
    value, low, high = np.exp(np.array(profile(problem, predictions(law, x), x.shape[1]))).reshape(3, len(sizes), -1)
    ends = [[[v if math.isfinite(v) else None for v in row] for row in end.tolist()] for end in (low, high)]
    lines = [
        Line(
            label=f"N = {format_quantity(math.exp(s))}", n_params=math.exp(s), x=np.exp(along).tolist(), y=value[i].tolist(),
            low=ends[0][i], high=ends[1][i],
        )
        for i, s in enumerate(sizes)
    ]  # fmt: skip
    references = []
    if law.name == "capacity":
        c = math.exp(problem.theta[0])
        references = [
            Line(
                label=f"plateau of {format_quantity(math.exp(s))}", n_params=math.exp(s), x=[lines[0].x[0], lines[0].x[-1]],
                y=[c * math.exp(s)] * 2,
            )
            for s in sizes
        ]  # fmt: skip
    return _points(law, cells, problem.residual).model_copy(update={"lines": lines, "references": references})


def _sentence(table: RunTable, laws: Mapping[str, Fit]) -> str:
    """Return the whole result in plain words: rows, frontier, capacity."""
    told = table.describe()
    words = [f"{told['rows']} runs, {len(told['sizes'])} sizes x {len(told['data_sizes'])} data sizes."]
    if table.dropped:
        reasons = "; ".join(f"{count} because {why}" for why, count in told["dropped_reasons"].items())
        words.append(f"Left out: {reasons}.")
    words += [note[0].upper() + note[1:] + "." for note in table.notes]
    for name in ("frontier", "capacity", "capacity-power"):
        if name in laws:
            words.append(laws[name].verdict)
    if "chinchilla" in laws and len(words) == 1:
        words.append(laws["chinchilla"].verdict)
    return " ".join(words)


__all__ = ["FRONTIERS", "fit", "fit_one", "law_cells", "predict"]

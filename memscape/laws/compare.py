"""Which law should be trusted beyond the grid? Each is fitted without the largest size, then without the largest data
size, and judged by what it says about them. AIC and BIC, which only judge inside the grid, stand beside.

>>> [r.law for r in rank(RunTable.read("runs/book")) if r.about == "frontier"][0]
'...N = c D^...'
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from memscape.laws.crossing import CRITERIA, crossings
from memscape.laws.frontier import straight
from memscape.laws.intervals import Problem, estimate
from memscape.laws.law import LAWS, LOSS, Law
from memscape.laws.results import Fit, Rank
from memscape.laws.solver import huber
from memscape.laws.table import Cells, RunTable
from memscape.theory.balance import dimension, log_patterns

BASELINE = "no law (nearest run)"
"""No law at all: a held-out cell is expected to equal its nearest neighbour."""

FEWER_STARTS = 24
"""Descents for a hold-out fit."""


def rank(table: RunTable, delta: float | None = None, known: Mapping[str, Fit] | None = None) -> list[Rank]:
    """Return the laws of held-out loss, then those of the frontier, each group by its held-out error, best first.

    `known` are the laws already fitted to the whole table; of them AIC and BIC are known.
    """
    found: list[Rank] = []
    if LOSS in table:
        cells = table.cells(LOSS)
        laws = [law for law in LAWS.values() if law.target == LOSS and table.carries(law.name)]
        problems = {name: fit._problem for name, fit in (known or {}).items() if isinstance(fit._problem, Problem)}
        width = min((problems[law.name].delta for law in laws if law.name in problems), default=0.0)
        for law in laws:
            own = criteria(problems[law.name], width) if law.name in problems else (None, None)
            found += _loss_ranks(law, cells, delta, *own)
        note = "no law: the yardstick that a law must beat"
        found.append(_judged(cells, BASELINE, lambda keep: _nearest(cells, keep), note=note))
    if "memorised_share" in table:
        found += _frontier_ranks(table)
    judged = [r for r in found if r.heldout_error is not None]
    judged.sort(key=lambda r: (r.about == "frontier", r.heldout_error))
    return judged + [r for r in found if r.heldout_error is None]


def _judged(cells: Cells, law: str, predict: Callable[[np.ndarray], np.ndarray | None], **more) -> Rank:
    """Return a law's error on both hold-outs; `predict` maps the kept cells to ln(loss) of the others, or None."""
    y, errors, count = cells.log, [], 0
    for name in ("n_params", "n_tokens"):
        keep = cells.inputs[name] < cells.inputs[name].max()
        said = predict(keep) if keep.any() else None
        errors.append(None if said is None else float(np.sqrt(np.mean((y[~keep] - said) ** 2))))
        count += int((~keep).sum())
    both = None if None in errors else math.sqrt((errors[0] ** 2 + errors[1] ** 2) / 2)
    return Rank(
        law=law, about="loss", heldout_error=both, largest_size_error=errors[0], largest_data_error=errors[1],
        n_heldout=count, **{"n_params": 0, **more},
    )  # fmt: skip


def _loss_ranks(law: Law, cells: Cells, delta: float | None, aic: float | None, bic: float | None) -> list[Rank]:
    """Return a law as fitted here, and as published."""
    x, enough = cells.logs(law.inputs), len(law.parameters) + 2

    def fitted(keep: np.ndarray) -> np.ndarray | None:
        if keep.sum() < enough:
            return None
        problem = estimate(law, cells.take(keep), delta, kept=FEWER_STARTS)
        return law.value(problem.theta[None], x[:, ~keep])[0][0]

    ranks = [_judged(cells, law.name, fitted, aic=aic, bic=bic, n_params=len(law.parameters))]
    for variant in law.published:
        said = law.value(law.constants(variant), x)[0][0]
        name, note = f"{law.name}, {variant}'s constants", "as published: other data, other tokenizer"
        ranks.append(_judged(cells, name, lambda keep, said=said: said[~keep], note=note))
    return ranks


def criteria(problem: Problem, delta: float) -> tuple[float, float]:
    """Return AIC and BIC, n ln(2F/n) + 2k and n ln(2F/n) + k ln n, of the Huber sum F at one width for all laws."""
    n, k = len(problem.y), len(problem.theta) + 1
    deviance = n * math.log(max(2 * float(huber(problem.residual, delta).sum()) / n, 1e-30))
    return deviance + 2 * k, deviance + k * math.log(n)


def _nearest(cells: Cells, keep: np.ndarray) -> np.ndarray:
    at = cells.logs(("n_params", "n_tokens"))
    away = ((at[:, ~keep][:, :, None] - at[:, keep][:, None, :]) ** 2).sum(0)
    return cells.log[keep][away.argmin(1)]


def _frontier_ranks(table: RunTable) -> list[Rank]:
    """Return the laws of N and D*, each prefactor fitted to the rest, by their error on the largest size's D*."""
    rule = CRITERIA["share"]
    found = [c for c in crossings(table, rule, rule.threshold) if c.censored == "no"]
    if len(found) < 3:
        return []
    ln_n, ln_d = np.array([math.log(c.n_params) for c in found]), np.array([c.ln_d for c in found])
    said: dict[str, tuple[float, int]] = {}
    if len(found) > 3:
        line = straight(ln_n[:-1], ln_d[:-1], np.array([c.variance for c in found[:-1]]))
        said["N = c D^γ, γ fitted"] = line.at(found[-1].n_params), 2
    exponents = {"capacity": 1.0, "Kaplan separate": 0.095 / 0.076, "Kaplan joint": 0.103 / 0.076}
    for name, gamma in {**exponents, "paper, width frozen": 2.0, "paper, width growing": 4.0}.items():
        ln_d_star = float(np.mean(ln_d[:-1] - (ln_n[:-1] - ln_n[-1]) / gamma))
        said[f"{name}, N = c D^{gamma:.3g}"] = ln_d_star, 1
    if "seq_len" in table:
        ln_t = math.log(float(np.median(table.column("seq_len"))))
        for reading in ("exact squared", "exact unsquared"):
            of_d = [math.log(dimension(math.exp(d - ln_t), reading)) for d in ln_d[:-1]]
            n = math.exp(min(20.0, float(np.mean(of_d - ln_n[:-1])) + ln_n[-1]))
            said[f"paper, {reading}, N = c n(D)"] = log_patterns(n, reading) + ln_t, 1
    return [
        Rank(
            law=name, about="frontier", heldout_error=abs(float(ln_d[-1] - value)), n_heldout=1, n_params=free,
            largest_size_error=abs(float(ln_d[-1] - value)), note="error of ln D* at the largest size that crosses",
        )
        for name, (value, free) in said.items()
    ]  # fmt: skip

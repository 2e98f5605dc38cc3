"""Which law should be trusted beyond the grid? Each is fitted without the largest sizes, then without the largest data
sizes, and judged by what it says about them. AIC and BIC, which only judge inside the grid, stand beside.

>>> rank(RunTable.read("runs/book"))[0].law
'chinchilla'
"""

import math
from collections.abc import Callable

import numpy as np

from memscape.laws.frontier import CRITERIA, crossings, straight
from memscape.laws.intervals import Problem, estimate
from memscape.laws.law import LAWS, Law
from memscape.laws.results import Rank
from memscape.laws.table import Cells, RunTable
from memscape.theory.balance import dimension, log_patterns

BASELINE = "nearest run"
"""No law at all: the held-out cell is expected to equal its nearest smaller neighbour."""


def rank(table: RunTable, delta: float | None = None) -> list[Rank]:
    """Return the laws of loss and of the frontier, each group by its held-out error, best first."""
    found: list[Rank] = []
    if "heldout_loss" in table:
        cells = table.cells("heldout_loss")
        losses = [
            law for law in LAWS.values() if law.target == "heldout_loss" and set(law.inputs) <= set(table.columns)
        ]
        for law in losses:
            found.append(_fitted(law, cells, delta))
            found += [_as_published(law, variant, cells) for variant in law.published]
        found.append(_baseline(cells))
    if "memorised_share" in table:
        found += _frontiers(table)
    order = {"loss": 0, "frontier": 1}
    return sorted(found, key=lambda r: (order[r.about], r.heldout_error is None, r.heldout_error or 0.0))


def _holdouts(cells: Cells) -> list[np.ndarray]:
    """Return for the two hold-outs which cells are kept: all but the largest size, all but the largest data size."""
    return [cells.inputs[name] < cells.inputs[name].max() for name in ("n_params", "n_tokens")]


def _log_mean(cells: Cells) -> np.ndarray:
    return np.array([np.log(values).mean() for values in cells.seeds])


def _errors(cells: Cells, predict: Callable[[np.ndarray], np.ndarray | None]) -> tuple[list[float | None], int]:
    """Return the error on each hold-out, and how many cells were held out."""
    y, errors, count = _log_mean(cells), [], 0
    for keep in _holdouts(cells):
        said = predict(keep) if keep.any() else None
        errors.append(None if said is None else float(np.sqrt(np.mean((y[~keep] - said) ** 2))))
        count += int((~keep).sum())
    return errors, count


def _together(errors: list[float | None]) -> float | None:
    known = [e for e in errors if e is not None]
    return math.sqrt(sum(e * e for e in known) / len(known)) if len(known) == len(errors) else None


def _inputs(law: Law, cells: Cells) -> np.ndarray:
    return np.log(np.stack([cells.inputs[name] for name in law.inputs]))


def _fitted(law: Law, cells: Cells, delta: float | None) -> Rank:
    x = _inputs(law, cells)

    def predict(keep):
        if keep.sum() < len(law.params) + 2:
            return None
        return law.value(estimate(law, cells.take(keep), delta, kept=24).theta[None], x[:, ~keep])[0][0]

    errors, count = _errors(cells, predict)
    aic, bic = criteria(estimate(law, cells, delta, kept=24)) if len(cells) >= len(law.params) + 2 else (None, None)
    return Rank(
        law=law.name, about="loss", heldout_error=_together(errors), largest_size_error=errors[0], largest_data_error=errors[1],
        n_heldout=count, aic=aic, bic=bic, n_params=len(law.params),
        note="" if aic is not None else "too few cells to fit",
    )  # fmt: skip


def criteria(problem: Problem) -> tuple[float, float]:
    """Return AIC and BIC with the Huber sum in place of the sum of squares: n ln(2F/n) + 2k, n ln(2F/n) + k ln n."""
    n, k = len(problem.y), len(problem.theta) + 1
    deviance = n * math.log(max(2 * problem.objective / n, 1e-30))
    return deviance + 2 * k, deviance + k * math.log(n)


def _as_published(law: Law, variant: str, cells: Cells) -> Rank:
    said = law.value(law.constants(variant), _inputs(law, cells))[0][0]
    errors, count = _errors(cells, lambda keep: said[~keep])
    return Rank(
        law=f"{law.name}, {variant}'s constants", about="loss", heldout_error=_together(errors), largest_size_error=errors[0],
        largest_data_error=errors[1], n_heldout=count, n_params=0, note="as published: other data, other tokenizer",
    )  # fmt: skip


def _baseline(cells: Cells) -> Rank:
    y = _log_mean(cells)
    n, d = np.log(cells.inputs["n_params"]), np.log(cells.inputs["n_tokens"])

    def predict(keep):
        away = (n[~keep][:, None] - n[keep]) ** 2 + (d[~keep][:, None] - d[keep]) ** 2
        return y[keep][away.argmin(1)]

    errors, count = _errors(cells, predict)
    return Rank(
        law=BASELINE, about="loss", heldout_error=_together(errors), largest_size_error=errors[0], largest_data_error=errors[1],
        n_heldout=count, n_params=0, note="no law: the yardstick that a law must beat",
    )  # fmt: skip


def _frontiers(table: RunTable) -> list[Rank]:
    """Return the laws of N and D* by their error on ln D* of the largest size."""
    found = [c for c in crossings(table, CRITERIA["share"], CRITERIA["share"].threshold) if c.censored == "no"]
    if len(found) < 3:
        return []
    ln_n, ln_d = np.array([np.log(c.n_params) for c in found]), np.array([c.ln_d for c in found])
    variance = np.array([c.variance for c in found])
    ranks = []
    if len(found) > 3:
        line = straight(ln_n[:-1], ln_d[:-1], variance[:-1])
        ranks.append(_frontier_rank("N = c D^γ, γ fitted", ln_d[-1] - line.a - line.b * (ln_n[-1] - line.middle), 2))
    fixed = {
        "capacity": 1.0,
        "Kaplan separate": 0.095 / 0.076,
        "Kaplan joint": 0.103 / 0.076,
        "paper, frozen": 2.0,
        "paper, width": 4.0,
    }
    for name, gamma in fixed.items():
        ln_c = float(np.mean(ln_n[:-1] - gamma * ln_d[:-1]))
        ranks.append(_frontier_rank(f"{name}, N = c D^{gamma:.3g}", ln_d[-1] - (ln_n[-1] - ln_c) / gamma, 1))
    if "seq_len" in table:
        ln_t = float(np.log(np.median(table.column("seq_len"))))
        for reading in ("exact squared", "exact unsquared"):
            ln_dim = np.array([math.log(dimension(math.exp(d - ln_t), reading)) for d in ln_d[:-1]])
            ln_c = float(np.mean(ln_n[:-1] - ln_dim))
            said = log_patterns(math.exp(min(ln_n[-1] - ln_c, 20.0)), reading) + ln_t
            ranks.append(_frontier_rank(f"paper, {reading}, N = c n(D)", ln_d[-1] - said, 1))
    return ranks


def _frontier_rank(name: str, error: float, n_params: int) -> Rank:
    error = abs(float(error))
    return Rank(
        law=name, about="frontier", heldout_error=error, largest_size_error=error, n_heldout=1, n_params=n_params,
        note="error of ln D* at the largest size",
    )  # fmt: skip


__all__ = ["BASELINE", "criteria", "rank"]

"""How does a value for every state become one number with an interval? By resampling documents, never tokens.

All statistics resample at once: a draw is how often each document counts, and a statistic is a weighted sum or a
weighted median under those counts. With fewer than 8 documents the range over documents stands instead.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from memscape.theory.measure import FEWEST_CLUSTERS, Measured

RESAMPLES = 500


def average(values_Q: ArrayLike, documents_Q: ArrayLike, unit: str) -> Measured:
    """Return the mean of one value a state, with its interval over documents; values that are nan do not count."""
    values = np.asarray(values_Q, dtype=np.float64)
    return ratio(values, np.where(np.isnan(values), np.nan, 1.0), documents_Q, unit)


def averages(values_QX: np.ndarray, documents_Q: ArrayLike, unit: str) -> list[Measured]:
    """Return the mean over states of each column, all columns under the same draws; every value counts."""
    documents, owner = np.unique(np.asarray(documents_Q), return_inverse=True)
    mine = np.eye(len(documents))[:, owner]
    sums, sizes = mine @ values_QX, mine.sum(1)
    return _columns(lambda w: (w @ sums) / (w @ sizes)[:, None], len(documents), unit)


def ratio(above_Q: ArrayLike, below_Q: ArrayLike, documents_Q: ArrayLike, unit: str) -> Measured:
    """Return sum(above) / sum(below) over states, with its interval over documents."""
    above, below = np.asarray(above_Q, dtype=np.float64), np.asarray(below_Q, dtype=np.float64)
    kept = np.isfinite(above) & np.isfinite(below)
    documents, owner = np.unique(np.asarray(documents_Q)[kept], return_inverse=True)
    a, b = (np.bincount(owner, weights=x[kept], minlength=len(documents)) for x in (above, below))
    return resampled(lambda w: (w @ a) / (w @ b), len(documents), unit)


def median(values_Q: ArrayLike, documents_Q: ArrayLike, unit: str) -> Measured:
    """Return the median of one value a state, with its interval over documents; values that are nan do not count."""
    values = np.asarray(values_Q, dtype=np.float64)
    kept = ~np.isnan(values)
    order = np.argsort(values[kept], kind="stable")
    ordered = values[kept][order]
    documents, owner = np.unique(np.asarray(documents_Q)[kept], return_inverse=True)
    owner = owner[order]

    def middle(weights_RD: np.ndarray) -> np.ndarray:
        running = weights_RD[:, owner].cumsum(1)
        half = running[:, -1:] / 2
        low, high = (running >= half).argmax(1), (running > half).argmax(1)
        return (ordered[low] + ordered[high]) / 2

    return resampled(middle, len(documents), unit)


def auroc(mine_M: np.ndarray, others_N: np.ndarray, documents_M: np.ndarray, documents_N: np.ndarray) -> Measured:
    """Return the chance that one of mine has a higher value than another, ties half, with its interval over documents.

    Documents that both have part in are drawn together.
    """
    documents = np.union1d(documents_M, documents_N)
    a, b = ((x[:, None] == documents).astype(np.float64) for x in (documents_M, documents_N))
    above = (mine_M[:, None] > others_N) + 0.5 * (mine_M[:, None] == others_N)
    won, pairs = a.T @ above @ b, np.outer(a.sum(0), b.sum(0))
    return resampled(lambda w: ((w @ won) * w).sum(1) / ((w @ pairs) * w).sum(1), len(documents), "AUROC")


def resampled(statistic: Callable[[np.ndarray], np.ndarray], n: int, unit: str) -> Measured:
    """Return a statistic of weighted documents: `statistic` maps weights (R, n) to values (R,); all ones is the value.

    Raises ValueError if no document has a value, or they make no finite number.
    """
    return _columns(lambda w: statistic(w)[:, None], n, unit)[0]


@cache
def _draws(n: int) -> np.ndarray:
    """How often each of n documents counts, a row a resample."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def _columns(statistic: Callable[[np.ndarray], np.ndarray], n: int, unit: str) -> list[Measured]:
    """Return one number for each of X columns: `statistic` maps weights (R, n) to values (R, X)."""
    if n == 0:
        raise ValueError("expected values of at least one document, got none")
    few = n < FEWEST_CLUSTERS
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no document that has a value
        values, found = statistic(np.ones((1, n)))[0], statistic(np.eye(n) if few else _draws(n))
    if not np.isfinite(values).all():
        raise ValueError("expected values that make a number, got none: too few states, or all of them copies")
    name = f"range of {n} documents" if few else f"95 % bootstrap over {n} documents"

    def measured(value: float, draws_R: np.ndarray) -> Measured:
        kept = draws_R[np.isfinite(draws_R)]
        if n == 1 or len(kept) == 0:
            return Measured(value=value, unit=unit, n=n)
        low, high = (kept.min(), kept.max()) if few else np.quantile(kept, [0.025, 0.975])
        return Measured(value=value, unit=unit, n=n, low=float(low), high=float(high), interval=name)

    return [measured(value, column) for value, column in zip(values.tolist(), found.T, strict=True)]

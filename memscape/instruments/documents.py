"""How does a value for every state become one number with an interval? By resampling documents, never tokens.

All statistics resample at once: a draw is how often each document counts, and a statistic is a weighted sum or a
weighted median under those counts. With fewer than 8 documents the range over documents stands instead.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from memscape.theory.measure import FEWEST_CLUSTERS, Measured

RESAMPLES = 500


def average(values_Q: ArrayLike, documents_Q: ArrayLike, unit: str) -> Measured:
    """Return the mean of one value a state, with its interval over documents; values that are nan do not count."""
    values = np.asarray(values_Q, dtype=np.float64)
    return ratio(values, np.where(np.isnan(values), np.nan, 1.0), documents_Q, unit)


def ratio(above_Q: ArrayLike, below_Q: ArrayLike, documents_Q: ArrayLike, unit: str) -> Measured:
    """Return sum(above) / sum(below) over states, with its interval over documents."""
    above, below = np.asarray(above_Q, dtype=np.float64), np.asarray(below_Q, dtype=np.float64)
    kept = np.isfinite(above) & np.isfinite(below)
    documents, owner = np.unique(np.asarray(documents_Q)[kept], return_inverse=True)
    a = np.bincount(owner, weights=above[kept], minlength=len(documents))
    b = np.bincount(owner, weights=below[kept], minlength=len(documents))

    def share(weights_RD: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights_RD @ a) / (weights_RD @ b)

    return resampled(share, len(documents), unit)


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


def resampled(statistic: Callable[[np.ndarray], np.ndarray], n: int, unit: str, over: str = "documents") -> Measured:
    """Return a statistic of weighted documents: `statistic` maps weights (R, n) to values (R,); all ones is the value.

    Raises ValueError if no document has a value, or they make no finite number.
    """
    if n == 0:
        raise ValueError("expected values of at least one document, got none")
    value = float(statistic(np.ones((1, n)))[0])
    if not np.isfinite(value):
        raise ValueError("expected values that make a number, got none: too few states, or all of them copies")
    if n == 1:
        return Measured(value=value, unit=unit, n=1)
    few = n < FEWEST_CLUSTERS
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    found = statistic(np.eye(n) if few else draws.astype(np.float64))
    found = found[np.isfinite(found)]
    if len(found) == 0:
        return Measured(value=value, unit=unit, n=n)
    low, high = (found.min(), found.max()) if few else np.quantile(found, [0.025, 0.975])
    name = f"range of {n} {over}" if few else f"95 % bootstrap over {n} {over}"
    return Measured(value=value, unit=unit, n=n, low=float(low), high=float(high), interval=name)


def averages(values_QX: np.ndarray, documents_Q: ArrayLike, unit: str) -> list[Measured]:
    """Return the mean over states of each column, as `average` does, all columns under the same draws."""
    documents, owner = np.unique(np.asarray(documents_Q), return_inverse=True)
    n, values = len(documents), np.asarray(values_QX, dtype=np.float64)
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, owner, np.nan_to_num(values))
    sizes = np.zeros_like(sums)
    np.add.at(sizes, owner, ~np.isnan(values))
    few = n < FEWEST_CLUSTERS
    draws = np.eye(n) if few else np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = sums.sum(0) / sizes.sum(0)
        found = (draws @ sums) / (draws @ sizes)
    low, high = (found.min(0), found.max(0)) if few else np.nanquantile(found, [0.025, 0.975], axis=0)
    name = "none" if n == 1 else f"range of {n} documents" if few else f"95 % bootstrap over {n} documents"
    ends = [(None, None)] * len(value) if n == 1 else list(zip(low.tolist(), high.tolist(), strict=True))
    return [
        Measured(value=v, unit=unit, n=n, low=a, high=b, interval=name)
        for v, (a, b) in zip(value.tolist(), ends, strict=True)
    ]

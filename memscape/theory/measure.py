"""A measured number with its unit, its count and its interval: what every result of memscape is made of.

>>> mean([1.0, 2.0, 3.0], unit="nats/token").value
2.0
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

FEWEST_CLUSTERS = 8
"""With fewer documents or seeds than this a resampled interval is an invention: the range is printed instead."""


class Measured(BaseModel):
    """A value and how well it is known."""

    model_config = ConfigDict(frozen=True)

    value: float
    """In `unit`."""
    unit: str
    """For example `nats/token`, `bits/parameter`, `distance`; `1` for a pure number."""
    n: int
    """How many independent units (documents, seeds, runs) the interval stands on."""
    low: float | None = None
    """Lower end of the interval or range, in `unit`."""
    high: float | None = None
    """Upper end of the interval or range, in `unit`."""
    interval: str = "none"
    """What `low` and `high` are: `95 % bootstrap over documents`, `range of 3 seeds`, `95 % profile`."""

    def __str__(self) -> str:
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        span = "" if self.low is self.high is None else f" [{low:.4g}, {high:.4g}]".replace("inf", "∞")
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.value:.4g}{span}{unit} (n = {self.n}; {self.interval})"


def mean(values: ArrayLike, unit: str, over: str = "documents", seed: int = 0, resamples: int = 2000) -> Measured:
    """Return the mean of one value per cluster with its 95 % bootstrap interval over clusters (range below 8)."""
    return statistic(np.asarray(values, dtype=np.float64), np.mean, unit, over, seed, resamples)


def statistic(
    clusters: Sequence | np.ndarray,
    reduce: Callable[..., float],
    unit: str,
    over: str = "documents",
    seed: int = 0,
    resamples: int = 2000,
) -> Measured:
    """Return `reduce(clusters)` with its 95 % percentile bootstrap, resampling whole clusters, never tokens.

    `clusters` is an array whose first axis runs over clusters; `reduce` maps such an array to one number.
    With fewer than 8 clusters `low` and `high` are the range over single clusters.
    """
    clusters = np.asarray(clusters)
    n = len(clusters)
    value = float(reduce(clusters))
    if n < FEWEST_CLUSTERS:
        singles = [float(reduce(clusters[i : i + 1])) for i in range(n)]
        low, high = (min(singles), max(singles)) if n > 1 else (None, None)
        return Measured(
            value=value, unit=unit, n=n, low=low, high=high, interval=f"range of {n} {over}" if n > 1 else "none"
        )
    rng = np.random.default_rng(seed)
    draws = [float(reduce(clusters[rng.integers(0, n, n)])) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Measured(
        value=value, unit=unit, n=n, low=float(low), high=float(high), interval=f"95 % bootstrap over {n} {over}"
    )

"""Partition functions: how much weight do the balls around stored patterns hold, exactly and in log space?

Niu et al. (arXiv 2405.08707, eqs. 12 to 14) integrate exp(-distance) over balls of radius sqrt(n / 2πe). Their distance
is squared, their printed integral is not; both are here, each with bounds that hold. Everything is a logarithm, because
ln Z = -76,750 at n = 1,310,720. `n` is a dimension, `r` a radius in units of distance, `beta` an inverse squared
distance (inverse distance where `squared=False`).

>>> round(log_ball_integral(1024, paper_radius(1024)), 6)
-63.869041
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaincc, gammaln, logsumexp

Bounds = tuple[float, float]
"""Lower and upper bound on the logarithm of an integral."""


def paper_radius(n: float) -> float:
    """Return sqrt(n / 2πe), the radius that the paper chooses so that a ball's volume is of order one."""
    return math.sqrt(n / (2 * math.pi * math.e))


def unit_volume_radius(n: float) -> float:
    """Return Γ(1 + n/2)^{1/n} / sqrt(π), the radius of the ball whose volume is exactly one."""
    return math.exp(_lgamma(1 + n / 2) / n) / math.sqrt(math.pi)


def log_ball_volume(n: float, r: float) -> float:
    """Return ln V_n(r), V_n(r) = π^{n/2} rⁿ / Γ(1 + n/2); at the paper's radius -½ ln(πn) - 1/(6n) + O(n⁻³)."""
    return n / 2 * math.log(math.pi) + n * math.log(r) - _lgamma(1 + n / 2)


def log_ball_integral(n: float, r: float, beta: float = 1.0, squared: bool = True) -> float:
    """Return ln ∫_{|y| ≤ r} exp(-β|y|²) dy, or of exp(-β|y|) with `squared=False`, exactly.

    Squared: (π/β)^{n/2} γ(n/2, βr²)/Γ(n/2). Unsquared: 2π^{n/2} β⁻ⁿ γ(n, βr)/Γ(n/2); this one the paper's eq. 13 prints
    for the squared distance. Computed as the volume times the mean weight, in which nothing cancels.
    """
    return log_ball_volume(n, r) + (_log_mean_weight(n / 2, beta * r * r) if squared else _log_mean_weight(n, beta * r))


def log_space_integral(n: float, beta: float = 1.0, squared: bool = True) -> float:
    """Return the same integral over all of space: (π/β)^{n/2}, or 2π^{n/2} β⁻ⁿ Γ(n)/Γ(n/2) unsquared."""
    if squared:
        return n / 2 * math.log(math.pi / beta)
    return math.log(2) + n / 2 * math.log(math.pi) - n * math.log(beta) + _lgamma(n) - _lgamma(n / 2)


def log_partition(
    n: float, radii: float | Sequence[float] | np.ndarray, beta: float = 1.0, squared: bool = True
) -> float:
    """Return ln Z = ln Σ_i I(r_i) over the balls around the patterns of one layer.

    Right only where each ball lies nearer to its own pattern than to any other: r_i ≤ δ_i/2. Disjoint balls of unequal
    radii are not enough (ρ = 0, 1 with r = 0.9, 0.05).
    """
    distinct, counts = np.unique(np.atleast_1d(radii), return_counts=True)
    logs = [log_ball_integral(n, float(r), beta, squared) for r in distinct]
    return float(np.asarray(logsumexp(np.array(logs) + np.log(counts))))


def printed_bounds(n: float, r: float) -> Bounds:
    """Return the paper's eq. 14 for one ball: V e^{-r} ≤ I ≤ V.

    True of the unsquared integral. For the paper's own squared distance the lower side fails for every n ≥ 21 at its
    radius.
    """
    volume = log_ball_volume(n, r)
    return volume - r, volume


def crude_bounds(n: float, r: float, beta: float = 1.0) -> Bounds:
    """Return V e^{-βr²} ≤ I_sq ≤ V, eq. 14 as the squared distance needs it."""
    volume = log_ball_volume(n, r)
    return volume - beta * r * r, volume


def jensen_bound(n: float, r: float, beta: float = 1.0) -> float:
    """Return the lower bound I_sq ≥ V exp(-βr² n/(n+2)), from the mean of |y|² over the ball."""
    return log_ball_volume(n, r) - beta * r * r * n / (n + 2)


def tight_bounds(n: float, r: float, beta: float = 1.0, squared: bool = True) -> Bounds:
    """Return V e^{-x}(1 + q) ≤ I ≤ V e^{-x}/(1 - q) with x = βr², q = x/(n/2 + 1); unsquared x = βr, q = x/(n + 1).

    In high dimension a ball's mass lies at its surface. The upper side is infinite where q ≥ 1.
    """
    x, a = (beta * r * r, n / 2) if squared else (beta * r, n)
    q = x / (a + 1)
    surface = log_ball_volume(n, r) - x
    return surface + math.log1p(q), surface - math.log1p(-q) if q < 1 else math.inf


def _log_mean_weight(a: float, x: float) -> float:
    """ln of the mean of exp(-distance) over a ball, a x^{-a} γ(a, x) = e^{-x} Σ_k x^k / ((a+1)…(a+k))."""
    if x >= a + 1:
        return math.log(a) - a * math.log(x) + _lgamma(a) + math.log1p(-float(gammaincc(a, x)))
    total, term, k = 1.0, 1.0, 1
    while term > 1e-17 * total:
        term *= x / (a + k)
        total += term
        k += 1
    return math.log(total) - x


def _lgamma(x: float) -> float:
    return float(gammaln(x))

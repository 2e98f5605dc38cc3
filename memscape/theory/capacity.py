"""Hopfield capacities: how many patterns K does an associative memory of dimension n hold?

One function a model, K as a number. Niu et al. (arXiv 2405.08707, Table 1) print Θ(n^r) for the dense memory of degree
r; it is n^{r-1}, because the noise of K patterns in the local field has variance K n^{r-1}.

>>> [round(dense(100, degree), 2) for degree in (2, 3, 4)]
[10.86, 361.91, 7238.24]
"""

import math

from pydantic import BaseModel, ConfigDict
from scipy.special import lambertw


def hopfield(n: float) -> float:
    """Return 0.138 n, the load at which the classical network's memories vanish all at once (errors allowed)."""
    return 0.138 * n


def hopfield_exact(n: float) -> float:
    """Return n / (2 ln n), the load up to which the classical network recalls without any error."""
    return n / (2 * math.log(n))


def dense(n: float, degree: int) -> float:
    """Return n^{r-1} / (2 (2r-3)!! ln n), the error-free load of the dense memory of degree r (1606.01164)."""
    return n ** (degree - 1) / (2 * odd_factorial(2 * degree - 3) * math.log(n))


def dense_bit_error(n: float, n_patterns: float, degree: int) -> float:
    """Return the share of bits that one update of a stored pattern gets wrong, to leading order at small error.

    sqrt((2r-3)!! K / (2π n^{r-1})) exp(-n^{r-1} / (2K (2r-3)!!)).
    """
    load = odd_factorial(2 * degree - 3) * n_patterns / n ** (degree - 1)
    return math.sqrt(load / (2 * math.pi)) * math.exp(-1 / (2 * load))


def exponential(n: float) -> float:
    """Return 2^{n/2}, the limit of the exponential memory's exp(αn), α < ½ ln 2 (1702.01929)."""
    return 2 ** (n / 2)


class ContinuousCapacity(BaseModel):
    """The bound of Ramsauer et al. (2008.02217, theorem 3) for patterns on a sphere of radius κ sqrt(n - 1)."""

    model_config = ConfigDict(frozen=True)

    n_patterns: float
    """K = sqrt(p) c^{(n-1)/4}: at least so many random patterns are stored with probability 1 - p."""
    c: float
    c_needed: float
    """(2 / sqrt(p))^{4/(n-1)}: below it the theorem says nothing."""

    @property
    def holds(self) -> bool:
        """Whether the theorem's condition c ≥ c_needed is met."""
        return self.c >= self.c_needed


def continuous(n: int, beta: float, radius_factor: float, failure: float) -> ContinuousCapacity:
    """Return the exponential capacity of the modern continuous memory: β (inverse squared norm), κ, failure rate p.

    c = b / W₀(exp(a + ln b)), a = 2/(n-1) (1 + ln(2βκ²p(n-1))), b = 2κ²β/5.
    """
    a = 2 / (n - 1) * (1 + math.log(2 * beta * radius_factor**2 * failure * (n - 1)))
    b = 2 * radius_factor**2 * beta / 5
    c = b / float(lambertw(math.exp(a + math.log(b))).real)
    needed = (2 / math.sqrt(failure)) ** (4 / (n - 1))
    return ContinuousCapacity(n_patterns=math.sqrt(failure) * c ** ((n - 1) / 4), c=c, c_needed=needed)


def odd_factorial(k: int) -> int:
    """Return k!! for odd k: 1·3·5·…·k."""
    return math.prod(range(1, k + 1, 2))

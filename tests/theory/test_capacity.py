"""Hopfield capacities against reference values and a simulation."""

import numpy as np
import pytest
from scipy.stats import norm

from memscape.theory import capacity


def test_the_classical_network_of_a_thousand_neurons():
    """138 with errors, 72.38 without."""
    assert capacity.hopfield(1000) == pytest.approx(138)
    assert capacity.hopfield_exact(1000) == pytest.approx(72.38, abs=5e-3)


def test_the_dense_memory():
    """10.86, 361.9, 7238 at n = 100; doubling n multiplies the load by about 2^{r-1}."""
    assert [capacity.dense(100, r) for r in (2, 3, 4)] == pytest.approx([10.86, 361.9, 7238], rel=1e-3)
    for degree in (2, 3, 4):
        ratio = capacity.dense(2e6, degree) / capacity.dense(1e6, degree)
        assert np.log2(ratio) == pytest.approx(degree - 1, abs=0.08)


@pytest.mark.parametrize(("degree", "n_patterns", "formula"), [(2, 14, 0.0042), (3, 1000, 0.041)])
def test_the_bit_error_is_the_leading_order_of_a_simulation(degree, n_patterns, formula):
    """One update of stored patterns, n = 100: the share is the Gaussian tail, which the formula bounds."""
    assert capacity.dense_bit_error(100, n_patterns, degree) == pytest.approx(formula, rel=0.02)
    rng = np.random.default_rng(0)
    wrong, total = 0.0, 0
    for _ in range(2000 if degree == 2 else 60):
        patterns = rng.choice([-1.0, 1.0], (n_patterns, 100))
        for state in patterns[:4]:
            overlap = patterns @ state
            change = (overlap**degree).sum() - ((overlap[:, None] - 2 * patterns * state) ** degree).sum(0)
            wrong += (change < 0).sum() + (change == 0).sum() / 2
            total += 100
    load = capacity.odd_factorial(2 * degree - 3) * (n_patterns - 1) / 99 ** (degree - 1)
    tail = norm.sf(load**-0.5)
    assert wrong / total == pytest.approx(tail, rel=0.15)
    assert wrong / total < capacity.dense_bit_error(100, n_patterns, degree)


@pytest.mark.parametrize(
    ("n", "radius_factor", "c", "needed"), [(20, 3, 3.1546108, 2.394221), (75, 1, 1.3718778, 1.251276)]
)
def test_the_continuous_memorys_constants(n, radius_factor, c, needed):
    """The two worked examples of Ramsauer et al.: c with its needed minimum, to 1e-6."""
    got = capacity.continuous(n, 1.0, radius_factor, 0.001)
    assert (got.c, got.c_needed) == pytest.approx((c, needed), abs=1e-6)
    assert got.holds


def test_the_exponential_memory():
    """2^{n/2}."""
    assert capacity.exponential(20) == 1024

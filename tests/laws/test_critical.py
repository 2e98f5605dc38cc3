"""Two variances, one interval: 95 % whatever their ratio."""

import numpy as np
import pytest
from scipy.stats import t as student

from memscape.laws.critical import coverage, critical

EVERY = np.linspace(0, 1, 41)


@pytest.mark.parametrize("freedom", [(1, 43), (2, 43), (2, 8), (5, 5)])
def test_one_variance_alone_is_students_t(freedom):
    """Where all of the variance is of one kind, the interval is the t interval of its degrees of freedom."""
    expected = [student.ppf(0.975, freedom[1]), student.ppf(0.975, freedom[0])]
    np.testing.assert_allclose(critical(np.array([0.0, 1.0]), *freedom), expected)


@pytest.mark.parametrize(("freedom", "off"), [((2, 43), 0.005), ((2, 23), 0.005), ((4, 43), 0.002), ((1, 43), 0.011)])
def test_coverage_is_level(freedom, off):
    """Whatever the true ratio, coverage stays within 0.5 points of 95 % with three seeds, 1.1 with two."""
    np.testing.assert_allclose(coverage(EVERY, *freedom), 0.95, atol=off)


@pytest.mark.parametrize("true", [0.1, 0.5, 0.9])
def test_coverage_is_that_of_simulated_errors(true):
    """The integral agrees with 200,000 draws of an error and of its two estimated variances."""
    rng, n = np.random.default_rng(0), 200_000
    seen, rest = true * rng.chisquare(2, n) / 2, (1 - true) * rng.chisquare(20, n) / 20
    held = np.abs(rng.normal(size=n)) < critical(seen / (seen + rest), 2, 20) * np.sqrt(seen + rest)
    assert coverage(np.array([true]), 2, 20)[0] == pytest.approx(held.mean(), abs=0.003)

"""The size-data balance in its readings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscape.errors import PlanError
from memscape.theory import balance

SMALL = balance.Geometry(n_layers=8, seq_len=1024, d_model=954, params_const=5.487)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ("exact squared", (73.5258, 146.3530, 259.4671)),
        ("exact unsquared", (226.2839, 963.9697, 3256.530)),
        ("upper bound", (1e6 / math.pi, 1e10 / math.pi, 1e16 / math.pi)),
    ],
)
def test_the_dimension_that_balances_z(reading, expected):
    """n(d) at d = 1e3, 1e5, 1e8, to 1e-6 relative."""
    got = [balance.dimension(d, reading) for d in (1e3, 1e5, 1e8)]
    assert got == pytest.approx(expected, rel=1e-6)


def test_the_patterns_that_balance_dimension_1024():
    """ln d = 4.0383 (upper bound: ½ ln πn, 1.6e-4 off the volume), 63.8690, 11.7737."""
    got = [balance.log_patterns(1024, r) for r in ("upper bound", "exact squared", "exact unsquared")]
    assert got == pytest.approx([4.0383, 63.8690, 11.7737], abs=3e-4)


@pytest.mark.parametrize(
    ("reading", "expected"), [("upper bound", 2), ("exact squared", 0.1103), ("exact unsquared", 0.2349)]
)
def test_the_local_exponent(reading, expected):
    """2, and to leading order 1/(½ + n/2πe), 1/(½ + ½ sqrt(n/2πe)), at d = 1e5."""
    assert balance.exponent(1e5, reading) == pytest.approx(expected, rel=2e-3)


@given(st.floats(10, 1e8), st.sampled_from(["upper bound", "exact squared", "exact unsquared"]))
def test_dimension_and_patterns_invert_each_other(n_patterns, reading):
    """log_patterns(dimension(d)) = ln d."""
    assert balance.log_patterns(balance.dimension(n_patterns, reading), reading) == pytest.approx(math.log(n_patterns))


@pytest.mark.parametrize(
    ("reading", "scaling", "low", "high"),
    [
        ("upper bound", "frozen", 2, 2),
        ("upper bound", "width", 4, 4),
        ("exact squared", "frozen", 0, 0.12),
        ("exact squared", "width", 0, 0.24),
        ("exact unsquared", "width", 0, 0.5),
    ],
)
def test_the_exponent_of_size_in_data(reading, scaling, low, high):
    """The same argument gives 2, 4, or nothing but logarithms; recovered from generated (N, D)."""
    tokens = np.geomspace(1e8, 1e11, 7)
    sizes = [balance.n_params(d, SMALL, reading, scaling) for d in tokens]
    slope = np.polyfit(np.log(tokens), np.log(sizes), 1)[0]
    assert low - 1e-6 <= slope <= high + 1e-6
    assert balance.n_params_exponent(1e8, SMALL, reading, scaling) >= slope - 1e-6


def test_the_printed_bound_on_size():
    """N ≤ A l d_emb/(π T³) D² and A l/(π² T⁶) D⁴."""
    frozen = 5.487 * 8 * 954 / (math.pi * 1024**3) * 1e16
    assert balance.n_params(1e8, SMALL, "upper bound") == pytest.approx(frozen)
    width = 5.487 * 8 / (math.pi**2 * 1024.0**6) * 1e32
    assert balance.n_params(1e8, SMALL, "upper bound", "width") == pytest.approx(width)


def test_a_plain_gpt2_layer_has_twelve_d_squared():
    """The paper's A ≈ 10 takes a feed-forward of three times the width."""
    assert balance.block_params(1024) / 1024**2 == 12
    assert balance.block_params(1024, 3) / 1024**2 == 10


def test_unknown_readings_and_too_few_patterns_are_refused():
    """The message lists the known readings."""
    with pytest.raises(PlanError, match="upper bound"):
        balance.dimension(1e3, "loose")
    with pytest.raises(PlanError, match="frozen"):
        balance.n_params(1e8, SMALL, "upper bound", "depth")
    with pytest.raises(PlanError, match="at least 2 patterns"):
        balance.n_params(100, SMALL, "upper bound")

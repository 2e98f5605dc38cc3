"""The paper's cross-entropy in its three readings."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from memscape.theory import loss


def test_the_printed_formula_has_its_minimum_one_at_z_one():
    """f(u) = u + e^{-u}: reference values at 0, ±ln 2 and 1."""
    values = [loss.printed_formula(u) for u in (0, math.log(2), -math.log(2), 1)]
    assert values == pytest.approx([1, 1.193147, 1.306853, 1.367879], abs=1e-6)


@given(st.floats(-500, 500))
def test_the_printed_formula_is_never_below_one(log_z):
    """A property of the formula, of no model."""
    assert loss.printed_formula(log_z) >= 1 - 1e-12


@pytest.mark.parametrize(("factor", "expected"), [(0.5, -717.2672), (1, -52.3561), (2, 478.0659)])
def test_consistently_read_the_loss_is_any_number(factor, expected):
    """d = 1e5 patterns of dimension 1024: the loss has the sign the radius gives it."""
    assert loss.consistent(1024, 1e5, factor * 7.743063) == pytest.approx(expected, abs=1e-3)


def test_consistently_read_over_the_whole_space():
    """ln d + n/2 ln π, the mixture of separated Gaussians: 597.6146."""
    assert loss.consistent(1024, 1e5, 60.0) == pytest.approx(597.6146, abs=1e-3)


def test_the_printed_definition_of_the_layer_energy():
    """n = 1, d = 1, r = 0.05: L = -2.294223 where the formula says 7.704916."""
    log_z = loss.consistent(1, 1, 0.05)
    assert math.exp(log_z) == pytest.approx(0.0999167295, abs=1e-9)
    assert loss.printed_definition(1, 1, 0.05) == pytest.approx(-2.294223, abs=1e-6)
    assert loss.printed_formula(log_z) == pytest.approx(7.704916, abs=1e-6)


def test_the_printed_definition_equals_direct_quadrature():
    """In one dimension the integral over the balls can be done as it stands."""
    z = math.exp(loss.consistent(1, 3, 0.8))
    integral = 3 * 2 * quad(lambda y: math.exp(-math.exp(-y * y) / z), 0, 0.8)[0]
    assert loss.printed_definition(1, 3, 0.8) == pytest.approx(math.log(integral) + 1 / z, abs=1e-9)


@given(n=st.integers(1, 40), d=st.integers(1, 10**5), r=st.floats(0.3, 2))
def test_the_printed_definition_lies_in_its_range(n, d, r):
    """0 < E_t ≤ 1/Z puts L between ln|Ω| and ln|Ω| + 1/Z."""
    low, high = loss.printed_definition_range(n, d, r)
    slack = 1e-9 * (1 + abs(low) + abs(high))
    assert low - slack <= loss.printed_definition(n, d, r) <= high + slack


def test_the_notice_names_the_floor_and_the_tokenizer():
    """Whoever prints ln Z + 1/Z prints the valid floor beside it."""
    text = loss.notice(0.06498, "bytes")
    assert "0.0650 nats/token" in text
    assert "tokenizer bytes" in text

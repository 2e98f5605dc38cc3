"""The partition functions against quadrature, 40-digit arithmetic and the reference values of the theory."""

import math

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from memscape.theory import partition

REFERENCE = {
    # n: (r, ln V, ln I_sq, ln I_abs) at r = sqrt(n / 2πe), β = 1
    2: (0.342198280, -1.000000000, -1.057978550, -1.224831075),
    3: (0.419105589, -1.176485208, -1.280811771, -1.487444191),
    10: (0.765178617, -1.740302181, -2.224703654, -2.433836273),
    64: (1.935765796, -2.654410567, -6.281543063, -4.559957139),
    256: (3.871531592, -3.345604706, -18.210978617, -7.201958260),
    768: (6.705689421, -3.894476823, -48.736594154, -10.591408091),
    1024: (7.743063185, -4.038263606, -63.869040674, -11.773743962),
    1280: (8.657007817, -4.149802830, -78.969278397, -12.800029737),
    1600: (9.678828981, -4.261348564, -97.816723473, -13.934113730),
    4096: (15.486126369, -4.731288716, -244.426928980, -20.213628058),
}

dimensions = st.floats(1, 3000)
radii = st.floats(0.01, 60)
betas = st.floats(0.05, 20)


@pytest.mark.parametrize("n", REFERENCE)
def test_reference_values_at_the_papers_radius(n):
    """Four columns of the theory's table, to 1e-8 on the logarithms."""
    r = partition.paper_radius(n)
    got = (
        r,
        partition.log_ball_volume(n, r),
        partition.log_ball_integral(n, r),
        partition.log_ball_integral(n, r, squared=False),
    )
    assert got == pytest.approx(REFERENCE[n], abs=1e-8, rel=0)


def test_the_dimension_of_a_whole_sequence_does_not_underflow():
    """n = 1024 x 1280 needs logarithms throughout: I_sq is exp(-76,750)."""
    n = 1_310_720
    r = partition.paper_radius(n)
    assert r == pytest.approx(277.024250158, abs=1e-8)
    assert partition.log_ball_volume(n, r) == pytest.approx(-7.615409, abs=1e-6)
    assert partition.log_ball_integral(n, r) == pytest.approx(-76749.926, abs=1e-3)
    assert partition.log_ball_integral(n, r, squared=False) == pytest.approx(-284.6394, abs=1e-3)


@pytest.mark.parametrize(
    ("n", "r", "volume", "squared", "unsquared"),
    [
        (3, 1.0, 4.188790205, 2.380979719, 2.018194233),
        (10, 1.5, 147.055308975, 23.873852558, 37.918418546),
        (2, 0.7, 1.539380400, math.pi * (1 - math.exp(-0.49)), 0.978951583),
    ],
)
def test_reference_values_at_fixed_radius(n, r, volume, squared, unsquared):
    """Values, not logarithms, to 1e-9 relative."""
    assert math.exp(partition.log_ball_volume(n, r)) == pytest.approx(volume, rel=1e-9)
    assert math.exp(partition.log_ball_integral(n, r)) == pytest.approx(squared, rel=1e-9)
    assert math.exp(partition.log_ball_integral(n, r, squared=False)) == pytest.approx(unsquared, rel=1e-9)


@given(n=st.integers(1, 12), r=st.floats(0.1, 8), beta=betas, squared=st.booleans())
def test_the_ball_integral_equals_radial_quadrature(n, r, beta, squared):
    """I = n V_n(1) ∫ ρ^{n-1} e^{-distance} dρ, independent of the incomplete gamma function."""
    power = 2 if squared else 1
    radial, _ = quad(lambda s: s ** (n - 1) * math.exp(-beta * s**power), 0, r, epsrel=1e-11, epsabs=0, limit=200)
    expected = n * math.exp(partition.log_ball_volume(n, 1.0)) * radial
    assert math.exp(partition.log_ball_integral(n, r, beta, squared)) == pytest.approx(expected, rel=1e-9)


@given(n=dimensions, r=radii, beta=betas, squared=st.booleans())
def test_the_ball_integral_agrees_with_40_digit_arithmetic(n, r, beta, squared):
    """Float64 costs at most 1e-12 of the largest logarithm that enters (1e-13 and lgamma's own error)."""
    with mpmath.workdps(40):
        n_, r_, b = mpmath.mpf(n), mpmath.mpf(r), mpmath.mpf(beta)
        a, x, scale = (n_ / 2, b * r_**2, b ** (-n_ / 2)) if squared else (n_, b * r_, 2 * b**-n_)
        gamma = x**a / a * mpmath.hyp1f1(1, a + 1, x) * mpmath.exp(-x)
        exact = mpmath.log(mpmath.pi ** (n_ / 2) * scale * gamma / mpmath.gamma(n_ / 2))
    size = 1 + abs(float(mpmath.loggamma(n))) + n * (abs(math.log(r)) + abs(math.log(beta)) + 2)
    assert abs(partition.log_ball_integral(n, r, beta, squared) - float(exact)) <= 1e-12 * size


@given(n=dimensions, r=radii, beta=betas)
def test_every_bound_holds_and_the_tight_ones_are_tighter(n, r, beta):
    """Jensen and the surface bound lie between the crude ones and the integral."""
    exact = partition.log_ball_integral(n, r, beta)
    low, high = partition.tight_bounds(n, r, beta)
    crude_low, crude_high = partition.crude_bounds(n, r, beta)
    slack = 1e-9 * (1 + abs(exact))
    assert crude_low - slack <= low <= exact + slack
    assert exact <= high + slack
    assert exact <= crude_high + slack
    assert crude_low - slack <= partition.jensen_bound(n, r, beta) <= exact + slack


@given(n=dimensions, r=radii)
def test_the_printed_and_tight_bounds_hold_for_the_unsquared_integral(n, r):
    """Eq. 14 is right about the integral that eq. 13 prints."""
    exact = partition.log_ball_integral(n, r, squared=False)
    slack = 1e-9 * (1 + abs(exact))
    for low, high in (partition.printed_bounds(n, r), partition.tight_bounds(n, r, squared=False)):
        assert low - slack <= exact <= high + slack


def test_the_printed_lower_bound_fails_for_the_squared_distance_from_n_21():
    """At the paper's own radius, by 52.0877 in ln Z at n = 1024; the upper side is loose by 59.83."""
    holds = [
        partition.printed_bounds(n, partition.paper_radius(n))[0]
        <= partition.log_ball_integral(n, partition.paper_radius(n))
        for n in range(1, 100)
    ]
    assert holds == [n < 21 for n in range(1, 100)]
    low, high = partition.printed_bounds(1024, partition.paper_radius(1024))
    exact = partition.log_ball_integral(1024, partition.paper_radius(1024))
    assert low - exact == pytest.approx(52.0877, abs=1e-4)
    assert high - exact == pytest.approx(59.83, abs=5e-3)


@pytest.mark.parametrize(("n", "residual"), [(10, 2.2e-5), (256, 1.3e-9), (1024, 2.1e-11)])
def test_the_volume_at_the_papers_radius_follows_stirling(n, residual):
    """ln V = -½ ln(πn) - 1/(6n) + O(n⁻³): of order n^{-1/2}, not 1."""
    rest = partition.log_ball_volume(n, partition.paper_radius(n)) + math.log(math.pi * n) / 2 + 1 / (6 * n)
    assert abs(rest) <= 1.1 * residual + 1e-11


def test_the_ball_of_unit_volume():
    """Its radius is 7.773659 at n = 1024, and its volume is one."""
    assert partition.unit_volume_radius(1024) == pytest.approx(7.773659, abs=1e-6)
    assert partition.log_ball_volume(1024, partition.unit_volume_radius(1024)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("squared", [True, False])
def test_a_large_ball_holds_the_whole_space(squared):
    """The ball integral tends to (π/β)^{n/2}, and to its unsquared counterpart."""
    assert partition.log_ball_integral(5, 60.0, 1.7, squared) == pytest.approx(
        partition.log_space_integral(5, 1.7, squared), abs=1e-12
    )


def test_balls_add_only_up_to_half_the_separation():
    """ρ = 0, 1 with r = 0.9, 0.05: the union holds 1.629053, the sum of the balls 1.512400."""
    separate = math.exp(partition.log_partition(1, [0.9, 0.05]))
    union, _ = quad(lambda x: math.exp(-min(x * x, (x - 1) ** 2)), -0.9, 0.9, points=[0.5])
    union += quad(lambda x: math.exp(-min(x * x, (x - 1) ** 2)), 0.95, 1.05)[0]
    assert separate == pytest.approx(1.512400, abs=1e-6)
    assert union == pytest.approx(1.629053, abs=1e-6)
    halves = math.exp(partition.log_partition(1, [0.5, 0.5]))
    assert halves == pytest.approx(quad(lambda x: math.exp(-min(x * x, (x - 1) ** 2)), -0.5, 1.5, points=[0.5])[0])

"""Energies against the paper's numbers, autograd, finite identities and the propositions as corrected."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from memscape.memory import energies as e

PAIRS = [
    (e.distance_energy, e.distance_gradient, {"beta": 0.7}),
    (e.mchn_energy, e.mchn_gradient, {"beta": 0.7}),
    (e.classical_energy, e.classical_gradient, {}),
    (e.dense_energy, e.dense_gradient, {"degree": 4}),
    (e.dense_energy, e.dense_gradient, {"degree": 3, "rectified": True}),
    (e.exponential_energy, e.exponential_gradient, {}),
]


def draw(seed: int, n_patterns: int = 11, dim: int = 5, n_states: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(n_patterns, dim, generator=generator, dtype=torch.float64)
    return torch.randn(n_states, dim, generator=generator, dtype=torch.float64), patterns


@pytest.mark.parametrize(("energy", "gradient", "options"), PAIRS)
@pytest.mark.parametrize("banks", [False, True])
def test_gradients_by_hand_equal_autograd(energy, gradient, options, banks):
    """Each gradient is the derivative of its energy, for one bank of patterns and for one bank a state."""
    state, patterns = draw(0)
    if banks:
        patterns = torch.randn(len(state), 11, 5, dtype=torch.float64)
    state = state.requires_grad_()
    (expected,) = torch.autograd.grad(energy(state, patterns, **options).sum(), state)
    assert torch.allclose(gradient(state, patterns, **options), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("energy", "hessian"), [(e.distance_energy, e.distance_hessian), (e.mchn_energy, e.mchn_hessian)]
)
def test_hessians_equal_autograd(energy, hessian):
    """The curvature formulas, from which follows that neither energy is convex."""
    state, patterns = draw(1)
    expected = torch.autograd.functional.hessian(lambda x: energy(x, patterns, 1.3), state[0])
    assert torch.allclose(hessian(state[0], patterns, 1.3), expected, atol=1e-10)


def test_two_patterns_make_both_energies_concave_in_between():
    """Patterns at +1 and -1: second derivative -1 for mchn at beta = 2, -2 for the distance energy at beta = 1."""
    patterns = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    middle = torch.zeros(1, dtype=torch.float64)
    assert e.mchn_hessian(middle, patterns, 2.0).item() == pytest.approx(-1, abs=1e-12)
    assert e.distance_hessian(middle, patterns, 1.0).item() == pytest.approx(-2, abs=1e-12)


def test_the_counterexample_to_proposition_3_has_the_printed_numbers():
    """rho = +-1, x = 1: E = -0.018149928, 2 E_MCHN = 0.674997253, g = 0 (2405.08707, proposition 3 as printed)."""
    patterns = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    assert e.distance_energy(patterns[1], patterns).item() == pytest.approx(-0.018149928, abs=1e-9)
    assert 2 * e.mchn_energy(patterns[1], patterns, 2.0).item() == pytest.approx(0.674997253, abs=1e-9)
    assert e.nn_energy(patterns[1], patterns).item() == 0


@given(seed=st.integers(0, 10**6), beta=st.floats(0.05, 20), scale=st.floats(0.1, 10), n=st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_identities_and_corrected_propositions_hold_for_any_draw(seed, beta, scale, n):
    """Free energy, margin, hidden regulariser; propositions 1, 2 (one-sided) and 3 (corrected)."""
    state, patterns = (scale * v for v in draw(seed, n_patterns=n))
    energy, g = e.distance_energy(state, patterns, beta), e.nn_energy(state, patterns)
    shares = e.responsibilities(state, patterns, beta)
    digits = 1e-9 * (1 + scale**2)
    mean = (shares * e.squared_distances(state, patterns)).sum(-1)
    assert torch.allclose(energy, mean - e.entropy(shares) / beta, rtol=0, atol=digits)
    assert torch.allclose(shares.amax(-1), torch.exp(-beta * (g - energy)), rtol=1e-7, atol=1e-9)
    plain = 2 * beta * e.overlaps(state, patterns) - beta * patterns.square().sum(-1)
    assert torch.allclose(energy, state.square().sum(-1) - plain.logsumexp(-1) / beta, rtol=0, atol=digits)
    assert torch.allclose(shares, plain.softmax(-1), atol=1e-8)
    norms = patterns.square().sum(-1)
    gap, spare, log_m = norms.max() - norms.min(), digits, math.log(n) / beta
    twice = 2 * e.mchn_energy(state, patterns, 2 * beta)
    assert (energy <= g + spare).all()
    assert (energy >= g - log_m - spare).all()
    assert (twice - log_m - energy >= -spare).all()
    assert (twice - log_m - energy <= gap + spare).all()
    assert (twice - g >= -spare).all()
    assert (twice - g <= gap + log_m + spare).all()
    assert (e.mchn_energy(state, patterns, beta) >= -spare).all()


@given(seed=st.integers(0, 10**6), beta=st.floats(0.05, 5), k=st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_truncation_raises_the_energy_by_no_more_than_its_bound(seed, beta, k):
    """0 <= E^(k) - E <= bound: what top-k attention may cost."""
    state, patterns = draw(seed)
    lost = e.truncated_energy(state, patterns, beta, k) - e.distance_energy(state, patterns, beta)
    assert (lost >= -1e-9).all()
    assert (lost <= e.truncation_bound(state, patterns, beta, k) + 1e-9).all()


@given(seed=st.integers(0, 10**6), beta=st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_weights_shift_the_energy_between_its_bounds(seed, beta):
    """g_w - log(M)/beta <= E_w <= g_w with g_w = min(d^2 - log(w)/beta); weights of one change nothing."""
    state, patterns = draw(seed)
    weights = torch.rand(len(patterns), dtype=torch.float64) + 0.01
    g = (e.squared_distances(state, patterns) - weights.log() / beta).amin(-1)
    energy = e.distance_energy(state, patterns, beta, weights)
    assert (energy <= g + 1e-9).all()
    assert (energy >= g - math.log(len(patterns)) / beta - 1e-9).all()
    ones = torch.ones_like(weights)
    assert torch.allclose(e.distance_energy(state, patterns, beta, ones), e.distance_energy(state, patterns, beta))


def test_classical_energy_is_the_textbook_one():
    """-x W x / 2 with W = sum rho rho^T / n and zero diagonal, written out."""
    patterns = torch.randn(7, 20, dtype=torch.float64).sign()
    state = torch.randn(3, 20, dtype=torch.float64).sign()
    weights = patterns.mT @ patterns / 20
    weights.fill_diagonal_(0)
    expected = -0.5 * (state @ weights * state).sum(-1)
    assert torch.allclose(e.classical_energy(state, patterns), expected, atol=1e-12)

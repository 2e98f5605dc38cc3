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


@given(seed=st.integers(0, 10**6), beta=st.floats(0.05, 20), scale=st.floats(0.1, 10), n=st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_identities_hold_for_any_draw(seed, beta, scale, n):
    """Free energy, margin, hidden regulariser; the mchn energy is never negative."""
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
    assert (e.mchn_energy(state, patterns, beta) >= -digits).all()


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

"""The corrected propositions as properties: any patterns, any state, any β that hypothesis finds.

Tolerances are float64's: 1e-9 (1 + largest squared norm + 1/β).
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memscape.memory import energies
from memscape.memory.layered import global_energy, majorizer, nearest_step
from memscape.memory.separation import attention_bound, replacement_bound, step_bound, stored

few = settings(max_examples=50)
betas = st.floats(0.01, 50)
seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    """Standard normal numbers."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@st.composite
def memories(draw, least_patterns=1):
    """A state (D,), patterns (M, D) and the tolerance that belongs to them."""
    m, n = draw(st.integers(least_patterns, 8)), draw(st.integers(1, 5))
    elements = st.floats(-8, 8, width=32)
    state = torch.from_numpy(draw(hnp.arrays(np.float64, n, elements=elements)))
    patterns = torch.from_numpy(draw(hnp.arrays(np.float64, (m, n), elements=elements)))
    return state, patterns, 1e-9 * (1 + float(state.square().sum() + patterns.square().sum(-1).max()))


def gap_of_norms(patterns):
    """Δ."""
    norms = patterns.square().sum(-1)
    return float(norms.max() - norms.min())


@few
@given(memories(), betas)
def test_proposition_1_at_any_beta(memory, beta):
    """g - log(d)/β ≤ E_β ≤ g."""
    x, rho, tolerance = memory
    g, E = float(energies.nn_energy(x, rho)), float(energies.distance_energy(x, rho, beta))
    tolerance += 1e-9 / beta
    assert g - math.log(len(rho)) / beta - tolerance <= E <= g + tolerance


@few
@given(memories(), betas)
def test_propositions_2_and_3_corrected_at_any_beta(memory, beta):
    """0 ≤ (2 E_MCHN - log(d)/β) - E_β ≤ Δ and 0 ≤ 2 E_MCHN - g ≤ Δ + log(d)/β."""
    x, rho, tolerance = memory
    level, slack = 2 * float(energies.mchn_energy(x, rho, 2 * beta)), math.log(len(rho)) / beta
    g, E, gap = float(energies.nn_energy(x, rho)), float(energies.distance_energy(x, rho, beta)), gap_of_norms(rho)
    tolerance += 1e-9 / beta
    assert -tolerance <= level - slack - E <= gap + tolerance
    assert -tolerance <= level - g <= gap + slack + tolerance


def test_proposition_3_as_printed_fails_as_documented():
    """ρ = ±1, x = 1: E = -0.018149928, 2 E_MCHN = 0.674997253, g = 0 and Δ = 0, so -Δ ≤ g - 2 E_MCHN is false."""
    rho = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    level = 2 * float(energies.mchn_energy(rho[1], rho, 2.0))
    assert float(energies.distance_energy(rho[1], rho, 1.0)) == pytest.approx(-0.018149928, abs=1e-9)
    assert level == pytest.approx(0.674997253, abs=1e-9)
    assert float(energies.nn_energy(rho[1], rho)) == gap_of_norms(rho) == 0
    assert not -gap_of_norms(rho) <= 0 - level


@few
@given(memories(2), betas, st.integers(1, 4), seeds)
def test_the_union_of_layers_is_one_memory(memory, beta, n_layers, seed):
    """E_global of eq.-4 layers is E_β of all patterns, however they are dealt; weighted layers, the weighted energy."""
    x, rho, tolerance = memory
    rng = np.random.default_rng(seed)
    layer = torch.from_numpy(rng.integers(0, n_layers, len(rho)))
    present = layer.unique().tolist()
    stack = torch.stack([energies.distance_energy(x, rho[layer == t], beta) for t in present])
    whole = float(energies.distance_energy(x, rho, beta))
    assert float(global_energy(stack, beta)) == pytest.approx(whole, abs=tolerance + 1e-9 / beta)
    share = torch.from_numpy(rng.uniform(0.1, 1, n_layers))
    mixed = -(share[present].log() - beta * stack).logsumexp(-1) / beta
    weighted = float(energies.distance_energy(x, rho, beta, weights=share[layer]))
    assert float(mixed) == pytest.approx(weighted, abs=tolerance + 1e-9 / beta)


@few
@given(memories(), betas, st.floats(0, 2))
def test_the_damped_mean_shift_never_rises(memory, beta, a):
    """E_β((1-a) x + a m) ≤ E_β(x) - (2a - a²)|m - x|² for 0 ≤ a ≤ 2."""
    x, rho, tolerance = memory
    m = x - energies.distance_gradient(x, rho, beta) / 2
    before, after = (float(energies.distance_energy(y, rho, beta)) for y in (x, (1 - a) * x + a * m))
    assert after <= before - (2 * a - a * a) * float((m - x).square().sum()) + tolerance + 1e-9 / beta


@few
@given(memories(), betas)
def test_the_attention_update_never_raises_the_continuous_energy(memory, beta):
    """E_MCHN(x⁺) ≤ E_MCHN(x) - ½|x⁺ - x|², x⁺ = Σ softmax(βρ·x)_i ρ_i."""
    x, rho, tolerance = memory
    step = x - energies.mchn_gradient(x, rho, beta)
    before, after = (float(energies.mchn_energy(y, rho, beta)) for y in (x, step))
    assert after <= before - float((step - x).square().sum()) / 2 + tolerance + 1e-9 / beta
    assert before >= -tolerance - 1e-9 / beta


def near(memory, fraction, seed):
    """Distances of pattern 0 to the others, its ball's radius below δ/2, and a state in the ball."""
    _, rho, tolerance = memory
    distances = (rho[1:] - rho[0]).norm(dim=-1)
    separation = float(distances.min())
    assume(separation > 1e-3)
    way = normal(seed, rho.shape[1])
    r = fraction * separation / 2
    return distances[None], torch.tensor([r], dtype=torch.float64), rho[0] + r * way / way.norm(), rho, tolerance


@few
@given(memories(2), betas, st.floats(0.01, 0.99), seeds)
def test_one_mean_shift_lands_within_the_retrieval_bound(memory, beta, fraction, seed):
    """|x⁺ - ρ_i| ≤ Σ δ_ij exp(-β(δ_ij² - 2rδ_ij)) ≤ (d-1) max δ_ij exp(-β(δ_i² - 2rδ_i)) for r < δ_i/2."""
    distances, r, x, rho, tolerance = near(memory, fraction, seed)
    miss = float((x - energies.distance_gradient(x, rho, beta) / 2 - rho[0]).norm())
    bound = float(step_bound(distances, r, beta))
    d = distances[0]
    simple = len(d) * float(d.max()) * math.exp(-beta * float(d.min() ** 2 - 2 * r * d.min()))
    assert miss <= bound + tolerance
    assert bound <= simple + tolerance


@few
@given(memories(2), betas, st.floats(0.01, 0.99), seeds)
def test_a_certified_pattern_keeps_its_ball(memory, beta, fraction, seed):
    """The certificate is sufficient: the next state is in the ball again, and two states of it draw together."""
    distances, r, x, rho, tolerance = near(memory, fraction, seed)
    assume(bool(stored(distances, r, beta)))
    y = 2 * rho[0] - x
    moved = [z - energies.distance_gradient(z, rho, beta) / 2 for z in (x, y)]
    assert all(float((z - rho[0]).norm()) <= float(r) + tolerance for z in moved)
    assert float((moved[0] - moved[1]).norm()) <= float((x - y).norm()) + tolerance


@few
@given(memories(2), betas, st.floats(0.01, 1), seeds)
def test_the_gap_between_energy_and_nearest_distance(memory, beta, fraction, seed):
    """0 ≤ g - E_β ≤ 1/β log(1 + Σ exp(-β(δ_ij² - 2rδ_ij))) within δ_i/2 of ρ_i."""
    distances, r, x, rho, tolerance = near(memory, fraction, seed)
    gap = float(energies.nn_energy(x, rho) - energies.distance_energy(x, rho, beta))
    tolerance += 1e-9 / beta
    assert -tolerance <= gap <= float(replacement_bound(distances, r, beta)) + tolerance


@few
@given(memories(2), betas, st.floats(0, 0.5), seeds)
def test_the_continuous_memory_retrieves_within_its_bound(memory, beta, r, seed):
    """|f(x) - ρ_i| ≤ 2M(d-1) exp(-β(Δ_i - 2Mr)), any patterns, M the largest norm."""
    _, _, x, rho, tolerance = near(memory, 0.5, seed)
    x = rho[0] + r * (x - rho[0]) / (x - rho[0]).norm()
    miss = float((x - energies.mchn_gradient(x, rho, beta) - rho[0]).norm())
    assert miss <= float(attention_bound(rho, r, beta)[0]) + tolerance


@few
@given(st.integers(2, 8), st.integers(3, 6), st.floats(3, 12), st.floats(0, 1), seeds)
def test_the_bound_of_ramsauer_et_al_on_spheres(m, n, radius, fraction, seed):
    """Within 1/(βdM) of a separated pattern the update errs by at most 2(d-1)M exp(-β(Δ_i - 2mM)) (2008.02217)."""
    way = normal(seed, m + 1, n)
    rho = radius * way[:m] / way[:m].norm(dim=-1, keepdim=True)
    separation = float((rho[0] @ rho[0] - rho[1:] @ rho[0]).min())
    beta = 1.0
    assume(separation >= 2 / (beta * m) + math.log(2 * (m - 1) * m * beta * radius**2) / beta)
    r = fraction / (beta * m * radius)
    x = rho[0] + r * way[m] / way[m].norm()
    fixed = rho[0]
    for _ in range(60):
        fixed = fixed - energies.mchn_gradient(fixed, rho, beta)
    far = max(float((x - rho[0]).norm()), float((fixed - rho[0]).norm()))
    rate = math.exp(-beta * (separation - 2 * far * radius))
    image = x - energies.mchn_gradient(x, rho, beta)
    assert float((image - rho[0]).norm()) <= 2 * (m - 1) * radius * rate + 1e-9
    contraction = 2 * beta * m * radius**2 * (m - 1) * rate
    assert float((image - fixed).norm()) <= contraction * float((x - fixed).norm()) + 1e-9


@few
@given(memories(2), memories(), betas)
def test_the_weighted_mixture_of_layers_majorizes_the_global_energy(memory, other, beta):
    """Q ≥ E_global everywhere and Q = E_global where the weights were taken: what eq. 8 alone does not give."""
    x, rho, tolerance = memory
    y = torch.zeros_like(x)
    y[: len(other[0])] = other[0][: len(x)]
    parts = (rho[::2], rho[1::2])
    here, there = (torch.stack([energies.distance_energy(z, p, beta) for p in parts]) for z in (x, y))
    tolerance += other[2] + 1e-9 / beta
    assert float(majorizer(there, here, beta)) >= float(global_energy(there, beta)) - tolerance
    assert float(majorizer(here, here, beta)) == pytest.approx(float(global_energy(here, beta)), abs=tolerance)


@few
@given(memories(2), st.floats(0.01, 10))
def test_a_step_of_the_lowest_layer_rises_by_at_most_log_l(memory, radius):
    """The closed form of eq. 6 lowers its own layer; E_global then rises by no more than log l."""
    x, rho, tolerance = memory
    parts = [rho[::2], rho[1::2]]

    def stack(z):
        return torch.stack([energies.nn_energy(z, part) for part in parts])

    lowest = int(stack(x).argmin())
    moved = nearest_step(x, parts[lowest], radius)
    assert float((moved - x).norm()) <= radius + tolerance
    assert float(stack(moved)[lowest]) <= float(stack(x)[lowest]) + tolerance
    assert float(global_energy(stack(moved))) <= float(global_energy(stack(x))) + math.log(2) + tolerance

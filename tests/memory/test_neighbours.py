"""The exact search: against float64 brute force, on hard vectors, with masks, split in any way."""

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from memscape.errors import ShapeError
from memscape.memory import energies as e
from memscape.memory.eager import eager
from memscape.memory.epilogue import compiled
from memscape.memory.neighbours import beta_for, merge, search, steps, temperature
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import BFLOAT16, FLOAT32, FLOAT64, Asked
from memscape.memory.shards import Shards
from tests.memory.problems import activations, assert_exact, brute_force


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("shape", [(37, 501, 9), (5, 4097, 64), (130, 70, 200), (3, 4, 1)])
def test_neighbours_and_energy_equal_float64_brute_force(dtype, k, shape):
    """Odd sizes, every dtype, more neighbours than patterns."""
    n_queries, n_patterns, width = shape
    generator = torch.Generator().manual_seed(0)
    patterns = (torch.randn(n_patterns, width, generator=generator) + 2).to(dtype)
    queries = (torch.randn(n_queries, width, generator=generator) + 2).to(dtype)
    found = search(queries, patterns, k, beta=0.5)
    table, _, energy = brute_force(Pairs(queries, patterns), k, 0.5)
    assert_exact(found.index, found.distance, table, k)
    assert found.certified.all()
    assert (found.energy.double() - energy).abs().le(1e-4 * energy.abs().clamp_min(2)).all()
    assert (found.error.double() >= (found.energy.double() - energy).abs() * (1 - 1e-6)).all()
    assert found.distance.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("width", [64, 576])
def test_vectors_like_real_activations_are_searched_exactly(k, width):
    """Outlier components, a far mean, first positions 159 times longer, exact and near duplicates."""
    patterns = activations(1500, width, 1)
    found = search(patterns, patterns, k, beta=1e-3, self_index=torch.arange(1500))
    table, _, energy = brute_force(Pairs(patterns, patterns, self_index=torch.arange(1500)), k, 1e-3)
    assert_exact(found.index, found.distance, table, k)
    assert (found.energy - energy).abs().le(1e-4 * energy.abs().clamp_min(1e3)).all()


def test_many_exact_duplicates_come_lowest_index_first():
    """More ties than any candidate list holds: 3,000 copies of one vector."""
    patterns = torch.randn(4000, 16)
    patterns[500:3500] = patterns[500]
    found = search(patterns[[500, 0]], patterns, 5)
    assert found.index[0].tolist() == [500, 501, 502, 503, 504]
    assert (found.distance[0] == 0).all()


@pytest.mark.parametrize("method", [compiled, eager])
@pytest.mark.parametrize("level", [BFLOAT16, FLOAT32])
def test_every_level_bounds_its_own_error(method, level):
    """Rows a level certifies are right, and its energy lies within the error it admits, without the other levels."""
    patterns = activations(900, 96, 3)
    pairs = Pairs(patterns[:200] + 0.1, patterns)
    for beta in (1e-3, 1e-1):
        found, _ = method(level, pairs, Asked(5, beta))
        table, _, energy = brute_force(pairs, 5, beta)
        sure = found.certified
        assert sure.float().mean() > 0.5
        assert_exact(found.index[sure], found.distance[sure], table[sure], 5)
        assert ((found.energy - energy).abs() <= found.error + 1e-6 * energy.abs() + 1e-9)[sure].all()


def test_levels_end_in_float64_and_float64_energies_are_float64():
    """Whoever asks in float64 gets 1e-12, not a rounding of it."""
    patterns, queries = torch.randn(300, 12, dtype=torch.float64), torch.randn(9, 12, dtype=torch.float64)
    assert len(steps(Pairs(queries, patterns), Asked(1, 1.0))) == 1
    found = search(queries, patterns, 2, beta=0.9, mean=True)
    assert torch.allclose(found.energy, e.distance_energy(queries, patterns, 0.9), atol=1e-11)
    shares = e.responsibilities(queries, patterns, 0.9)
    assert torch.allclose(found.mean, shares @ patterns, atol=1e-11)
    assert FLOAT64.unit < 1.2e-16


@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 199), max_size=4),
    k=st.integers(1, 6),
    beta=st.floats(0.01, 3),
)
@settings(max_examples=40, deadline=None)
def test_any_split_of_the_patterns_gives_the_same_answer(seed, cuts, k, beta):
    """Energies merge by logaddexp, neighbours by top-k, mean shifts by shares."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    queries = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    patterns[50:60] = patterns[150:160]
    groups, own = torch.arange(200) % 9, torch.arange(7) % 9
    whole = search(queries, patterns, k, beta=beta, mean=True, query_groups=own, pattern_groups=groups)
    edges = [0, *sorted(set(cuts)), 200]
    parts = [
        search(queries, patterns[a:b], k, beta=beta, mean=True, query_groups=own, pattern_groups=groups[a:b]).shifted(a)
        for a, b in itertools.pairwise(edges)
    ]
    merged = merge(parts)
    assert torch.equal(merged.index, whole.index)
    for name in ("distance", "energy", "mean"):
        assert torch.allclose(getattr(merged, name), getattr(whole, name), rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masked_pairs_never_meet(dtype):
    """No neighbour of one's own document, none in the energy either; a query without any gets infinity."""
    patterns = torch.randn(300, 8, dtype=dtype)
    groups = torch.arange(300) // 30
    found = search(patterns, patterns, 4, beta=0.3, query_groups=groups, pattern_groups=groups)
    assert (groups[found.index] != groups[:, None]).all()
    pairs = Pairs(patterns, patterns, groups, groups)
    assert torch.allclose(found.energy.double(), brute_force(pairs, 4, 0.3)[2], rtol=1e-4, atol=1e-4)
    alone = search(patterns[:2], patterns[:30], 2, beta=0.3, query_groups=groups[:2], pattern_groups=groups[:30])
    assert alone.index.tolist() == [[-1, -1]] * 2
    assert alone.energy.isinf().all()
    assert alone.distance.isinf().all()


def test_the_search_is_differentiable_in_the_state():
    """Gradients of energy and distances equal those of the plain functions under autograd."""
    patterns = torch.randn(120, 7, dtype=torch.float64)
    state = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    found = search(state, patterns, 3, beta=0.8)
    (ours,) = torch.autograd.grad(found.energy.sum() + found.distance.square().sum(), state)
    near = e.squared_distances(state, patterns).sort(dim=1).values[:, :3]
    plain = e.distance_energy(state, patterns, 0.8).sum() + near.square().sum()
    (theirs,) = torch.autograd.grad(plain, state)
    assert torch.allclose(ours, theirs, atol=1e-10)


def test_shards_on_disk_answer_like_memory(tmp_path):
    """Blocks of several sizes; rows read back by index; a second write replaces the first."""
    patterns = torch.randn(500, 10)
    Shards.write(tmp_path, patterns.split(50))
    bank = Shards.write(tmp_path, patterns.split(120))
    queries = torch.randn(6, 10, requires_grad=True)
    ours, theirs = search(queries, bank, 3, beta=0.5), search(queries, patterns, 3, beta=0.5)
    assert bank.shape == (500, 10)
    assert torch.equal(ours.index, theirs.index)
    assert torch.allclose(ours.energy, theirs.energy, rtol=1e-4)
    assert torch.equal(bank.rows(torch.tensor([499, 0, 120])), patterns[[499, 0, 120]])


@given(target=st.floats(1.5, 40), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_beta_for_reaches_the_effective_number_asked_for(target, seed):
    """The median exp H(p) at the chosen beta is the target."""
    generator = torch.Generator().manual_seed(seed)
    patterns, queries = torch.randn(300, 5, generator=generator), torch.randn(41, 5, generator=generator)
    beta = beta_for(queries, patterns, target)
    shares = e.responsibilities(queries.double(), patterns.double(), beta)
    assert e.entropy(shares).exp().median().item() == pytest.approx(target, rel=0.01)


def test_wrong_arguments_say_what_was_expected():
    """One line each: expected, got, next move."""
    x = torch.randn(4, 3)
    with pytest.raises(ShapeError, match="beta > 0"):
        search(x, x, beta=-1.0)
    with pytest.raises(ShapeError, match="k of 1 or more"):
        search(x, x, 0)
    with pytest.raises(ShapeError, match="both, got one"):
        Pairs(x, x, query_groups=torch.arange(4)).check()
    with pytest.raises(ShapeError, match="only duplicates"):
        temperature(torch.zeros(3, 5))
    with pytest.raises(ShapeError, match="effective="):
        temperature(torch.rand(3, 5), 50.0)
    assert math.isfinite(temperature(torch.rand(3, 5), 2.0))

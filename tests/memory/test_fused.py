"""The GPU kernel's numerics, run by Triton's interpreter on a CPU: odd sizes, masks, every way of cutting the work."""

import math

import pytest
import torch
import triton

from memscape.memory import energies as e
from memscape.memory.fused import Tiling, fused
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import Asked
from tests.memory.problems import activations, assert_exact, brute_force


def cut(width: int, group: int = 32) -> Tiling:
    """Small tiles, so that odd sizes leave rests in every direction."""
    return Tiling(16, 64, 32 if width > 64 else max(16, triton.next_power_of_2(width)), group, 4, 2)


@pytest.mark.parametrize(
    ("n_queries", "n_patterns", "width", "dtype", "split"),
    [
        (18, 150, 9, torch.float32, True),
        (5, 200, 64, torch.bfloat16, False),
        (3, 70, 80, torch.float16, False),
        (4, 133, 100, torch.bfloat16, True),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_the_kernel_equals_float64_brute_force(n_queries, n_patterns, width, dtype, split, masked, k):
    """Neighbours exactly, energy to 1e-5 (1e-4 of split vectors), with document and self masks."""
    generator = torch.Generator().manual_seed(width)
    patterns = (torch.randn(n_patterns, width, generator=generator) + 1).to(dtype)
    queries = (torch.randn(n_queries, width, generator=generator) + 1).to(dtype)
    patterns[20:40] = patterns[:20]
    queries[0] = patterns[3]
    masks = ()
    if masked:
        own = torch.full((n_queries,), -1)
        own[0] = 3
        masks = (
            torch.arange(n_queries) % 4,
            torch.arange(n_patterns) % 4 + 2**40 * (torch.arange(n_patterns) % 2),
            own,
        )
    pairs, beta = Pairs(queries, patterns, *masks), 1 / math.sqrt(width)
    found, settled = fused(pairs, Asked(k, beta), split=split, tiling=cut(width, 64 if k == 1 else 32))
    table, _, energy = brute_force(pairs, k, beta)
    assert_exact(found.index[settled], found.distance[settled], table[settled], k)
    assert settled.float().mean() > 0.9
    assert ((found.energy - energy).abs() <= (1e-4 if split else 1e-5) * energy.abs().clamp_min(1 / beta)).all()
    assert ((found.energy - energy).abs() <= found.error).all()
    assert torch.allclose(found.entropy, e.entropy((-beta * table).softmax(1)), atol=1e-3 if split else 1e-4)


def test_rows_the_kernel_cannot_prove_are_handed_on():
    """Vectors like real activations, uncentred: what is certified is right, and split products certify no less."""
    patterns = activations(200, 48, 5).bfloat16()
    pairs = Pairs(patterns[:12] + 1, patterns)
    table, _, _ = brute_force(pairs, 2)
    shares = []
    for split in (False, True):
        found, settled = fused(pairs, Asked(2, None), split=split, tiling=cut(48))
        assert_exact(found.index[settled], found.distance[settled], table[settled], 2)
        shares.append(settled.float().mean())
    assert shares[1] >= max(shares[0], 0.5)


def test_a_query_without_partners_has_infinite_energy():
    """All pairs masked: no index, no distance, no energy, and nothing left to settle."""
    patterns = torch.randn(70, 16).bfloat16()
    groups = torch.zeros(70, dtype=torch.int64)
    pairs = Pairs(patterns[:3], patterns, groups[:3], groups)
    found, _ = fused(pairs, Asked(1, 1.0), tiling=cut(16))
    assert found.energy.isinf().all()
    assert (found.index == -1).all()
    assert (found.entropy == 0).all()

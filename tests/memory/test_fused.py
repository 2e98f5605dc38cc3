"""The GPU kernel's numerics, run by Triton's interpreter on a CPU: odd sizes, masks, every way of cutting the work."""

import math
import os
import subprocess
import sys

import pytest
import torch
import triton

from memscape.memory.fused import Tiling, _highest, _pick, _ranked, fused
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import Asked
from memscape.memory.union import ranked
from tests.memory.problems import assert_exact, brute_force


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


def test_split_products_settle_what_plain_ones_cannot():
    """Far from the origin a product of raw vectors loses the distance; centred and split it settles nearly all rows."""
    patterns = (200 + torch.randn(700, 48, generator=torch.Generator().manual_seed(5))).half()
    pairs = Pairs(patterns[:24], patterns, self_index=torch.arange(24))
    table, _, _ = brute_force(pairs, 2)
    shares = []
    for split in (False, True):
        found, settled = fused(pairs, Asked(2, None), split=split, tiling=cut(48))
        assert_exact(found.index[settled], found.distance[settled], table[settled], 2)
        shares.append(settled.float().mean().item())
    assert shares[0] < 0.8
    assert shares[1] > 0.95


@pytest.mark.parametrize("n", [1, 7, 19, 40])
def test_rows_are_ranked_as_anywhere_else(n):
    """In one launch the same order as `ranked`: chains of ties by index, infinite distances last."""
    generator = torch.Generator().manual_seed(n)
    distance = 1 + torch.randint(0, 4, (6, n), generator=generator).double()
    distance *= 1 + 4e-7 * torch.randint(0, 4, (6, n), generator=generator)
    distance[torch.rand(6, n, generator=generator) < 0.2] = math.inf
    index = torch.stack([torch.randperm(50, generator=generator)[:n] for _ in range(6)])
    for k in {1, (n + 1) // 2, n}:
        for found, wanted in zip(_ranked(distance, index, k), ranked(distance, index, k), strict=True):
            assert torch.equal(found, wanted)


def test_the_highest_are_picked_as_topk_does_with_the_first_among_equals():
    """Whole rows, lowest values, and groups inside the chosen runs."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 300, (5, 320), generator=generator).float()
    for sign in (1, -1):
        best, places = _pick(values, 6, sign)
        assert torch.equal(best, values.topk(6, dim=1, largest=sign > 0).values)
        assert torch.equal(values.gather(1, places), best)
        assert all((row[:p] != row[p]).all() for row, (p, *_) in zip(values, places.tolist(), strict=True))
    best, places = _highest(values, 6)
    assert torch.equal(best, values.topk(6, dim=1).values)
    assert torch.equal(values.gather(1, places), best)
    assert all(len(set(row)) == 6 for row in places.tolist())


def test_a_query_without_partners_has_infinite_energy():
    """All pairs masked: no index, no distance, no energy, and nothing left to settle."""
    patterns = torch.randn(70, 16).bfloat16()
    groups = torch.zeros(70, dtype=torch.int64)
    pairs = Pairs(patterns[:3], patterns, groups[:3], groups)
    found, _ = fused(pairs, Asked(1, 1.0), tiling=cut(16))
    assert found.energy.isinf().all()
    assert (found.index == -1).all()


HOPPER = """
from triton import compile, language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from memscape.memory import kernels
from memscape.memory.fused import Tiling

DOUBLE, FLAG, LONG = {"energy", "error", "missed"}, {"proven"}, {"groups", "spots", "index", "runs", "places"}
SMALL = {"query_groups", "pattern_groups", "self_index"}
WHOLE = {"n_queries", "n_patterns", "n_groups", "span", "n_taken", "n_peaks", "n_kept", "n_spans", "n_rows", "n_runs",
    "n", "count"}
REAL = {"scale", "sigma", "beta", "gap", "residue", "summing"}

def build(kernel, warps=4, stages=3, double=(), **constants):
    def kind(name):
        if name in constants:
            return "constexpr"
        if name in WHOLE | REAL:
            return "i32" if name in WHOLE else "fp32"
        if name in ("queries", "patterns", "parts"):
            return "*bf16"
        groups = ((DOUBLE | set(double), "*fp64"), (FLAG, "*i1"), (LONG, "*i64"), (SMALL, "*i32"))
        return next((type for names, type in groups if name in names), "*fp32")

    signature = {name: kind(name) for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(signature) if signature[n].startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})

for width, split in ((64, False), (100, False), (1024, False), (1024, True)):
    cut, masks = Tiling.of(3 * width if split else width), {"GROUPS": width < 128, "SELF": width < 128}
    built = build(kernels.scan, cut.warps, cut.stages, D=width, SPLIT=split, BQ=cut.BQ, BM=cut.BM, BK=cut.BK,
        GROUP=cut.GROUP, ENERGY=True, OPERAND=tl.bfloat16, FLAT=cut.flat, **masks)
    assert "wgmma.mma_async" in built.asm["ptx"]
    assert built.metadata.shared < 227 * 1024
    build(kernels.rescore, K=10, D=width, BK=64, GROUP=cut.GROUP, **masks)
    build(kernels.summits, RUN=16, ROWS=256)
    build(kernels.pick, 1, SIGN=1, RUN=16, N=512)
    build(kernels.pick, 4, SIGN=-1, RUN=1, N=4096)
    build(kernels.rank, 1, double={"distance", "ranked"}, K=10, N=32, TIE=1e-6)
    build(kernels.refine, double={"distance"}, D=width, BK=64, GROUP=cut.GROUP)
    build(kernels.prepare, D=width, BK=128, ROWS=32, SPLIT=split)
for whole in (True, False):
    build(kernels.conclude, double={"distance"}, K=10, BQ=64, ALL_KEPT=whole, ALL_TAKEN=whole, ENERGY=True)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_that_is_not_here():
    """What the interpreter accepts a compiler may not: all kernels, for an H100, products on its tensor cores."""
    told = subprocess.run(
        [sys.executable, "-c", HOPPER], env={**os.environ, "TRITON_INTERPRET": "0"}, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr[-2000:]

"""Neighbour problems with known difficulties, and the float64 answer to each by brute force."""

import math

import torch
from torch import Tensor

from memscape.memory.pairs import Pairs


def activations(n: int, width: int, seed: int) -> Tensor:
    """Return vectors as a trained transformer makes them.

    A far mean, one component of 26,000, first positions 159 times longer, near and exact duplicates.
    """
    generator = torch.Generator().manual_seed(seed)
    low_rank = torch.randn(n, 12, generator=generator) @ torch.randn(12, width, generator=generator)
    vectors = (
        3 * low_rank + 0.5 * torch.randn(n, width, generator=generator) + 20 * torch.randn(width, generator=generator)
    )
    vectors[::64] *= 159
    vectors[::64, 3] = 26_000 + torch.randn(len(vectors[::64]), generator=generator)
    vectors[n // 2 : n // 2 + n // 8] = vectors[: n // 8]
    vectors[-5:] = vectors[1] + 1e-3 * torch.randn(5, width, generator=generator)
    return vectors


def brute_force(pairs: Pairs, k: int, beta: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return all squared distances in float64 (infinite where banned), the k first, and the energy."""
    table = torch.cat([(q[None].double() - pairs.patterns.double()).square().sum(1)[None] for q in pairs.queries])
    banned = pairs.banned(0, table.shape[1])
    if banned is not None:
        table = table.masked_fill(banned, math.inf)
    energy = -(-(beta or 1.0) * table).logsumexp(1) / (beta or 1.0)
    return table, table.sort(dim=1, stable=True).values[:, :k], energy


def assert_exact(index: Tensor, distance: Tensor, table: Tensor, k: int) -> None:
    """Fail unless these are the k nearest by float64, ties within 1e-6 aside, lowest index first, distances to 1e-5."""
    if table.shape[1] < k:
        table = torch.nn.functional.pad(table, (0, k - table.shape[1]), value=math.inf)
    best = table.sort(dim=1, stable=True).values[:, :k]
    found = torch.where(index < 0, math.inf, table.gather(1, index.clamp_min(0)))
    same = (found - best).abs() <= 2e-6 * best
    assert (same | (found.isinf() & best.isinf())).all()
    floor = 1e-6 * table[table.isfinite()].median()
    real = found.isfinite()
    assert ((distance.double() - found).abs() <= 1e-5 * found.clamp_min(floor))[real].all()
    # Where the order is plain, and among exact duplicates, the index itself is settled.
    first = table.sort(dim=1, stable=True).indices[:, :k]
    ordered = table.gather(1, table.sort(dim=1, stable=True).indices[:, : k + 1])
    after, before = ordered[:, 1:], ordered[:, :-1]
    close = (after - before <= 1e-5 * after) & (after > before) & after.isfinite()
    plain = ~close.any(1)
    assert plain.any()
    assert (torch.where(best.isinf(), -1, first) == index)[plain].all()

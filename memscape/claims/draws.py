"""Random memories on which a statement about energies is tried: of many shapes, some of which break things.

Each `Draw` is a batch of states with a bank of patterns each, in float64. The geometries: Gaussian clouds of any
scale, patterns on a sphere (equal norms), lattice corners with many equal distances, near-duplicates, one pattern.

>>> sum(len(draw.states) for draw in draws(1000, seed=0))
1000
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

GEOMETRIES = ("cloud", "sphere", "corners", "duplicates", "single")


class Draw(NamedTuple):
    """A batch of random memories of one shape."""

    states: Tensor
    """(B, D)"""
    patterns: Tensor
    """(B, M, D): a bank for each state."""
    beta: float
    """Inverse squared distance."""
    geometry: str

    @property
    def n_patterns(self) -> int:
        """M, the paper's d."""
        return self.patterns.shape[-2]

    @property
    def norm_gap(self) -> Tensor:
        """Δ = max |ρ|² - min |ρ|², (B,)."""
        norms = self.patterns.square().sum(-1)
        return norms.amax(-1) - norms.amin(-1)

    @property
    def tolerance(self) -> Tensor:
        """What float64 may cost: 1e-9 (1 + largest squared norm), (B,)."""
        size = self.patterns.square().sum(-1).amax(-1) + self.states.square().sum(-1)
        return 1e-9 * (1 + size + 1 / self.beta)


def draws(n: int, seed: int, geometry: str | None = None) -> Iterator[Draw]:
    """Yield `n` memories in 80 batches of one shape, all geometries in turn (or one), each at its own β and scale."""
    batch = -(-n // 80)
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    for k, start in enumerate(range(0, n, batch)):
        size = min(batch, n - start)
        kind = geometry or GEOMETRIES[k % len(GEOMETRIES)]
        dim = int(2 ** uniform(0, 4.5))
        n_patterns = 1 if kind == "single" else int(2 ** uniform(1, 5.5))
        patterns = torch.randn(size, n_patterns, dim, dtype=torch.float64, generator=generator)
        if kind == "sphere":
            patterns = math.sqrt(dim) * patterns / patterns.norm(dim=-1, keepdim=True)
        elif kind == "corners":
            patterns = patterns.sign()
        elif kind == "duplicates":
            patterns[:, ::2] = patterns[:, :1] + 1e-4 * patterns[:, ::2]
        noise = torch.randn(size, dim, dtype=torch.float64, generator=generator)
        states = patterns[:, 0] * uniform(0, 1) + noise * uniform(0, 1.5)
        scale = 2 ** uniform(-2, 2)
        beta = 2 ** uniform(-4, 4) / dim
        yield Draw(scale * states, scale * patterns, beta, kind)

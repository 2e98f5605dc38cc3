"""What does rounding take from a distance, and what can still be proven about the energy?

Vectors are centred, then stored in few bits; the residue, what storing took away, has a known norm r. For stored
queries and patterns |d - d~| <= r_x + r_p, d~ their own distance, and a sum of D terms errs by at most D units. The k
nearest are rescored in float64 and carry their exact share of the energy; sums over all others are kept twice, as
computed and at the largest they could be.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memscape.memory.pairs import Pairs
from memscape.memory.union import Neighbours, ranked


@dataclass(frozen=True)
class Asked:
    """What a search is to find, and how well."""

    k: int
    beta: float | None
    mean: bool = False
    tolerance: float = 1e-4
    """Of the energy as it is to be expected, relative to max(|E|, 1/beta)."""


@dataclass(frozen=True)
class Level:
    """A precision: what vectors are rounded to, what sums are kept in, and what a stored product loses."""

    stored: torch.dtype
    summed: torch.dtype
    spill: float = 0.0
    """Relative error of 2 s when the product is stored in `stored` rather than `summed`."""

    @property
    def unit(self) -> float:
        return torch.finfo(self.summed).eps / 2

    def gap(self, width: int) -> float:
        """Relative error of n_x + n_p - 2 s from sums of `width` terms; the norms bound the product."""
        return 2 * (width + 8) * self.unit


BFLOAT16 = Level(torch.bfloat16, torch.float32, spill=1.01 * 2**-8)
FLOAT32 = Level(torch.float32, torch.float32)
FLOAT64 = Level(torch.float64, torch.float64)


@dataclass(frozen=True)
class Rounded:
    """Centred vectors as a level stores them, and what rounding took away."""

    stored: Tensor
    norm: Tensor
    """|stored|^2."""
    residue: Tensor
    """|vector - stored|, at most."""

    @classmethod
    def at(cls, level: Level, vectors: Tensor, centre: Tensor) -> "Rounded":
        wide = torch.promote_types(level.summed, vectors.dtype)
        away = vectors.to(wide) - centre.to(wide)
        stored = away.to(level.stored)
        kept = stored.to(wide)
        norm = kept.square().sum(1)
        lost = (away - kept).norm(dim=1) if level.stored != wide else torch.zeros_like(norm)
        residue = lost + 1.01 * torch.finfo(wide).eps / 2 * (norm.sqrt() + lost)
        return cls(stored, norm.to(level.summed), residue.to(level.summed))


@dataclass
class Sums:
    """Per row, the part of the energy that no candidate carries: sums of t = exp(-beta (d^2 - level))."""

    level: Tensor
    sum: Tensor
    ceiling: Tensor
    """Of the largest that t could be."""

    @classmethod
    def empty(cls, n: int, device: torch.device) -> "Sums":
        zeros = torch.zeros(2, n, dtype=torch.float64, device=device)
        return cls(torch.full_like(zeros[0], math.inf), *zeros)

    def absorb(self, cells: Tensor, beta: float) -> None:
        """Take in squared distances and their errors, stacked (2, Q, N)."""
        if cells.shape[2] == 0:
            return
        level = torch.minimum(self.level, cells[0].amin(1).double())
        away = beta * (cells[0] - level[:, None]).nan_to_num(math.inf)
        terms = (-away).exp()
        scale = (-torch.where(self.sum > 0, beta * (self.level - level), 0.0)).exp()
        self.sum = scale * self.sum + terms.sum(1)
        self.ceiling = (
            torch.where(self.ceiling.isinf(), math.inf, scale * self.ceiling)
            + (beta * cells[1] - away).exp().sum(1).double()
        )
        self.level = level


def answer(
    asked: Asked, distance: Tensor, index: Tensor, near: Tensor, sums: Sums, certified: Tensor
) -> tuple[Neighbours, Tensor]:
    """Return (Neighbours, which rows need no wider numbers) from the candidates (Q, C) and the sums over all others.

    `distance` is exact, `near` what this level made of it: their differences tell what error to expect of the sums.
    """
    beta = asked.beta
    best, place = ranked(distance, index, asked.k)
    found = Neighbours(best, place, certified)
    if beta is None:
        return found, certified
    base = torch.minimum(distance.amin(1), sums.level).clamp_max(torch.finfo(torch.float64).max)
    terms = (-beta * (distance - base[:, None])).exp()
    scale = torch.where(sums.sum > 0, (-beta * (sums.level - base)).exp(), 0.0)
    rest = scale * sums.sum
    total = terms.sum(1) + rest
    some = total > 0
    energy = torch.where(some, base - total.log() / beta, math.inf)
    over = torch.where(sums.ceiling.isinf(), math.inf, scale * (sums.ceiling - sums.sum))
    doubt = torch.where(some, (over + 1e-6 * rest) / total, 0.0)
    error = -torch.log1p(-doubt.clamp_max(1)) / beta + 1e-15 * (energy.abs().nan_to_num(posinf=0.0) + 1 / beta)

    real = distance.isfinite()
    n = real.sum(1)
    missed = (distance - near).masked_fill(~real, 0)
    centre = missed.sum(1) / n
    spread = ((missed - centre[:, None]).masked_fill(~real, 0).square().sum(1) / n).sqrt()
    expected = torch.where(n >= 8, rest / total * (centre.abs() + 3 * spread), error)
    limit = asked.tolerance * energy.abs().clamp_min(1 / beta)
    settled = certified & ((error <= limit) | (expected <= limit) | ~some)
    return replace(found, beta=beta, energy=energy, error=error), settled


def with_mean(found: Neighbours, pairs: Pairs, distance: Tensor, index: Tensor, rest: Tensor) -> Neighbours:
    """Add the mean shift: the candidates' exact part and `rest`, the part of all others."""
    assert found.beta is not None
    assert found.energy is not None
    shares = (-found.beta * (distance - found.energy[:, None])).exp().nan_to_num(0.0)
    mean = rest.double()
    rows = max(1, 2**22 // max(1, index.shape[1] * pairs.queries.shape[1]))
    for a in range(0, len(index), rows):
        near = pairs.patterns[index[a : a + rows].clamp_min(0)].double()
        mean[a : a + rows] += (shares[a : a + rows, None] @ near).squeeze(1)
    return replace(found, mean=mean)

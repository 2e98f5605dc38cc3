"""How do answers over parts of the patterns, or of the queries, become one answer?

Neighbours merge by top-k, energies by -1/beta logaddexp(-beta E), mean shifts by the parts' shares. Any
split gives the same answer, which is what lets patterns lie on several devices, disks or machines.

>>> merge([search(x, patterns[:500], 3), search(x, patterns[500:], 3).shifted(500)])  # equals search(x, patterns, 3)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

TIE = 1e-6
"""Squared distances closer than this, relatively, are one distance: the lowest index comes first."""
COLUMNS = ("distance", "index", "certified", "energy", "error", "mean")
"""The tensors of an answer, a row a query."""


@dataclass(frozen=True)
class Neighbours:
    """What one pass over the patterns found for each query."""

    distance: Float[Tensor, "Q K"]
    """Squared distances, rising; infinite where fewer than K patterns were allowed."""
    index: Int[Tensor, "Q K"]
    """Their patterns; -1 where there is none."""
    certified: Bool[Tensor, " Q"]
    """Whether an error bound proves that these are the K nearest."""
    beta: float | None = None
    """Inverse squared distance of the energy; None if no energy was asked for."""
    energy: Float[Tensor, " Q"] | None = None
    """E_beta in squared distance; infinite where every pattern was excluded."""
    error: Float[Tensor, " Q"] | None = None
    """A proven bound of the energy's error, in squared distance; the error met is typically 30 times smaller."""
    mean: Float[Tensor, "Q D"] | None = None
    """The mean shift sum_i p_i rho_i, if it was asked for."""

    def shifted(self, offset: int) -> "Neighbours":
        """Return the same neighbours with indices counted from `offset`: a shard's rows within the whole."""
        if offset == 0:
            return self
        return replace(self, index=torch.where(self.index < 0, self.index, self.index + offset))

    def at(self, device: torch.device) -> "Neighbours":
        """Return the same answer on another device."""
        return replace(self, **{n: v.to(device) for n in COLUMNS if (v := getattr(self, n)) is not None})

    def to(self, dtype: torch.dtype) -> "Neighbours":
        """Return the same answer with its real numbers in `dtype`; the energy's rounding joins its error."""
        columns = {n: v.to(dtype) for n in COLUMNS if (v := getattr(self, n)) is not None and v.is_floating_point()}
        if self.error is not None and self.energy is not None and dtype != torch.float64:
            lost = torch.finfo(dtype).eps * self.energy.abs().nan_to_num(posinf=0.0)
            columns["error"] = (self.error + lost).to(dtype)
        return replace(self, **columns)


def concatenate(parts: Sequence[Neighbours]) -> Neighbours:
    """Return the answers for all queries from answers for blocks of queries against the same patterns."""
    if len(parts) == 1:
        return parts[0]
    joined = {n: torch.cat([getattr(p, n) for p in parts]) for n in COLUMNS if getattr(parts[0], n) is not None}
    return replace(parts[0], **joined)


def merge(parts: Sequence[Neighbours]) -> Neighbours:
    """Return the answer over all patterns from answers over parts of them, the same queries in each.

    Indices must count from one origin (`shifted`). With w_a = softmax_a(-beta E_a) over the parts,
    E = -1/beta log sum_a exp(-beta E_a) and m = sum_a w_a m_a.
    """
    k = max(p.distance.shape[1] for p in parts)
    distance, index = ranked(torch.cat([p.distance for p in parts], 1), torch.cat([p.index for p in parts], 1), k)
    certified = torch.stack([p.certified for p in parts]).all(0)
    found = replace(parts[0], distance=distance, index=index, certified=certified)
    if found.beta is None:
        return found
    columns = {n: torch.stack([getattr(p, n) for p in parts], 1) for n in COLUMNS[3:] if getattr(found, n) is not None}
    terms = -found.beta * columns["energy"]
    level = terms.logsumexp(1)
    shares = (terms - level[:, None]).exp().nan_to_num(0.0)
    return replace(
        found,
        energy=-level / found.beta,
        error=(shares.log() + found.beta * columns["error"]).logsumexp(1).clamp_min(0) / found.beta,
        mean=(shares[:, :, None] * columns["mean"]).sum(1) if "mean" in columns else None,
    )


def ranked(distance: Float[Tensor, "Q C"], index: Int[Tensor, "Q C"], k: int) -> tuple[Tensor, Tensor]:
    """Return the k first of each row by distance, runs of ties in order of their index; short rows end in inf, -1."""
    if distance.shape[1] < k:
        short = (0, k - distance.shape[1])
        distance, index = pad(distance, short, value=math.inf), pad(index, short, value=-1)
    distance, order = distance.sort(dim=1, stable=True)
    index = index.gather(1, order)
    tied = (distance[:, 1:] - distance[:, :-1] <= TIE * distance[:, 1:]) & distance[:, 1:].isfinite()
    run = pad((~tied).cumsum(1), (1, 0))
    by_index = index.argsort(dim=1, stable=True)
    order = by_index.gather(1, run.gather(1, by_index).argsort(dim=1, stable=True))[:, :k]
    return distance.gather(1, order), index.gather(1, order)

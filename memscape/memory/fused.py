"""How does a GPU search millions of patterns without ever writing a distance?

One Triton kernel holds a block of queries and walks over the patterns: products on the tensor cores, then, while they
are in registers, the running log-sum-exp of the energy and the best value of every group of patterns. Only those group
bests are written (1/128 of the table). The groups that can hold a neighbour are rescored exactly; a row is certified
when the next group cannot, by the bound of summing D products in float32.

Patterns and queries stored in 16 bits are multiplied as they are. Others, and rows that were not proven so, are centred
and split in two bfloat16 parts each, x = hi + lo, and the kernel multiplies (hi, lo, hi) with (hi, hi, lo): three times
the work for 8 bits more.
"""

# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false
# (Triton turns these functions into kernels; their launch and their constant branches are its own language.)
import math
from dataclasses import dataclass
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from memscape.memory.pairs import Pairs
from memscape.memory.rounding import Asked
from memscape.memory.union import TIE, Neighbours, ranked

FAR = tl.constexpr(-1e30)
"""Stands for minus infinity, so that 0 times it is 0."""
LOG2E = math.log2(math.e)


@triton.jit
@no_type_check  # a kernel is compiled from its source; it must not be wrapped
def _scan(
    queries, patterns, bias, query_groups, pattern_groups, self_index, best, level, total, heat,
    n_queries, n_patterns, n_groups, span, scale,
    D: tl.constexpr, BQ: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    ENERGY: tl.constexpr, GROUPS: tl.constexpr, SELF: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """Walk one block of queries over one span of patterns; t = scale x.p - bias is -beta (d^2 - |x|^2) in bits."""
    part = tl.program_id(1)
    row = tl.program_id(0) * BQ + tl.arange(0, BQ)
    safe_row = tl.minimum(row, n_queries - 1).to(tl.int64)
    wide = tl.arange(0, BK)
    if D <= BK:
        q = tl.load(queries + safe_row[:, None] * D + wide[None, :], mask=wide[None, :] < D, other=0.0)
    if GROUPS:
        own_group = tl.load(query_groups + safe_row)
    if SELF:
        own = tl.load(self_index + safe_row)
    top = tl.full((BQ,), FAR, tl.float32)
    mass = tl.zeros((BQ,), tl.float32)
    warmth = tl.zeros((BQ,), tl.float32)
    first = part * span
    last = tl.minimum(first + span, n_patterns)
    for start in range(first, last, BM):
        col = start + tl.arange(0, BM)
        safe_col = tl.minimum(col, n_patterns - 1).to(tl.int64)
        if D <= BK:
            if D == BK:
                p = tl.load(patterns + safe_col[:, None] * D + wide[None, :])
            else:
                p = tl.load(patterns + safe_col[:, None] * D + wide[None, :], mask=wide[None, :] < D, other=0.0)
            s = tl.dot(q.to(OPERAND), tl.trans(p.to(OPERAND)))
        else:
            s = tl.zeros((BQ, BM), tl.float32)
            for k in range(0, D, BK):
                at = (k + wide)[None, :]
                if D % BK == 0:
                    q = tl.load(queries + safe_row[:, None] * D + at)
                    p = tl.load(patterns + safe_col[:, None] * D + at)
                else:
                    q = tl.load(queries + safe_row[:, None] * D + at, mask=at < D, other=0.0)
                    p = tl.load(patterns + safe_col[:, None] * D + at, mask=at < D, other=0.0)
                s = tl.dot(q.to(OPERAND), tl.trans(p.to(OPERAND)), s)
        b = tl.load(bias + col, mask=col < n_patterns, other=-FAR)
        t = s * scale - b[None, :]
        if GROUPS:
            theirs = tl.load(pattern_groups + safe_col)
            t = tl.where(own_group[:, None] == theirs[None, :], FAR, t)
        if SELF:
            t = tl.where(own[:, None] == col[None, :], FAR, t)
        if GROUP == BM:
            peak = tl.max(t, 1)
            tl.store(best + safe_row * n_groups + start // GROUP, peak, mask=row < n_queries)
        else:
            peaks = tl.max(tl.reshape(t, (BQ, BM // GROUP, GROUP)), 2)
            group = start // GROUP + tl.arange(0, BM // GROUP)
            kept = (row < n_queries)[:, None] & (group < n_groups)[None, :]
            tl.store(best + safe_row[:, None] * n_groups + group[None, :], peaks, mask=kept)
            peak = tl.max(peaks, 1)
        if ENERGY:
            higher = tl.maximum(top, peak)
            drop = top - higher
            y = t - higher[:, None]
            e = tl.exp2(y)
            fade = tl.exp2(drop)
            warmth = fade * (warmth + mass * drop) + tl.sum(e * y, 1)
            mass = mass * fade + tl.sum(e, 1)
            top = higher
    if ENERGY:
        at = part * n_queries + safe_row
        tl.store(level + at, top, mask=row < n_queries)
        tl.store(total + at, mass, mask=row < n_queries)
        tl.store(heat + at, warmth, mask=row < n_queries)


@triton.jit
@no_type_check  # a kernel is compiled from its source; it must not be wrapped
def _rescore(
    queries, patterns, chosen, query_groups, pattern_groups, self_index, distance, n_patterns, n_chosen,
    D: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, SUM: tl.constexpr,
    GROUPS: tl.constexpr, SELF: tl.constexpr,
):  # fmt: skip
    """Squared distances of one query to the patterns of one chosen group, from the differences; infinite if banned."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.load(chosen + row * n_chosen + tl.program_id(1))
    col = group * GROUP + tl.arange(0, GROUP)
    allowed = (col >= 0) & (col < n_patterns)
    safe_col = tl.where(allowed, col, 0).to(tl.int64)
    if GROUPS:
        allowed = allowed & (tl.load(pattern_groups + safe_col) != tl.load(query_groups + row))
    if SELF:
        allowed = allowed & (col != tl.load(self_index + row))
    wide = tl.arange(0, BK)
    squares = tl.zeros((GROUP,), SUM)
    for k in range(0, D, BK):
        inside = (k + wide) < D
        q = tl.load(queries + row * D + k + wide, mask=inside, other=0.0).to(SUM)
        p = tl.load(patterns + safe_col[:, None] * D + (k + wide)[None, :], mask=inside[None, :], other=0.0).to(SUM)
        squares += tl.sum((p - q[None, :]) * (p - q[None, :]), 1)
    place = (row * n_chosen + tl.program_id(1)) * GROUP + tl.arange(0, GROUP)
    tl.store(distance + place, tl.where(allowed, squares, float("inf")))


@dataclass(frozen=True)
class Tiling:
    """How the scan is cut: queries and patterns a tile, coordinates a step, patterns a group, warps, stages."""

    BQ: int
    BM: int
    BK: int
    GROUP: int
    warps: int
    stages: int

    @classmethod
    def of(cls, width: int) -> "Tiling":
        """Return what was fastest on an H100 for vectors of this width."""
        if width <= 64:
            return cls(128, 128, max(16, triton.next_power_of_2(width)), 128, 4, 3)
        if width <= 128:
            return cls(128, 128, 128, 128, 4, 2)
        return cls(128, 256, 64, 32, 8, 3)


@dataclass(frozen=True)
class Operands:
    """Queries and patterns as the tensor cores take them, and what bounds the error of their distances."""

    queries: Tensor
    patterns: Tensor
    query_norm: Tensor
    """|x|^2 of the represented query, float32."""
    pattern_norm: Tensor
    gap: float
    """Relative error of n_x + n_p - 2 s: a unit a term of the product, |2 x.p| <= n_x + n_p; dropped low parts."""
    residue: float
    """What the representation may take from a vector, relative to its norm."""

    def doubt(self, n_x: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Return what |x - p|^2 may err by for any pattern within `reach` of x, and what its root may lose besides.

        Such a pattern is no longer than |x| + reach; a longer one, however wrong its product, lies further away.
        """
        longest = n_x.sqrt() + reach
        return self.gap * (n_x + longest.square()), self.residue * (n_x.sqrt() + longest)


def operands(pairs: Pairs, centre: Tensor | None) -> Operands:
    """Return 16-bit operands as they are stored (`centre` None), or centred and split in two bfloat16 parts."""
    x, p = pairs.queries, pairs.patterns
    unit = 2.0**-24  # tensor cores cut off rather than round, but only once in 16 terms
    if centre is None:
        norms = [torch.linalg.vector_norm(v, dim=1, dtype=torch.float32).square_() for v in (x, p)]
        return Operands(x.contiguous(), p.contiguous(), *norms, gap=(x.shape[1] + 32) * unit, residue=0.0)
    (x_hi, x_lo), (p_hi, p_lo) = (_halves(v, centre) for v in (x, p))
    norms = [(hi.float() + lo.float()).square_().sum(1) for hi, lo in ((x_hi, x_lo), (p_hi, p_lo))]
    three = torch.cat([x_hi, x_lo, x_hi], 1), torch.cat([p_hi, p_hi, p_lo], 1)
    return Operands(*three, *norms, gap=(3 * x.shape[1] + 32) * unit + 2.0**-17, residue=2.0**-17)


def _halves(vectors: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    away = vectors.float() - centre
    hi = away.bfloat16()
    return hi, (away - hi.float()).bfloat16()


def fused(
    pairs: Pairs, asked: Asked, *, split: bool = False, tiling: Tiling | None = None
) -> tuple[Neighbours, Tensor]:
    """Return the answer of one pass on the GPU, and which rows it settles."""
    k, beta = asked.k, asked.beta
    x, p = pairs.queries, pairs.patterns
    parts = operands(pairs, pairs.centre() if split else None)
    n_queries, n_patterns, width = len(x), len(p), parts.queries.shape[1]
    cut = tiling or Tiling.of(width)
    n_groups = triton.cdiv(n_patterns, cut.GROUP)
    n_blocks = triton.cdiv(n_queries, cut.BQ)
    n_spans = max(1, min(triton.cdiv(n_patterns, cut.BM), triton.cdiv(16 * _processors(x.device), n_blocks)))
    span = triton.cdiv(triton.cdiv(n_patterns, n_spans), cut.BM) * cut.BM
    n_spans = triton.cdiv(n_patterns, span)
    sigma = (beta or 1.0) * LOG2E
    new = {"dtype": torch.float32, "device": x.device}
    best = torch.empty(n_queries, n_groups, **new)
    level, total, heat = torch.empty(3, n_spans, n_queries, **new).unbind()
    nothing = parts.query_norm  # a pointer that the kernel never follows
    masks = [nothing if m is None else m for m in _small(pairs)]
    flags = {"GROUPS": pairs.query_groups is not None, "SELF": pairs.self_index is not None}
    _scan[(n_blocks, n_spans)](
        parts.queries, parts.patterns, parts.pattern_norm * sigma, *masks, best, level, total, heat,
        n_queries, n_patterns, n_groups, span, 2 * sigma,
        D=width, BQ=cut.BQ, BM=cut.BM, BK=cut.BK, GROUP=cut.GROUP,
        ENERGY=beta is not None, **flags, OPERAND=_operand(parts.queries),
        num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip

    take = min(k + max(2, 256 // cut.GROUP), n_groups)
    peaks, groups = best.topk(min(take + 1, n_groups), dim=1)
    groups = groups[:, :take].to(torch.int32)
    rough = _distances(pairs, groups, masks, flags, cut.GROUP, tl.float32)
    near = rough.topk(min(k + 9, rough.shape[1]), dim=1, largest=False)
    index = groups.gather(1, near.indices // cut.GROUP) * cut.GROUP + near.indices % cut.GROUP
    index = index.masked_fill(near.values.isinf(), -1)
    distance, index = ranked(_distances(pairs, index.to(torch.int32), masks, flags, 1, tl.float64), index.long(), k)

    n_x, kth = parts.query_norm.double(), distance[:, -1]
    proven = torch.ones(n_queries, dtype=torch.bool, device=x.device)
    if rough.shape[1] > k + 9:  # the next by float32 differences, which are right to 1e-5
        proven &= near.values[:, -1] > kth * (1 + 1e-5)
    if n_groups > take:
        reach = kth.sqrt()
        slack, lost = parts.doubt(n_x, reach)
        unseen = (n_x - peaks[:, take].double() / sigma - slack).clamp_min(0).sqrt() - lost
        proven &= unseen > reach * (1 + TIE)
    proven |= kth.isinf() & (rough.isfinite().sum(1) < k) & (n_groups <= take)
    if beta is None:
        return Neighbours(distance, index, proven), proven
    height = level.double()
    peak = height.amax(0)
    weight = (height - peak).exp2()
    mass = (weight * total).sum(0)
    warmth = (weight * (heat + total * (height - peak))).sum(0)
    empty = peak < 0.9 * FAR.value
    energy = torch.where(empty, math.inf, n_x - (peak + mass.log2()) / sigma)
    slack, lost = parts.doubt(n_x, (energy.clamp_min(0) + 40 / beta).sqrt())  # exp(-40) of the sum is further
    error = slack + lost * (lost + 2 * energy.clamp_min(0).sqrt()) + (span // cut.BM + 24) * 2.0**-23 / beta
    entropy = mass.log() - math.log(2) * warmth / mass
    error, entropy = (torch.where(empty, 0.0, v) for v in (error, entropy))
    missed = (distance[:, 0] - n_x + peaks[:, 0].double() / sigma).abs()  # at the nearest: the error to expect
    settled = proven & ((error if asked.proven else missed) <= asked.tolerance * energy.abs().clamp_min(1 / beta))
    return Neighbours(distance, index, proven, beta, energy, error, entropy), settled | empty


def _distances(pairs: Pairs, chosen: Tensor, masks, flags, group: int, sum_type) -> Tensor:
    """Return squared distances (Q, chosen x group) to the patterns of chosen groups, summed in `sum_type`."""
    n_queries, n_chosen = chosen.shape
    dtype = torch.float64 if sum_type is tl.float64 else torch.float32
    out = torch.empty(n_queries, n_chosen * group, dtype=dtype, device=chosen.device)
    width = pairs.queries.shape[1]
    _rescore[(n_queries, n_chosen)](
        pairs.queries.contiguous(), pairs.patterns.contiguous(), chosen.contiguous(), *masks, out, len(pairs.patterns),
        n_chosen, D=width, BK=min(64, triton.next_power_of_2(width)), GROUP=group, SUM=sum_type, **flags,
    )  # fmt: skip
    return out


def _small(pairs: Pairs) -> list[Tensor | None]:
    """Return the masks' labels as int32; labels too large for that are numbered anew."""
    groups = [pairs.query_groups, pairs.pattern_groups]
    if pairs.query_groups is not None and pairs.pattern_groups is not None:
        both = torch.cat([pairs.query_groups, pairs.pattern_groups])
        if both.dtype == torch.int64 and both.abs().max() >= 2**31:
            both = both.unique(return_inverse=True)[1]
        groups = list(both.to(torch.int32).split([len(pairs.queries), len(pairs.patterns)]))
    return [*groups, None if pairs.self_index is None else pairs.self_index.to(torch.int32).contiguous()]


def _operand(vectors: Tensor):
    """Return what the products take: the stored 16 bits, or float32 in Triton's interpreter, which lacks bfloat16."""
    if vectors.device.type != "cuda":
        return tl.float32
    return tl.float16 if vectors.dtype == torch.float16 else tl.bfloat16


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1

"""How does a GPU search millions of patterns without ever writing a distance?

One Triton kernel holds a block of queries and walks over the patterns: products on the tensor cores, then, while they
are in registers, the running log-sum-exp of the energy and the best value of every group of patterns. Only those group
bests are written (1/128 of the table). The groups that can hold a neighbour are rescored exactly; a row is certified
when the next group cannot, by the bound of summing D products in float32.

Patterns and queries stored in 16 bits are multiplied as they are. Others, and rows that were not proven so, are centred
and split in two bfloat16 parts each, x = hi + lo, and the kernel multiplies (hi, lo, hi) with (hi, hi, lo): three times
the work for 8 bits more.
"""

# pyright: reportCallIssue=false
# (Kernels are launched by name[grid](...), which is Triton's own language.)
import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from memscape.memory import kernels
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import Asked
from memscape.memory.union import TIE, Neighbours, ranked

LOG2E = math.log2(math.e)
RUN = 16
"""Groups that are first looked at as one when the best are chosen."""


@dataclass(frozen=True)
class Tiling:
    """How the scan is cut: queries and patterns a tile, coordinates a step, patterns a group; warps, stages, loop."""

    BQ: int
    BM: int
    BK: int
    GROUP: int
    warps: int
    stages: int
    flat: bool = False

    @classmethod
    def of(cls, width: int) -> "Tiling":
        """Return what was fastest on an H100 for vectors of this width."""
        if width <= 64:
            return cls(128, 128, max(16, triton.next_power_of_2(width)), 128, 4, 3)
        if width <= 128:
            return cls(128, 128, 128, 64, 4, 2)
        return cls(128, 256, 64, 32, 8, 3, flat=True)


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

    @classmethod
    def of(cls, pairs: Pairs, split: bool) -> "Operands":
        """Return 16-bit operands as they are stored, or centred and split in two bfloat16 parts."""
        p, p_norm = _parts(pairs.patterns, pairs, split)  # the longer work first: what follows is launched meanwhile
        x, x_norm = _parts(pairs.queries, pairs, split)
        unit, width = 2.0**-24, pairs.queries.shape[1]  # tensor cores cut off, but only once in 16 terms
        if not split:
            return cls(x, p, x_norm, p_norm, gap=(width + 32) * unit, residue=0.0)
        return cls(x, p, x_norm, p_norm, gap=(3 * width + 32) * unit + 2.0**-17, residue=2.0**-17)


def _parts(vectors: Tensor, pairs: Pairs, split: bool) -> tuple[Tensor, Tensor]:
    vectors = vectors.contiguous()
    n, width = vectors.shape
    norm = torch.empty(n, dtype=torch.float32, device=vectors.device)
    parts = torch.empty(n, 2 * width, dtype=torch.bfloat16, device=vectors.device) if split else vectors
    centre = pairs.centre() if split else norm
    block = min(128, max(16, triton.next_power_of_2(width)))
    kernels.prepare[(triton.cdiv(n, 32),)](vectors, centre, parts, norm, n, D=width, BK=block, ROWS=32, SPLIT=split)
    return parts, norm


def fused(
    pairs: Pairs, asked: Asked, *, split: bool = False, tiling: Tiling | None = None
) -> tuple[Neighbours, Tensor]:
    """Return the answer of one pass on the GPU, and which rows it settles."""
    k, beta = asked.k, asked.beta
    x, p = pairs.queries.contiguous(), pairs.patterns.contiguous()
    parts = Operands.of(pairs, split)
    n_queries, n_patterns, width = len(x), len(p), x.shape[1]
    cut = tiling or Tiling.of(3 * width if split else width)
    n_groups = triton.cdiv(n_patterns, cut.GROUP)
    n_padded = triton.cdiv(n_groups, RUN) * RUN
    n_blocks = triton.cdiv(n_queries, cut.BQ)
    span = _span(triton.cdiv(n_patterns, cut.BM), n_blocks, _processors(x.device)) * cut.BM
    n_spans = triton.cdiv(n_patterns, span)
    sigma = (beta or 1.0) * LOG2E
    new = {"dtype": torch.float32, "device": x.device}
    best = torch.empty(n_queries, n_padded, **new)
    best[:, n_groups:] = -math.inf
    level, total = torch.empty(2, n_spans, n_queries, **new).unbind()
    nothing = parts.query_norm  # a pointer that the kernel never follows
    masks = [nothing if m is None else m for m in _small(pairs)]
    flags = {"GROUPS": pairs.query_groups is not None, "SELF": pairs.self_index is not None}
    kernels.scan[(n_blocks, n_spans)](
        parts.queries, parts.patterns, parts.pattern_norm, *masks, best, level, total,
        n_queries, n_patterns, n_padded, span, 2 * sigma,
        D=width, SPLIT=split, BQ=cut.BQ, BM=cut.BM, BK=cut.BK, GROUP=cut.GROUP,
        ENERGY=beta is not None, **flags, OPERAND=_operand(parts.queries), FLAT=cut.flat,
        num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip

    n_taken = min(k + max(3, 512 // cut.GROUP), n_groups)
    peaks, groups = _highest(best, min(n_taken + 1, n_groups))
    n_peaks = peaks.shape[1]
    bounds = (sigma, parts.gap, parts.residue)
    step = min(64, max(16, triton.next_power_of_2(width)))
    rough = torch.empty(n_queries, n_taken * cut.GROUP, **new)
    kernels.rescore[(n_queries, n_taken)](
        x, p, groups, peaks, parts.query_norm, *masks, rough, n_patterns, n_taken, n_peaks, *bounds,
        K=k, D=width, BK=step, GROUP=cut.GROUP, **flags,
    )  # fmt: skip
    rough, spots = _pick(rough, min(k + 9, rough.shape[1]), sign=-1)
    distance = torch.empty(rough.shape, dtype=torch.float64, device=x.device)
    index = torch.empty_like(spots)
    kernels.refine[rough.shape](
        x, p, groups, spots, rough, distance, index, n_patterns, rough.shape[1], n_peaks,
        D=width, BK=step, GROUP=cut.GROUP,
    )  # fmt: skip
    distance, index = _ranked(distance, index, k)

    proven = torch.empty(n_queries, dtype=torch.bool, device=x.device)
    energy, error, missed = torch.empty(3, n_queries, dtype=torch.float64, device=x.device).unbind()
    summing = (span // cut.BM + n_spans + 24) * 2.0**-23
    kernels.conclude[(triton.cdiv(n_queries, 64),)](
        parts.query_norm, peaks, distance.contiguous(), rough, level, total, proven, energy, error, missed,
        n_queries, n_spans, n_peaks, n_taken, rough.shape[1], sigma, beta or 1.0, *bounds[1:], summing,
        K=k, BQ=64, ALL_KEPT=rough.shape[1] == n_taken * cut.GROUP, ALL_TAKEN=n_taken == n_groups,
        ENERGY=beta is not None,
    )  # fmt: skip
    if beta is None:
        return Neighbours(distance, index, proven), proven
    settled = proven & (missed <= asked.tolerance * energy.abs().clamp_min(1 / beta))
    return Neighbours(distance, index, proven, beta, energy, error), settled


def _span(n_tiles: int, n_blocks: int, processors: int) -> int:
    """Return the tiles a program walks over: 4 to 16 rounds of programs, whichever leaves fewest idle at the end."""
    spans = {triton.cdiv(n_tiles, max(1, min(n_tiles, turns * processors // n_blocks))) for turns in range(4, 17)}
    return min(spans, key=lambda span: (triton.cdiv(triton.cdiv(n_tiles, span) * n_blocks, processors) * span, span))


def _highest(best: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` highest of each row and their places: they lie in the `count` runs with the highest maxima."""
    n_runs = best.shape[1] // RUN
    if n_runs <= count:
        return _pick(best, count)
    highest = best.new_empty(len(best), n_runs)
    kernels.summits[(triton.cdiv(highest.numel(), 256),)](best, highest, highest.numel(), RUN=RUN, ROWS=256)
    return _pick(best, count, runs=_pick(highest, count)[1])


WIDEST = 4096
"""Values of a row of which one warp or a few pick the best faster than a general selection, which launches dozens."""


def _pick(values: Tensor, count: int, sign: int = 1, runs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the `count` highest (sign 1) or lowest (-1) of each row and their places; of the chosen runs, if given."""
    n_rows, n = values.shape
    n_runs = 0 if runs is None else runs.shape[1]
    looked = n_runs * RUN or n
    if looked > WIDEST or count > 64:
        if runs is None:
            return values.topk(count, dim=1, largest=sign > 0)
        found, spots = (
            values.view(n_rows, -1, RUN).gather(1, runs[:, :, None].expand(-1, -1, RUN)).flatten(1).topk(count)
        )
        return found, runs.gather(1, spots // RUN) * RUN + spots % RUN
    best = values.new_empty(n_rows, count)
    places = torch.empty(n_rows, count, dtype=torch.int64, device=values.device)
    size = max(32, triton.next_power_of_2(looked))
    kernels.pick[(n_rows,)](
        values, places if runs is None else runs, best, places, n, n_runs, count, SIGN=sign,
        RUN=1 if runs is None else RUN, N=size, num_warps=max(1, size // 1024),
    )  # fmt: skip
    return best, places


def _ranked(distance: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`ranked` in one launch where rows are short."""
    n_rows, n = distance.shape
    if n > 128 or n < k:
        return ranked(distance, index, k)
    near, places = distance.new_empty(n_rows, k), index.new_empty(n_rows, k)
    size = max(16, triton.next_power_of_2(n))
    kernels.rank[(n_rows,)](distance, index, near, places, n, K=k, N=size, TIE=TIE, num_warps=1 if size < 64 else 4)
    return near, places


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

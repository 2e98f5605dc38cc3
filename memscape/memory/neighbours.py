"""Which stored patterns lie nearest to a state, and what is its energy, over any number of patterns?

`search` makes one pass over the patterns, tile by tile: the Q x M table never exists. It gives the k nearest squared
distances, and with `beta` the energy E_beta and the mean shift sum_i p_i rho_i of the same pass.
Patterns may lie in memory, on another device or on disk; results over parts of them `merge` exactly.

Exact means: distances equal float64 ones to 1e-5, distances closer than 1e-6 relative are ties, and ties go to the
lowest index. It goes level by level: products in bfloat16 where the processor has them, then float32, then float64; on
a GPU the fused kernel on 16-bit vectors as they are stored, then on split ones, then float64. Each level bounds its own
error row by row, rescores the patterns that the bound cannot rule out, and hands on only the rows it cannot settle.

>>> found = search(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]), k=2)
>>> found.index.tolist()
[[1, 0]]
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memscape.errors import ShapeError
from memscape.memory import epilogue
from memscape.memory.eager import eager
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import BFLOAT16, FLOAT32, FLOAT64, Asked
from memscape.memory.shards import Shards, passing
from memscape.memory.union import COLUMNS, Neighbours, concatenate, merge

QUERIES = 16384
"""Queries that share one pass over the patterns."""
Step = Callable[[Pairs, Asked], tuple[Neighbours, Tensor]]
"""One level: from pairs to an answer and which of its rows are settled."""


def search(
    queries: Float[Tensor, "Q D"],
    patterns: Float[Tensor, "M D"] | Shards,
    k: int = 1,
    *,
    beta: float | None = None,
    mean: bool = False,
    tolerance: float = 1e-4,
    query_groups: Int[Tensor, " Q"] | None = None,
    pattern_groups: Int[Tensor, " M"] | None = None,
    self_index: Int[Tensor, " Q"] | None = None,
    device: torch.device | str | None = None,
) -> Neighbours:
    """Return the k nearest patterns of every query, and with `beta` the energy and the mean shift, from one pass.

    A query never meets a pattern of its own group (`query_groups[q] == pattern_groups[m]`: the same document), nor the
    pattern at `self_index[q]`, which is itself. Distances are squared. float64 queries give float64 answers, all others
    float32. Neighbours are proven. Energies are within `tolerance` max(|E|, 1/beta) by the rounding errors met on each
    row's neighbours (3 standard deviations); `error` holds the worst case. The mean shift is summed in float32.

    It runs on the queries' device, or on `device` and the answer comes back. Patterns elsewhere (pinned host memory for
    speed) or in `Shards` pass by in blocks.
    Queries that require a gradient get it: dE/dx = 2 (x - m), dd_i^2/dx = 2 (x - rho_i).
    Raises ShapeError if the arguments do not fit.
    """
    if k < 1:
        raise ShapeError(f"expected k of 1 or more neighbours, got k={k}.")
    if beta is not None and not beta > 0:
        raise ShapeError(f"expected beta > 0 (an inverse squared distance), got {beta}; beta_for() finds one.")
    if mean and beta is None:
        raise ShapeError("expected beta= with mean=True, got none: the mean shift is a mean at some temperature.")
    if len(queries) == 0 or len(patterns) == 0:
        raise ShapeError(f"expected queries and patterns, got {len(queries)} and {len(patterns)}; store some first.")
    if device is not None and torch.device(device) != queries.device:
        stored = patterns.to(device) if isinstance(patterns, Tensor) else patterns
        groups, labels, own = (None if m is None else m.to(device) for m in (query_groups, pattern_groups, self_index))
        found = search(
            queries.to(device), stored, k, beta=beta, mean=mean, tolerance=tolerance,
            query_groups=groups, pattern_groups=labels, self_index=own,
        )  # fmt: skip
        return found.at(queries.device)
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    tracked = queries.requires_grad and torch.is_grad_enabled()
    mean = mean or (tracked and beta is not None)
    with torch.no_grad(), torch.cuda.device_of(queries):
        found, asked = None, Asked(k, beta, mean, tolerance)
        here = isinstance(patterns, Tensor) and patterns.device == queries.device
        for start, block in [(0, patterns)] if here else passing(patterns, queries.device):
            groups = None if pattern_groups is None else pattern_groups[start : start + len(block)]
            own = None if self_index is None else self_index - start
            pairs = Pairs(queries.detach(), block, query_groups, groups, own).check()  # pyright: ignore[reportArgumentType]
            part = _settled(pairs, asked, dtype if here else torch.float64)
            found = part if found is None else merge([found, part.shifted(start)])
    assert found is not None
    found = found if here else found.to(dtype)
    return _attached(found, queries, patterns) if tracked else found


def steps(pairs: Pairs, asked: Asked) -> list[Step]:
    """Return the levels for these pairs on their device, the cheapest first; the last settles every row."""
    device = pairs.queries.device
    last = partial(eager, FLOAT64)
    if pairs.queries.dtype == torch.float64 and asked.beta is not None:
        return [last]  # whoever asks in float64 wants energies to their last digits
    if asked.mean:
        return [partial(eager, FLOAT32), last]
    if device.type == "cuda":
        from memscape.memory.fused import fused

        few = pairs.queries.dtype == pairs.patterns.dtype and pairs.queries.element_size() == 2
        return [*([fused] if few else []), partial(fused, split=True), last]
    level = eager if epilogue.library() is None else epilogue.compiled
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return [*([partial(level, BFLOAT16)] if fast else []), partial(level, FLOAT32), last]


def _settled(pairs: Pairs, asked: Asked, dtype: torch.dtype) -> Neighbours:
    """Search until every row is settled: neighbours certified, energies within the tolerance asked for."""
    trusted, parts = steps(pairs, asked), []
    for start in range(0, len(pairs.queries), QUERIES):
        block = pairs.rows(slice(start, start + QUERIES))
        found = pending = ready = None
        for step in list(trusted):
            answer, settled = step(block if pending is None else block.rows(pending), asked)
            answer = answer.to(torch.float64)
            for name in COLUMNS if found is not None else ():
                if (column := getattr(found, name)) is not None:
                    column[pending] = getattr(answer, name)
            found = answer if found is None else found
            ready = found.to(dtype)  # before the question below, which waits for the device
            if step is trusted[-1] or settled.all():
                break
            if settled.float().mean() < 0.5:
                trusted.remove(step)  # the next rows are like these
            pending = (~settled).nonzero()[:, 0] if pending is None else pending[~settled]
        assert ready is not None
        parts.append(ready)
    return concatenate(parts)


def _attached(found: Neighbours, queries: Tensor, patterns: Tensor | Shards) -> Neighbours:
    """Return the same values with their first derivatives: f(x) + f'(x) (x - x), the last x held fixed."""
    still = queries.detach()
    step = queries - still
    index = found.index.clamp_min(0).flatten()
    near = patterns.rows(index) if isinstance(patterns, Shards) else patterns[index.to(patterns.device)]
    away = still[:, None] - near.to(still).view(*found.index.shape, -1)
    distance = found.distance + (2 * away * step[:, None]).sum(2).to(found.distance.dtype)
    if found.energy is None or found.mean is None:
        return replace(found, distance=distance)
    energy = found.energy + (2 * (still - found.mean) * step).sum(1).to(found.energy.dtype)
    return replace(found, distance=distance, energy=energy)


def beta_for(
    queries: Float[Tensor, "Q D"],
    patterns: Float[Tensor, "M D"],
    effective: float = 3.0,
    *,
    query_groups: Int[Tensor, " Q"] | None = None,
    pattern_groups: Int[Tensor, " M"] | None = None,
    self_index: Int[Tensor, " Q"] | None = None,
    sample: int = 256,
) -> float:
    """Return the beta at which the median query of a sample shares its energy among `effective` patterns (exp H(p)).

    The entropy falls as beta rises (dH/dbeta = -beta Var_p(d^2)), so log beta is bisected to 1e-4. Queries are taken
    evenly over their rows, at most `sample`, fewer where the table of distances would pass 1 GB. Raises ShapeError if
    duplicates or too few patterns make the target impossible.
    """
    sample = max(1, min(sample, 2**28 // len(patterns)))
    step = max(1, len(queries) // sample)
    chosen = torch.arange(0, len(queries), step, device=queries.device)[:sample]
    pairs = Pairs(queries, patterns, query_groups, pattern_groups, self_index).check().rows(chosen)
    centre = pairs.centre().double()
    away = pairs.queries.double() - centre
    table = torch.empty(len(chosen), len(patterns), device=queries.device)
    for start in range(0, len(patterns), 4096):
        rows = patterns[start : start + 4096].double() - centre
        block = torch.addmm(rows.square().sum(1) + away.square().sum(1)[:, None], away, rows.mT, alpha=-2)
        banned = pairs.banned(start, start + len(rows))
        table[:, start : start + 4096] = block if banned is None else block.masked_fill_(banned, math.inf)
    return temperature(table, effective)


def temperature(distance: Float[Tensor, "Q M"], effective: float = 3.0) -> float:
    """Return the beta at which the median row of squared distances has exp H(p) = `effective` (infinite: left out)."""
    distance = distance.clamp_min(0)
    distance = distance - distance.amin(1, keepdim=True)
    spread = distance[distance.isfinite() & (distance > 0)]
    if len(spread) == 0:
        raise ShapeError("expected patterns at different distances, got only duplicates; no beta can be chosen.")

    def reached(log_beta: float) -> float:
        terms = -math.exp(log_beta) * distance
        return torch.special.entr(terms.softmax(1)).sum(1).exp().nanmedian().item()

    low, high = -math.log(spread.max().item()) - 20, -math.log(spread.min().item()) + 20
    if not reached(high) < effective < reached(low):
        raise ShapeError(
            f"expected effective= between {reached(high):.3g} and {reached(low):.3g}, as these distances allow, "
            f"got {effective}; change it or remove duplicates."
        )
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) > effective else (low, middle)
    return math.exp((low + high) / 2)

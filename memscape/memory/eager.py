"""How does one pass go over the patterns in plain PyTorch, tile by tile?

The same work as epilogue.cpp: where there is no compiler, for float64, for mean shifts, and for the rows that a GPU's
kernel could not settle.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from memscape.memory.pairs import Pairs
from memscape.memory.rounding import FLOAT64, Asked, Level, Rounded, Sums, answer, with_mean
from memscape.memory.union import TIE, Neighbours

TILE, POOL = 4096, 24
"""Patterns a tile; candidates kept besides the k nearest."""


def eager(level: Level, pairs: Pairs, asked: Asked) -> tuple[Neighbours, Tensor]:
    """Return the answer of one pass in PyTorch, on the pairs' device, and which rows it settles."""
    k, beta = asked.k, asked.beta
    n_queries, n_patterns, device = len(pairs.queries), len(pairs.patterns), pairs.queries.device
    centre = pairs.centre()
    queries = Rounded.at(level, pairs.queries, centre)
    gap = level.gap(pairs.queries.shape[1])
    step = max(256, min(TILE, 2**22 // max(1, n_queries)))
    tiles = [(a, min(n_patterns, a + step)) for a in range(0, n_patterns, step)]
    pool = min(k + POOL, n_patterns)
    sums = Sums.empty(n_queries, device)
    kept = torch.empty(2, n_queries, 0, dtype=level.summed, device=device)  # candidates: squared distance, its error
    index = torch.empty(n_queries, 0, dtype=torch.int64, device=device)

    def table(start: int, stop: int) -> Tensor:
        """Return squared distances between rounded vectors (infinite where banned), and the bound of their error."""
        rows = Rounded.at(level, pairs.patterns[start:stop], centre)
        product = (queries.stored @ rows.stored.mT).to(level.summed)
        ends = queries.norm[:, None] + rows.norm
        slack = gap * ends + level.spill * product.abs()
        near = torch.add(ends, product, alpha=-2)
        away = queries.residue[:, None] + rows.residue
        error = slack + away * (away + 2 * (near + slack).clamp_min(0).sqrt())
        banned = pairs.banned(start, stop)
        return torch.stack([near if banned is None else near.masked_fill_(banned, math.inf), error])

    def split(cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the `pool` lowest bounds of each row stand, and where the others."""
        order = (cells[0] - cells[1]).sort(dim=1, stable=True).indices
        return order[:, :pool], order[:, pool:]

    for start, stop in tiles:
        cells = table(start, stop)
        chosen = (cells[0] - cells[1]).topk(min(pool, stop - start), dim=1, largest=False).indices
        kept = torch.cat([kept, _at(cells, chosen)], 2)
        index = torch.cat([index, chosen + start], 1)
        stay, leave = split(kept)
        if beta is not None:
            cells[0].scatter_(1, chosen, math.inf)
            sums.absorb(cells, beta)
            sums.absorb(_at(kept, leave), beta)
        kept, index = _at(kept, stay), index.gather(1, stay)
    index = index.masked_fill(kept[0].isinf(), -1)
    reach = (kept[0] + kept[1]).kthvalue(min(k, pool), dim=1, keepdim=True).values * (1 + 2 * TIE)
    proven = torch.ones(n_queries, dtype=torch.bool, device=device)
    if pool < n_patterns:
        proven = ((kept[0] - kept[1]).amax(1, keepdim=True) > reach).flatten() | reach.isinf().flatten()
    if level is FLOAT64 and not proven.all():  # more ties than candidates: the lowest indices among them must join
        torn = (~proven).nonzero().flatten()
        first = torch.full((len(torn), 0), 0, dtype=torch.int64, device=device)
        for start, stop in tiles:
            near, error = table(start, stop)[:, torn]
            places = torch.where(near - error <= reach[torn], torch.arange(start, stop, device=device), n_patterns)
            first = torch.cat([first, places], 1).sort(1).values[:, :k]
        extra = torch.full((n_queries, k), -1, dtype=torch.int64, device=device)
        extra[torn, : first.shape[1]] = first.masked_fill(first == n_patterns, -1)
        index = torch.cat([index, extra.masked_fill((extra[:, :, None] == index[:, None, :]).any(2), -1)], 1)
        kept = torch.nn.functional.pad(kept, (0, k), value=math.inf)
    distance = pairs.distances(index)
    found, settled = answer(asked, distance, index, kept[0].double(), sums, proven)
    if asked.mean and beta is not None and found.energy is not None:
        rest = torch.zeros(pairs.queries.shape, dtype=level.summed, device=device)
        for start, stop in tiles:
            near = torch.nn.functional.pad(table(start, stop)[0], (0, 1))
            inside = (index >= start) & (index < stop)
            near.scatter_(1, torch.where(inside, index - start, stop - start), math.inf)
            shares = (found.energy[:, None] - near[:, :-1]).mul_(beta).exp_().nan_to_num_(0.0)
            rest += shares.to(level.summed) @ pairs.patterns[start:stop].to(level.summed)
        found = with_mean(found, pairs, distance, index, rest)
    if level is FLOAT64:
        return replace(found, certified=torch.ones_like(proven)), torch.ones_like(proven)
    return found, settled


def _at(cells: Tensor, chosen: Tensor) -> Tensor:
    return cells.gather(2, chosen.expand(2, *chosen.shape))

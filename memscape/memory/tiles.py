"""How does one pass at one level of rounding go over the patterns, tile by tile?

`compiled` gives each tile of products to epilogue.cpp before it leaves the cache; `eager` does the same in PyTorch:
where there is no compiler, for float64, on a GPU, and for the mean shift of many patterns.
Both return the answer and which rows it settles.
"""

import ctypes
import math
from dataclasses import replace

import torch
from torch import Tensor

from memscape.memory import epilogue
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import FLOAT64, Asked, Level, Rounded, Sums, answer, with_mean
from memscape.memory.union import TIE, Neighbours

TILE, BLOCK = 4096, 1024
"""Patterns a tile and queries a product: 8 MB of bfloat16, which stays in the cache."""
POOL = 16
"""Candidates kept at least where an energy is asked for: they carry most of it, exactly."""


def compiled(level: Level, pairs: Pairs, asked: Asked) -> tuple[Neighbours, Tensor]:
    """One pass at one level, each tile of products finished by epilogue.cpp before it leaves the cache."""
    library = epilogue.library()
    assert library is not None
    n_queries, width = pairs.queries.shape
    k, beta = asked.k if asked.beta is None else max(asked.k, POOL), asked.beta
    capacity = 88 + 4 * k
    centre = pairs.centre()
    queries = Rounded.at(level, pairs.queries, centre)
    state = {
        "reach": torch.full((n_queries,), math.inf),
        "level": torch.full((n_queries,), math.inf),
        "sum": torch.zeros(n_queries, dtype=torch.float64),
        "heat": torch.zeros(n_queries, dtype=torch.float64),
        "ceiling": torch.zeros(n_queries, dtype=torch.float64),
        "count": torch.zeros(n_queries, dtype=torch.int32),
        "spilled": torch.zeros(n_queries, dtype=torch.bool),
        "place": torch.empty(n_queries, capacity, dtype=torch.int64),
        **{name: torch.empty(n_queries, capacity) for name in ("near", "error", "lower", "upper")},
        "norm": queries.norm,
        "residue": queries.residue,
        "group": None if pairs.query_groups is None else pairs.query_groups.long(),
        "self": None if pairs.self_index is None else pairs.self_index.long(),
    }
    groups = None if pairs.pattern_groups is None else pairs.pattern_groups.long()
    spill = level.spill if level.stored != level.summed else 0.0

    def rows(start: int, stop: int) -> ctypes.Structure:
        chosen = {name: _pointer(None if v is None else v[start:stop]) for name, v in state.items()}
        return epilogue.Rows(
            n=stop - start, capacity=capacity, k=k, threads=torch.get_num_threads(),
            beta=beta or 0.0, gap=level.gap(width), spill=spill, **chosen,
        )  # fmt: skip

    spans = [(a, min(n_queries, a + BLOCK)) for a in range(0, n_queries, BLOCK)]
    blocks = [(queries.stored[a:b], rows(a, b)) for a, b in spans]
    buffer = torch.empty(BLOCK * TILE, dtype=level.stored)  # one for all: fresh pages would cost a twentieth
    for origin in range(0, len(pairs.patterns), TILE):
        tile = Rounded.at(level, pairs.patterns[origin : origin + TILE], centre)
        group = None if groups is None else groups[origin : origin + TILE]
        floor = (1 - level.gap(width)) * tile.norm - tile.residue.square()
        for stored, block in blocks:
            product = buffer[: len(stored) * len(floor)].view(len(stored), len(floor))
            torch.mm(stored, tile.stored.mT, out=product)
            view = epilogue.Tile(
                n=product.shape[1], origin=origin, product=_pointer(product), norm=_pointer(tile.norm),
                residue=_pointer(tile.residue),
                floor=_pointer(floor), group=_pointer(group),
            )  # fmt: skip
            library.scan(ctypes.byref(block), ctypes.byref(view), int(level.stored != level.summed))

    distance = torch.full((n_queries, capacity), math.inf, dtype=torch.float64)
    plain = pairs.queries.dtype != torch.float64 and pairs.patterns.dtype in (torch.float32, torch.bfloat16)
    patterns, exact = pairs.patterns.contiguous(), pairs.queries.float().contiguous()
    library.rescore(
        ctypes.byref(rows(0, n_queries)),_pointer(exact), _pointer(patterns) if plain else None,
        width, int(patterns.dtype == torch.bfloat16), _pointer(distance),
    )  # fmt: skip
    most = max(k, int(state["count"].max()))
    distance, index = distance[:, :most], state["place"][:, :most]
    index = torch.where(torch.arange(most) < state["count"][:, None], index, -1)
    if not plain:
        distance = pairs.distances(index)
    norm = queries.norm.double()
    near = state["near"][:, :most].double() + norm[:, None]
    sums = Sums(state["level"].double() + norm, state["sum"], state["heat"], state["ceiling"])
    found, settled = answer(asked, pairs, distance, index, near, sums, ~state["spilled"])
    if asked.mean and beta is not None and found.energy is not None:
        found = with_mean(found, pairs, distance, index, None)
        assert found.energy is not None
        heard = sums.ceiling * (beta * (found.energy - sums.level)).exp().nan_to_num(0.0)
        settled = settled & (heard <= 1e-6)  # else patterns that are no candidates weigh in the mean
    return found, settled


def eager(level: Level, pairs: Pairs, asked: Asked) -> tuple[Neighbours, Tensor]:
    """Return the answer of one pass in PyTorch, on the pairs' device, and which rows it settles."""
    k, beta = asked.k, asked.beta
    n_queries, n_patterns, device = len(pairs.queries), len(pairs.patterns), pairs.queries.device
    centre = pairs.centre()
    queries = Rounded.at(level, pairs.queries, centre)
    gap = level.gap(pairs.queries.shape[1])
    step = max(256, min(TILE, 2**22 // max(1, n_queries)))
    tiles = [(a, min(n_patterns, a + step)) for a in range(0, n_patterns, step)]
    pool = min(k + POOL + 8, n_patterns)
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
    found, settled = answer(asked, pairs, distance, index, kept[0].double(), sums, proven)
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


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()

"""How can a search in few bits still be exact?

Level by level: products in bfloat16 where the processor has them, then float32, then float64 (on a GPU the fused kernel
on stored 16-bit vectors, then on split ones, then float64). Each level bounds its own
error row by row (rounding takes away residues of known norm, sums of D terms err by at most D units), rescores the
patterns the bound cannot rule out in float64, and hands only the rows it could not certify to the next.
The last level certifies all. Centred first: real activations have means, and components of 26,000 beside others of 10.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from memscape.memory import epilogue
from memscape.memory.pairs import Pairs
from memscape.memory.union import COLUMNS, TIE, Neighbours, concatenate, ranked

QUERIES, TILE, BLOCK = 16384, 4096, 1024
"""Rows that share one pass over the patterns; patterns a tile; queries a product: 8 MB of bfloat16, which L3 holds."""


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


Step = Callable[[Pairs, int, float | None], Neighbours]


def levels(device: torch.device) -> list[Level]:
    """Return the levels worth trying there: bfloat16 products only where a processor has them."""
    fast = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return [*([BFLOAT16] if fast else []), FLOAT32, FLOAT64]


def steps(pairs: Pairs, energies: bool, mean: bool) -> list[Step]:
    """Return the levels for these pairs' device, the cheapest first; the last certifies every row."""
    centre = pairs.centre()

    def at(method: Callable[..., Neighbours], level: Level) -> Step:
        return lambda pairs, k, beta: method(pairs, centre, level, k, beta, mean)

    if pairs.queries.dtype == torch.float64 and energies:
        return [at(_eager, FLOAT64)]  # whoever asks in float64 wants energies to its last digits
    if pairs.queries.device.type == "cuda" and not mean:
        from memscape.memory.fused import fused

        few = pairs.queries.dtype == pairs.patterns.dtype and pairs.queries.element_size() == 2
        return [*([fused] if few else []), partial(fused, split=True), at(_eager, FLOAT64)]
    if pairs.queries.device.type == "cuda" or epilogue.library() is None:
        return [at(_eager, level) for level in levels(pairs.queries.device) if not (mean and level is BFLOAT16)]
    last = at(_eager, FLOAT64)
    return [*(at(_eager if mean and v is FLOAT32 else _compiled, v) for v in levels(pairs.queries.device)[:-1]), last]


def cascade(pairs: Pairs, k: int, beta: float | None, mean: bool, tolerance: float | None) -> Neighbours:
    """Search until every row is certified, and every energy proven to `tolerance` max(|E|, 1/beta)."""
    trusted, parts = steps(pairs, beta is not None, mean), []
    for start in range(0, len(pairs.queries), QUERIES):
        block = pairs.rows(slice(start, start + QUERIES))
        pending, found = torch.arange(len(block.queries), device=block.queries.device), None
        for step in list(trusted):
            answer = step(block.rows(pending), k, beta).to(torch.float64)
            if found is None:
                found = answer
            else:
                for name in COLUMNS:
                    if (column := getattr(found, name)) is not None:
                        column[pending] = getattr(answer, name)
            settled = answer.certified
            if answer.mean is not None:
                settled = settled & answer.mean.isfinite().all(1)
            if beta is not None and answer.error is not None and answer.energy is not None and tolerance is not None:
                settled = settled & (answer.error <= tolerance * answer.energy.abs().clamp_min(1 / beta))
            if settled.all() or step is trusted[-1]:
                break
            if settled.float().mean() < 0.5:
                trusted.remove(step)  # the next rows are like these
            pending = pending[~settled]
        parts.append(found)
    return concatenate(parts)


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

    def rows(self, chosen: slice) -> "Rounded":
        return Rounded(*(getattr(self, f.name)[chosen] for f in fields(self)))


@dataclass
class Sums:
    """Per row, the part of the energy that no candidate carries: sums of t = exp(-beta (d^2 - level))."""

    level: Tensor
    sum: Tensor
    heat: Tensor
    """Of beta (d^2 - level) t."""
    ceiling: Tensor
    """Of the largest that t could be."""

    @classmethod
    def empty(cls, n: int, device: torch.device) -> "Sums":
        zeros = torch.zeros(3, n, dtype=torch.float64, device=device)
        return cls(torch.full_like(zeros[0], math.inf), *zeros)

    def absorb(self, cells: Tensor, beta: float) -> None:
        """Take in squared distances and their errors, stacked (2, Q, N)."""
        if cells.shape[2] == 0:
            return
        level = torch.minimum(self.level, cells[0].amin(1).double())
        drop = torch.where(self.sum > 0, beta * (self.level - level), 0.0)
        away = beta * (cells[0] - level[:, None]).nan_to_num(math.inf)
        terms = (-away).exp()
        scale = (-drop).exp()
        self.heat = scale * (self.heat + self.sum * drop) + (terms * away).nan_to_num(0.0).sum(1)
        self.sum = scale * self.sum + terms.sum(1)
        self.ceiling = scale * self.ceiling + (beta * cells[1] - away).clamp_max(300).exp().sum(1)
        self.level = level


def _answer(distance: Tensor, index: Tensor, k: int, beta: float | None, sums: Sums, proven: Tensor) -> Neighbours:
    """Return the answer from exact distances (Q, C) to the candidates and the sums over all others."""
    near, place = ranked(distance, index, k)
    found = Neighbours(near, place, proven)
    if beta is None:
        return found
    base = torch.minimum(distance.amin(1), sums.level).clamp_max(torch.finfo(torch.float64).max)
    own = beta * (distance - base[:, None])
    terms = (-own).exp()
    scale = torch.where(sums.sum > 0, (-beta * (sums.level - base)).exp(), 0.0)
    rest = scale * sums.sum
    total = terms.sum(1) + rest
    heat = (terms * own.masked_fill(distance.isinf(), 0)).sum(1)
    heat += torch.where(rest > 0, scale * sums.heat + rest * beta * (sums.level - base), 0.0)
    energy = torch.where(total > 0, base - total.log() / beta, math.inf)
    entropy = torch.where(total > 0, total.log() + heat / total, 0.0)
    doubt = torch.where(total > 0, (scale * (sums.ceiling - sums.sum) + 1e-6 * rest) / total, 0.0)
    return Neighbours(near, place, proven, beta, energy, -torch.log1p(-doubt.clamp_max(1)) / beta, entropy)


def _compiled(pairs: Pairs, centre: Tensor, level: Level, k: int, beta: float | None, mean: bool) -> Neighbours:
    """One pass at one level, each tile of products finished by epilogue.cpp before it leaves the cache."""
    library = epilogue.library()
    assert library is not None
    n_queries, width = pairs.queries.shape
    capacity = 88 + 4 * k
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
    for origin in range(0, len(pairs.patterns), TILE):
        tile = Rounded.at(level, pairs.patterns[origin : origin + TILE], centre)
        group = None if groups is None else groups[origin : origin + TILE]
        floor = (1 - level.gap(width)) * tile.norm - tile.residue.square()
        for stored, block in blocks:
            product = stored @ tile.stored.mT
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
    sums = Sums(state["level"].double() + norm, state["sum"], state["heat"], state["ceiling"])
    found = _answer(distance, index, k, beta, sums, ~state["spilled"])
    if mean and beta is not None and found.energy is not None:
        found = _with_mean(found, pairs, distance, index, None)
        assert found.mean is not None
        assert found.energy is not None
        heard = sums.ceiling * (beta * (found.energy - sums.level)).exp().nan_to_num(0.0) > 1e-6
        found.mean[heard] = math.nan  # patterns that are no candidates weigh: the next level adds them
    return found


def _with_mean(found: Neighbours, pairs: Pairs, distance: Tensor, index: Tensor, rest: Tensor | None) -> Neighbours:
    """Add the mean shift: the candidates' exact part plus `rest`, the part of all others (None: left out)."""
    assert found.beta is not None
    assert found.energy is not None
    shares = (-found.beta * (distance - found.energy[:, None])).exp().nan_to_num(0.0)
    shares = shares if rest is not None else shares / shares.sum(1, keepdim=True).clamp_min(1e-300)
    mean = torch.zeros_like(pairs.queries, dtype=torch.float64) if rest is None else rest.double()
    rows = max(1, 2**22 // max(1, index.shape[1] * pairs.queries.shape[1]))
    for a in range(0, len(index), rows):
        near = pairs.patterns[index[a : a + rows].clamp_min(0)].double()
        mean[a : a + rows] += (shares[a : a + rows, None] @ near).squeeze(1)
    return replace(found, mean=mean)


def _eager(pairs: Pairs, centre: Tensor, level: Level, k: int, beta: float | None, mean: bool) -> Neighbours:
    """The same pass in PyTorch: where there is no compiler, for float64, and for the mean of many patterns."""
    n_queries, n_patterns, device = len(pairs.queries), len(pairs.patterns), pairs.queries.device
    queries = Rounded.at(level, pairs.queries, centre)
    gap = level.gap(pairs.queries.shape[1])
    step = max(256, min(TILE, 2**22 // max(1, n_queries)))
    tiles = [(a, min(n_patterns, a + step)) for a in range(0, n_patterns, step)]
    pool = min(k + 24, n_patterns)
    sums = Sums.empty(n_queries, device)
    kept = torch.empty(
        2, n_queries, 0, dtype=level.summed, device=device
    )  # squared distance and its error, of the candidates
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
    distance = pairs.distances(index)
    found = _answer(distance, index, k, beta, sums, proven)
    if mean and beta is not None and found.energy is not None:
        rest = torch.zeros(pairs.queries.shape, dtype=level.summed, device=device)
        for start, stop in tiles:
            near = torch.nn.functional.pad(table(start, stop)[0], (0, 1))
            inside = (index >= start) & (index < stop)
            near.scatter_(1, torch.where(inside, index - start, stop - start), math.inf)
            shares = (found.energy[:, None] - near[:, :-1]).mul_(beta).exp_().nan_to_num_(0.0)
            rest += shares.to(level.summed) @ pairs.patterns[start:stop].to(level.summed)
        found = _with_mean(found, pairs, distance, index, rest)
    return replace(found, certified=torch.ones_like(proven)) if level is FLOAT64 else found


def _at(cells: Tensor, chosen: Tensor) -> Tensor:
    return cells.gather(2, chosen.expand(2, *chosen.shape))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()

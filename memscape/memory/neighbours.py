"""Which stored patterns lie nearest to a state, and what is its energy, over any number of patterns?

`search` makes one pass over the patterns, tile by tile: the Q x M table never exists. It gives the k nearest squared
distances, and with `beta` the energy E_beta, the entropy H(p) and the mean shift sum_i p_i rho_i of the same pass.
Results over parts of the patterns `merge` exactly, so any split gives the same answer.

Exact means: distances equal float64 ones to 1e-5, distances closer than 1e-6 relative are ties, and ties go to the
lowest index. Everything is centred first, because real activations have means and single components that drown the
differences.

>>> found = search(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]), k=2)
>>> found.index.tolist()
[[1, 0]]
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memscape.errors import ShapeError

TIE = 1e-6
"""Squared distances closer than this, relatively, are one distance: the lowest index comes first."""


@dataclass(frozen=True)
class Neighbours:
    """What one pass over the patterns found for each query."""

    distance: Float[Tensor, "Q K"]
    """Squared distances, rising; infinite where fewer than K patterns were allowed."""
    index: Int[Tensor, "Q K"]
    """Their patterns; -1 where there is none."""
    certified: Bool[Tensor, " Q"]
    """Whether an error bound proves the row: these are the nearest, and the energy is within 1e-4 max(|E|, 1/beta)."""
    beta: float | None = None
    """Inverse squared distance of the energy; None if no energy was asked for."""
    energy: Float[Tensor, " Q"] | None = None
    """E_beta in squared distance; infinite where every pattern was excluded."""
    entropy: Float[Tensor, " Q"] | None = None
    """H(p) in nats of the shares p_i = softmax(-beta d_i^2)."""
    mean: Float[Tensor, "Q D"] | None = None
    """The mean shift sum_i p_i rho_i, if it was asked for."""

    @property
    def effective(self) -> Float[Tensor, " Q"]:
        """exp H(p): how many patterns share the energy."""
        if self.entropy is None:
            raise ShapeError("expected an energy, got a search without beta; pass beta= to search().")
        return self.entropy.exp()

    def shifted(self, offset: int) -> "Neighbours":
        """The same neighbours with indices counted from `offset`: a shard's rows within the whole."""
        return replace(self, index=torch.where(self.index < 0, self.index, self.index + offset))


def search(
    queries: Float[Tensor, "Q D"],
    patterns: Float[Tensor, "M D"],
    k: int = 1,
    *,
    beta: float | None = None,
    mean: bool = False,
    query_groups: Int[Tensor, " Q"] | None = None,
    pattern_groups: Int[Tensor, " M"] | None = None,
    self_index: Int[Tensor, " Q"] | None = None,
) -> Neighbours:
    """Return the k nearest patterns of every query, and with `beta` energy, entropy and mean shift, from one pass.

    A query never meets a pattern of its own group (`query_groups[q] == pattern_groups[m]`: the same document), nor the
    pattern at `self_index[q]`, which is itself. Distances are squared. float64 queries give float64 answers, all others
    float32.
    """
    check(queries, patterns, k, beta, mean, query_groups, pattern_groups, self_index)
    rows = max(1, min(1024, 2**24 // max(1, len(patterns))))
    parts = []
    for start in range(0, len(queries), rows):
        stop = start + rows
        pairs = Pairs(
            queries[start:stop],
            patterns,
            None if query_groups is None else query_groups[start:stop],
            pattern_groups,
            None if self_index is None else self_index[start:stop],
        )
        parts.append(_exact(pairs, k, beta, mean))
    return concatenate(parts)


def check(queries, patterns, k, beta, mean, query_groups, pattern_groups, self_index) -> None:
    """Raise a ShapeError if the arguments of a search do not fit each other."""
    if queries.shape[1] != patterns.shape[1]:
        raise ShapeError(
            f"queries have width {queries.shape[1]}, patterns {patterns.shape[1]}; both must come from the same space."
        )
    if k < 1:
        raise ShapeError(f"expected k of 1 or more neighbours, got k={k}.")
    if beta is not None and not beta > 0:
        raise ShapeError(f"expected beta > 0 (an inverse squared distance), got {beta}; beta_for() finds one.")
    if mean and beta is None:
        raise ShapeError("expected beta= with mean=True, got none: the mean shift is a mean at some temperature.")
    if (query_groups is None) != (pattern_groups is None):
        raise ShapeError("expected groups for queries and patterns both, got one of them; pass both or neither.")


@dataclass(frozen=True)
class Pairs:
    """A block of queries, all patterns, and which pairs of them may meet."""

    queries: Tensor
    patterns: Tensor
    query_groups: Tensor | None = None
    pattern_groups: Tensor | None = None
    self_index: Tensor | None = None

    def banned(self, start: int, stop: int) -> Tensor | None:
        """Return the (Q, stop - start) mask of pairs that may not meet, or None if all may."""
        mask = None
        if self.query_groups is not None and self.pattern_groups is not None:
            mask = self.query_groups[:, None] == self.pattern_groups[None, start:stop]
        if self.self_index is not None:
            own = self.self_index[:, None] == torch.arange(start, stop, device=self.self_index.device)
            mask = own if mask is None else mask | own
        return mask

    def distances(self, index_QC: Tensor) -> Tensor:
        """Return float64 squared distances to chosen patterns from the differences; infinite where the index is -1."""
        out = torch.empty(index_QC.shape, dtype=torch.float64, device=self.queries.device)
        rows = max(1, 2**22 // max(1, index_QC.shape[1] * self.queries.shape[1]))
        for start in range(0, len(index_QC), rows):
            chosen = index_QC[start : start + rows]
            near = self.patterns[chosen.clamp_min(0)].double()
            out[start : start + rows] = (near - self.queries[start : start + rows, None].double()).square().sum(-1)
        return out.masked_fill_(index_QC < 0, math.inf)


def ranked(distance: Float[Tensor, "Q C"], index: Int[Tensor, "Q C"], k: int) -> tuple[Tensor, Tensor]:
    """Return the k first of each row by distance, runs of ties in order of their index."""
    if distance.shape[1] < k:
        short = (0, k - distance.shape[1])
        distance = torch.nn.functional.pad(distance, short, value=math.inf)
        index = torch.nn.functional.pad(index, short, value=-1)
    distance, order = distance.sort(dim=1, stable=True)
    index = index.gather(1, order)
    tied = (distance[:, 1:] - distance[:, :-1] <= TIE * distance[:, 1:]) & distance[:, 1:].isfinite()
    run = torch.nn.functional.pad((~tied).cumsum(1), (1, 0))
    by_index = index.argsort(dim=1, stable=True)
    order = by_index.gather(1, run.gather(1, by_index).argsort(dim=1, stable=True))[:, :k]
    return distance.gather(1, order), index.gather(1, order)


def _exact(pairs: Pairs, k: int, beta: float | None, mean: bool) -> Neighbours:
    """Search in float64: the level that always certifies."""
    queries, patterns = pairs.queries.double(), pairs.patterns
    n_queries, n_patterns = len(queries), len(patterns)
    centre = patterns[: 2**16].double().mean(0)
    queries = queries - centre
    norms = queries.square().sum(1)
    pool = min(k + 16, n_patterns)
    distance = torch.full((n_queries, 0), math.inf, dtype=torch.float64, device=queries.device)
    index = torch.zeros((n_queries, 0), dtype=torch.int64, device=queries.device)
    parts = []
    width = max(1, 2**22 // max(1, n_queries, queries.shape[1]))
    tiles = [(start, min(n_patterns, start + width)) for start in range(0, n_patterns, width)]

    def tile(start: int, stop: int) -> Tensor:
        rows = patterns[start:stop].double() - centre
        table = torch.addmm(rows.square().sum(1) + norms[:, None], queries, rows.mT, alpha=-2).clamp_min_(0)
        banned = pairs.banned(start, stop)
        return table if banned is None else table.masked_fill_(banned, math.inf)

    for start, stop in tiles:
        table = tile(start, stop)
        near = table.topk(min(pool, stop - start), dim=1, largest=False)
        merged = torch.cat([distance, near.values], 1)
        distance, order = merged.topk(min(pool, merged.shape[1]), dim=1, largest=False)
        index = torch.cat([index, near.indices + start], 1).gather(1, order)
        if beta is not None:
            parts.append(_shares(table, patterns[start:stop] if mean else None, beta))
    index = index.masked_fill(distance.isinf(), -1)
    slack = 1e-13 * (norms + patterns.shape[1])[:, None]
    if pool < n_patterns:
        kth = distance[:, k - 1 : k]
        band = kth * (1 + 2 * TIE) + slack
        torn = ((distance[:, -1:] <= band) & kth.isfinite()).flatten().nonzero().flatten()
        if len(torn):
            tied = [_first_within(tile(*t), t[0], band, k) for t in tiles]
            first = torch.cat(tied, 1)[torn].sort(1).values[:, :k]
            extra = torch.full((n_queries, k), -1, dtype=torch.int64, device=queries.device)
            extra[torn] = first.masked_fill(first >= n_patterns, -1)
            repeated = (extra[:, :, None] == index[:, None, :]).any(2)
            index = torch.cat([index, extra.masked_fill(repeated, -1)], 1)
    distance, index = ranked(pairs.distances(index), index, k)
    found = Neighbours(distance, index, torch.ones(n_queries, dtype=torch.bool, device=queries.device), beta)
    if beta is None:
        return _cast(found, pairs.queries.dtype)
    energy, entropy, shift = _blend([p[0] for p in parts], [p[1] for p in parts], [p[2] for p in parts], beta)
    return _cast(replace(found, energy=energy, entropy=entropy, mean=shift), pairs.queries.dtype)


def _first_within(table: Tensor, start: int, band: Tensor, k: int) -> Tensor:
    """Return the k lowest indices of each row with a distance within `band` (2**62 where there are fewer)."""
    places = torch.arange(start, start + table.shape[1], device=table.device)
    return torch.where(table <= band, places, 2**62).topk(min(k, table.shape[1]), dim=1, largest=False).values


def _shares(table: Tensor, rows: Tensor | None, beta: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return energy, entropy and mean shift of one tile of squared distances."""
    terms = -beta * table
    level = terms.logsumexp(1)
    shares = (terms - level[:, None]).exp().masked_fill(terms.isinf(), 0)
    return -level / beta, torch.special.entr(shares).sum(1), None if rows is None else shares @ rows.to(shares.dtype)


def _blend(energies, entropies, means, beta: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return energy, entropy and mean shift of a union from those of its parts (energies combine by logaddexp)."""
    terms = -beta * torch.stack(list(energies), 1)
    level = terms.logsumexp(1)
    shares = (terms - level[:, None]).exp().nan_to_num(0.0)
    entropy = (shares * torch.stack(list(entropies), 1).nan_to_num(0.0)).sum(1) + torch.special.entr(shares).sum(1)
    shift = None
    if means[0] is not None:
        shift = (shares[:, :, None] * torch.stack(list(means), 1).nan_to_num(0.0)).sum(1)
    return -level / beta, entropy, shift


def _cast(found: Neighbours, dtype: torch.dtype) -> Neighbours:
    if dtype == torch.float64:
        return found
    floats = {n: getattr(found, n) for n in ("distance", "energy", "entropy", "mean")}
    return replace(found, **{n: v.float() for n, v in floats.items() if v is not None})


def concatenate(parts: Sequence[Neighbours]) -> Neighbours:
    """Return the answers for all queries from answers for blocks of queries against the same patterns."""
    names = ("distance", "index", "certified", "energy", "entropy", "mean")
    joined = {n: torch.cat([getattr(p, n) for p in parts]) for n in names if getattr(parts[0], n) is not None}
    return replace(parts[0], **joined)


def merge(parts: Sequence[Neighbours]) -> Neighbours:
    """Return the answer over all patterns from answers over parts of them, the same queries in each.

    Indices must count from one origin (`shifted`). Neighbours merge by top-k, energies by -1/beta logaddexp(-beta E),
    entropies by H = sum_a w_a H_a + H(w), means by sum_a w_a m_a with w the parts' shares. Any split gives the same.
    """
    distance, index = ranked(
        torch.cat([p.distance for p in parts], 1), torch.cat([p.index for p in parts], 1), parts[0].distance.shape[1]
    )
    found = replace(
        parts[0], distance=distance, index=index, certified=torch.stack([p.certified for p in parts]).all(0)
    )
    if found.beta is None:
        return found
    energy, entropy, shift = _blend(
        [p.energy for p in parts], [p.entropy for p in parts], [p.mean for p in parts], found.beta
    )
    return replace(found, energy=energy, entropy=entropy, mean=shift)


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
    evenly over their rows, at most `sample`. Raises ShapeError if duplicates or too few patterns make the target
    impossible.
    """
    step = max(1, len(queries) // sample)
    chosen = torch.arange(0, len(queries), step, device=queries.device)[:sample]
    pairs = Pairs(
        queries[chosen],
        patterns,
        None if query_groups is None else query_groups[chosen],
        pattern_groups,
        None if self_index is None else self_index[chosen],
    )
    centre = patterns[: 2**16].double().mean(0)
    away = queries[chosen].double() - centre
    table = torch.empty(len(chosen), len(patterns), device=queries.device)
    for start in range(0, len(patterns), 4096):
        rows = patterns[start : start + 4096].double() - centre
        block = torch.addmm(rows.square().sum(1) + away.square().sum(1)[:, None], away, rows.mT, alpha=-2)
        banned = pairs.banned(start, start + len(rows))
        table[:, start : start + 4096] = block if banned is None else block.masked_fill_(banned, math.inf)
    return temperature(table, effective)


def temperature(distance: Float[Tensor, "Q M"], effective: float = 3.0) -> float:
    """Return the beta at which the median row of squared distances has exp H(p) = `effective`; infinite ones count not."""
    distance = distance.clamp_min(0) - distance.clamp_min(0).amin(1, keepdim=True)
    spread = distance[distance.isfinite() & (distance > 0)]
    if len(spread) == 0:
        raise ShapeError("expected patterns at different distances, got only duplicates; no beta can be chosen.")

    def reached(log_beta: float) -> float:
        return _shares(distance, None, math.exp(log_beta))[1].exp().nanmedian().item()

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

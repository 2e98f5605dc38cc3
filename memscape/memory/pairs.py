"""Which queries may meet which patterns, and exactly how far apart are chosen pairs?"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memscape.errors import ShapeError


@dataclass(frozen=True)
class Pairs:
    """Queries, patterns, and which pairs of them may meet: none of one group, and no pattern with itself."""

    queries: Float[Tensor, "Q D"]
    patterns: Float[Tensor, "M D"]
    query_groups: Int[Tensor, " Q"] | None = None
    """A query never meets a pattern of its own group (the same document)."""
    pattern_groups: Int[Tensor, " M"] | None = None
    self_index: Int[Tensor, " Q"] | None = None
    """The pattern that a query itself is, or -1."""

    def check(self) -> "Pairs":
        """Return self, or raise a ShapeError that says what does not fit."""
        width, other = self.queries.shape[1], self.patterns.shape[1]
        if width != other:
            raise ShapeError(f"expected queries and patterns of one width, got {width} and {other}; use one space.")
        if (self.query_groups is None) != (self.pattern_groups is None):
            raise ShapeError("expected groups for queries and patterns both, got one of them; pass both or neither.")
        return self

    def rows(self, chosen: Tensor | slice) -> "Pairs":
        """Return the pairs of some of the queries."""
        groups, own = self.query_groups, self.self_index
        return replace(
            self,
            queries=self.queries[chosen],
            query_groups=None if groups is None else groups[chosen],
            self_index=None if own is None else own[chosen],
        )

    def banned(self, start: int, stop: int) -> Bool[Tensor, "Q N"] | None:
        """Return which pairs with the patterns from `start` to `stop` may not meet, or None if all may."""
        mask = None
        if self.query_groups is not None and self.pattern_groups is not None:
            mask = self.query_groups[:, None] == self.pattern_groups[None, start:stop]
        if self.self_index is not None:
            own = self.self_index[:, None] == torch.arange(start, stop, device=self.self_index.device)
            mask = own if mask is None else mask | own
        return mask

    def distances(self, index: Int[Tensor, "Q C"]) -> Float[Tensor, "Q C"]:
        """Return float64 squared distances to chosen patterns, from the differences; infinite where the index is -1."""
        out = torch.empty(index.shape, dtype=torch.float64, device=self.queries.device)
        rows = max(1, 2**22 // max(1, index.shape[1] * self.queries.shape[1]))
        for start in range(0, len(index), rows):
            chosen = index[start : start + rows]
            away = self.patterns[chosen.clamp_min(0)].double() - self.queries[start : start + rows, None].double()
            out[start : start + rows] = away.square().sum(-1)
        return out.masked_fill_(index < 0, math.inf)

    def centre(self) -> Float[Tensor, " D"]:
        """Return the median of some patterns, coordinate by coordinate: the origin in which products lose least.

        A median, because first positions 159 times longer than the rest would pull a mean.
        """
        step = max(1, len(self.patterns) // 1023)
        return self.patterns[::step].float().median(0).values

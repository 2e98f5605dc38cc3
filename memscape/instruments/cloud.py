"""The states of one site as a set of stored patterns, and the states that are asked about.

Every instrument of geometry starts here: which stored state of *another* document is nearest to this one? States of the
same document are left out, because neighbouring words see almost the same text.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memscape.errors import ShapeError
from memscape.memory.neighbours import Neighbours, search, temperature

EFFECTIVE = 3.0
"""Median effective number of patterns that sets beta. At beta = 1/(median distance) the energy of a real model averages
over thousands of patterns and only measures the distance to their mean."""

NEAREST = 64
"""Neighbours that are looked at; the others weigh nothing at three effective patterns."""

SAMPLE = 256
"""Queries whose neighbours set beta."""

MIDDLE = 1024
"""States whose coordinate-wise median is the middle."""

COPY = 1e-6
"""Squared distances below this share of the spread are exact copies: single precision cannot tell them from zero."""

FAR = 16.0
"""Times the spread: a state farther from the median is an outlier. First positions of real models are 25,000 away."""


@dataclass(frozen=True)
class Cloud:
    """M states of one site, their documents, and which of them are queries."""

    patterns_MD: Float[Tensor, "M D"]
    documents_M: Int[Tensor, " M"]
    queries_Q: Int[Tensor, " Q"]
    length: int = 1
    """States a context: so many patterns in a row are one sequence."""
    device: torch.device | str = "cpu"
    """Where neighbours are searched; the states themselves stay on the CPU."""

    @property
    def dim(self) -> int:
        return self.patterns_MD.shape[1]

    @property
    def asked(self) -> Float[Tensor, "Q D"]:
        """The states that are asked about."""
        return self.patterns_MD[self.queries_Q]

    @property
    def documents_Q(self) -> Int[np.ndarray, " Q"]:
        """The documents of the queries: what intervals resample."""
        return self.documents_M[self.queries_Q].numpy()

    @cached_property
    def _away_M(self) -> Float[Tensor, " M"]:
        some = self.patterns_MD[:: max(1, len(self.patterns_MD) // MIDDLE)]
        return (self.patterns_MD - some.median(0).values).square().sum(1, dtype=torch.float64)

    @cached_property
    def spread(self) -> float:
        """Median squared distance of a state from the coordinate-wise median: the unit of squared distance here.

        Medians, because the first positions of real models lie a hundred times farther out than all others.
        """
        return float(self._away_M.median())

    @cached_property
    def outlier_M(self) -> Bool[Tensor, " M"]:
        """Which states lie far outside: more than `FAR` spreads from the median."""
        return self._away_M > FAR * self.spread

    @cached_property
    def nearest(self) -> Neighbours:
        """The nearest patterns of other documents, for every query, and where there is a beta its energy."""
        try:
            return self._search(slice(None), self.beta)
        except ShapeError:
            return self._search(slice(None))

    @cached_property
    def beta(self) -> float:
        """Inverse temperature, 1/distance², at which the median query has `EFFECTIVE` effective patterns.

        Raises ShapeError where most states have exact copies: no temperature then tells them apart.
        """
        some = slice(None, None, max(1, len(self.queries_Q) // SAMPLE))
        return temperature(self._search(some).distance.double(), EFFECTIVE)

    @cached_property
    def distances(self) -> Float[Tensor, "Q K"]:
        """Distances (not squared) to the nearest patterns, float64; infinite beyond the last one."""
        return self.nearest.distance.double().clamp_min(0).sqrt()

    @cached_property
    def apart(self) -> Float[Tensor, "Q K"]:
        """`distances` to different patterns: exact copies, of the query or of each other, moved to infinity, in order.

        Two neighbours at one distance are copies of one pattern: distances of different ones never agree to 1e-6.
        """
        far = float("inf")
        near = self.distances.masked_fill(self.nearest.distance.double() <= COPY * self.spread, far).sort(1).values
        again = torch.zeros_like(near, dtype=torch.bool)
        again[:, 1:] = near[:, 1:] <= near[:, :-1] * (1 + COPY)
        return near.masked_fill(again, far).sort(1).values

    @property
    def energy_Q(self) -> Float[Tensor, " Q"]:
        """Energy E_beta of every query among the patterns of other documents, distance²; raises as `beta` does."""
        assert self.beta
        return energies(self.nearest)

    def _search(self, rows: slice, beta: float | None = None) -> Neighbours:
        chosen = self.queries_Q[rows]
        return search(
            self.patterns_MD[chosen], self.patterns_MD, k=min(NEAREST, len(self.patterns_MD)), beta=beta,
            query_groups=self.documents_M[chosen], pattern_groups=self.documents_M, device=self.device,
        )  # fmt: skip


def energies(found: Neighbours) -> Float[Tensor, " Q"]:
    """Return the energies of a search that had a beta, float64."""
    assert found.energy is not None, "the search had no beta"
    return found.energy.double()


def cloud(
    states_CTD: Float[Tensor, "C T D"], documents_C: np.ndarray, n_queries: int, device: torch.device | str = "cpu"
) -> Cloud:
    """Return the cloud of all states of one site, with `n_queries` of them, spread evenly, as queries."""
    contexts, length, dim = states_CTD.shape
    documents = torch.from_numpy(np.repeat(documents_C, length))
    total = contexts * length
    queries = torch.linspace(0, total - 1, min(n_queries, total), dtype=torch.float64).round().long()
    return Cloud(states_CTD.reshape(total, dim), documents, queries, length, device)

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

from memscape.memory.neighbours import Neighbours, search, temperature

EFFECTIVE = 3.0
"""Median effective number of patterns that sets beta. At beta = 1/(median distance) the energy of a real model averages
over thousands of patterns and only measures the distance to their mean."""

NEAREST = 64
"""Neighbours that are looked at; the others weigh nothing at three effective patterns."""

SAMPLE = 256
"""Queries whose neighbours set beta."""

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
    def centre(self) -> Float[Tensor, " D"]:
        """The coordinate-wise median."""
        return self.patterns_MD.median(0).values

    @cached_property
    def _away_M(self) -> Float[Tensor, " M"]:
        return (self.patterns_MD - self.centre).double().square().sum(1)

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
        """The nearest patterns of other documents, for every query."""
        return self._search(k=min(NEAREST, len(self.patterns_MD)))

    @cached_property
    def distances(self) -> Float[Tensor, "Q K"]:
        """Distances (not squared) to the nearest patterns, float64; infinite beyond the last one."""
        return self.nearest.distance.double().clamp_min(0).sqrt()

    @cached_property
    def apart(self) -> Float[Tensor, "Q K"]:
        """`distances` with exact copies moved out of the way (to infinity), in order."""
        copies = self.nearest.distance.double() <= COPY * self.spread
        return self.distances.masked_fill(copies, float("inf")).sort(1).values

    @cached_property
    def beta(self) -> float:
        """Inverse temperature, 1/distance², at which the median query has `EFFECTIVE` effective patterns.

        Raises ShapeError where most states have exact copies: no temperature then tells them apart.
        """
        every = max(1, len(self.queries_Q) // SAMPLE)
        return temperature(self.nearest.distance[::every].double(), EFFECTIVE)

    @cached_property
    def energy_Q(self) -> Float[Tensor, " Q"]:
        """Energy E_beta of every query among the patterns of other documents, distance²."""
        return energies(self._search(k=1, beta=self.beta))

    def _search(self, **options) -> Neighbours:
        own = self.documents_M[self.queries_Q]
        return search(self.asked, self.patterns_MD, query_groups=own, pattern_groups=self.documents_M, **options)


def energies(found: Neighbours) -> Float[Tensor, " Q"]:
    """Return the energies of a search that had a beta, float64."""
    assert found.energy is not None, "the search had no beta"
    return found.energy.double()


def cloud(states_CTD: Float[Tensor, "C T D"], documents_C: np.ndarray, n_queries: int) -> Cloud:
    """Return the cloud of all states of one site, with `n_queries` of them, spread evenly, as queries."""
    contexts, length, dim = states_CTD.shape
    documents = torch.from_numpy(np.repeat(documents_C, length))
    total = contexts * length
    queries = torch.linspace(0, total - 1, min(n_queries, total), dtype=torch.float64).round().long()
    return Cloud(states_CTD.reshape(total, dim), documents, queries, length)

"""The states of one site as a set of stored patterns, and the states that are asked about.

Every instrument of geometry starts here: which stored state of *another* document is nearest to this one? States of the
same document are left out, because neighbouring words see almost the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from memscape.memory.neighbours import Neighbours, search, temperature
from memscape.theory.measure import Measured, statistic

EFFECTIVE = 3.0
"""Median effective number of patterns that sets beta. At beta = 1/(median distance) the energy of a real model averages
over thousands of patterns and only measures the distance to their mean."""

NEAREST = 64
"""Neighbours that the choice of beta looks at; the others weigh nothing at three effective patterns."""


@dataclass(frozen=True)
class Cloud:
    """M states of one site, their documents, and which of them are queries."""

    patterns_MD: Float[Tensor, "M D"]
    documents_M: Int[Tensor, " M"]
    queries_Q: Int[Tensor, " Q"]

    @property
    def dim(self) -> int:
        return self.patterns_MD.shape[1]

    @cached_property
    def spread(self) -> float:
        """Median squared distance of a state from the coordinate-wise median: the unit of squared distance here.

        Medians, because the first positions of real models lie a hundred times farther out than all others.
        """
        centre = self.patterns_MD.median(0).values
        return float((self.patterns_MD - centre).double().square().sum(1).median())

    @cached_property
    def nearest(self) -> Neighbours:
        """The nearest patterns of other documents, for every query."""
        return self._search(k=min(NEAREST, len(self.patterns_MD)))

    @cached_property
    def beta(self) -> float:
        """Inverse temperature, 1/distance², at which the median query has `EFFECTIVE` effective patterns.

        Raises ShapeError where most states have exact copies: no temperature then tells them apart.
        """
        return temperature(self.nearest.distance.double(), EFFECTIVE)

    @cached_property
    def energy_Q(self) -> Float[Tensor, " Q"]:
        """Energy E_beta of every query among the patterns of other documents, distance²."""
        return energies(self._search(k=1, beta=self.beta))

    def gaussian(self, seed: int = 0) -> "Cloud":
        """Return a cloud of the same size, mean and deviation of every coordinate, and no other structure."""
        generator = torch.Generator().manual_seed(seed)
        mean, deviation = self.patterns_MD.mean(0), self.patterns_MD.std(0, unbiased=False)
        noise = torch.randn(self.patterns_MD.shape, generator=generator)
        return Cloud(mean + deviation * noise, self.documents_M, self.queries_Q)

    def by_document(self, values_Q: Float[Tensor, " Q"], reduce: Callable[..., float], unit: str) -> Measured:
        """Return `reduce` of one value per query, its interval from resampling whole documents."""
        documents = self.documents_M[self.queries_Q].numpy()
        values = values_Q.double().numpy()
        groups = [values[documents == d] for d in np.unique(documents)]
        ragged = np.full((len(groups), max(map(len, groups))), np.nan)
        for row, group in zip(ragged, groups, strict=True):
            row[: len(group)] = group
        return statistic(ragged, reduce, unit, resamples=500)

    def _search(self, **options) -> Neighbours:
        own = self.documents_M[self.queries_Q]
        states = self.patterns_MD[self.queries_Q]
        return search(states, self.patterns_MD, query_groups=own, pattern_groups=self.documents_M, **options)


def energies(found: Neighbours) -> Float[Tensor, " Q"]:
    """Return the energies of a search that had a beta, float64."""
    assert found.energy is not None, "the search had no beta"
    return found.energy.double()


def cloud(states_CTD: Float[Tensor, "C T D"], documents_C: np.ndarray, n_queries: int) -> Cloud:
    """Return the cloud of all states of one site, with `n_queries` of them, spread evenly, as queries."""
    contexts, length, dim = states_CTD.shape
    documents = torch.from_numpy(np.repeat(documents_C, length))
    total = contexts * length
    queries = torch.linspace(0, total - 1, min(n_queries, total)).round().long()
    return Cloud(states_CTD.reshape(total, dim), documents, queries)

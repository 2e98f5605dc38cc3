"""How are billions of patterns searched when an approximate answer will do?

Bring any faiss index (extra `memscape[faiss]`): it proposes candidates, which are rescored exactly here. What the index
overlooks stays overlooked, so nothing is certified; distances of what it found are exact.

>>> index = faiss.index_factory(64, "IVF1024,Flat")  # trained and filled with the same patterns
>>> found = search_with(index, queries, patterns, k=10, beta=0.5)
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from memscape.errors import ShapeError
from memscape.memory.pairs import Pairs
from memscape.memory.union import Neighbours, ranked


def search_with(
    index: Any,
    queries: Float[Tensor, "Q D"],
    patterns: Float[Tensor, "M D"],
    k: int = 1,
    *,
    beta: float | None = None,
    candidates: int = 64,
) -> Neighbours:
    """Return the k nearest of the `candidates` that a faiss index proposes, and the energy of those alone.

    `error` bounds what leaving out all others costs, 1/beta log(1 + (M - c) exp(-beta (a_c - g))) with a_c the furthest
    candidate, if the index missed none nearer. Raises ShapeError if the index holds another number of vectors.
    """
    if index.ntotal != len(patterns) or index.d != patterns.shape[1]:
        held = f"{index.ntotal} x {index.d}"
        raise ShapeError(
            f"expected an index of these {len(patterns)} x {patterns.shape[1]} patterns, got one of {held}."
        )
    wanted = min(max(k, candidates), len(patterns))
    proposed = index.search(queries.detach().float().cpu().numpy(), wanted)[1]
    place = torch.from_numpy(proposed).to(queries.device)
    distance = Pairs(queries, patterns).distances(place)
    near, index_QK = ranked(distance, place, k)
    found = Neighbours(near, index_QK, torch.zeros(len(queries), dtype=torch.bool, device=queries.device))
    if beta is not None:
        terms = -beta * distance
        energy = -terms.logsumexp(1) / beta
        furthest = torch.where(distance.isfinite(), distance, 0.0).amax(1)
        error = torch.log1p((len(patterns) - wanted) * (-beta * (furthest - distance.amin(1))).exp()) / beta
        found = replace(found, beta=beta, energy=energy, error=error)
    return found.to(torch.float64 if queries.dtype == torch.float64 else torch.float32)

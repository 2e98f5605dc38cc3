"""Candidates from faiss, rescored: right when the index is exact, honest when it is not."""

import pytest
import torch

from memscape.errors import ShapeError
from memscape.memory.approximate import search_with
from memscape.memory.neighbours import search

faiss = pytest.importorskip("faiss")


def test_an_exact_index_gives_the_exact_answer_within_the_truncation_bound():
    """A flat index overlooks nothing: same neighbours, energy above the true one by at most `error`."""
    patterns, queries = torch.randn(2000, 12), torch.randn(30, 12)
    index = faiss.IndexFlatL2(12)
    index.add(patterns.numpy())
    ours, exact = search_with(index, queries, patterns, 5, beta=1.0), search(queries, patterns, 5, beta=1.0)
    assert torch.equal(ours.index, exact.index)
    assert (ours.energy >= exact.energy - 1e-4).all()
    assert (ours.energy - exact.energy <= ours.error + 1e-4).all()
    assert not ours.certified.any()


def test_an_approximate_index_finds_most_and_states_exact_distances():
    """An inverted file probing 4 of 20 lists: most neighbours, and never a wrong distance."""
    patterns = torch.randn(2000, 8)
    index = faiss.index_factory(8, "IVF20,Flat")
    index.train(patterns.numpy())
    index.add(patterns.numpy())
    index.nprobe = 4
    found = search_with(index, patterns[:50], patterns, 3)
    assert (found.index[:, 0] == torch.arange(50)).all()
    away = (patterns[found.index] - patterns[:50, None]).square().sum(2)
    assert torch.allclose(found.distance, away, atol=1e-5)
    with pytest.raises(ShapeError, match="2000 x 8"):
        search_with(index, patterns[:5], patterns[:100])

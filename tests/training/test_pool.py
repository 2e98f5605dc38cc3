"""Sequences on the device or on disk are the same sequences; standard errors resample documents."""

import numpy as np
import pytest
import torch

from memscape.data import Sequences
from memscape.training.evaluate import clustered_sem
from memscape.training.pool import Pool


def sets():
    rng = np.random.default_rng(0)
    first = Sequences(rng.integers(0, 99, (50, 6)).astype(np.uint16), rng.integers(0, 4, 50))
    second = Sequences(rng.integers(-1, 99, (30, 6)).astype(np.int32), rng.integers(0, 3, 30))
    return first, second


@pytest.mark.parametrize("resident", [True, False])
def test_rows_come_back_as_they_are_wherever_they_wait(resident):
    """Two sets, one padded, three members: offsets point to each member's own rows; equal sets are kept once."""
    first, second = sets()
    pool = Pool([first, second, first], torch.device("cpu"), resident=resident)
    assert pool.offsets == [0, 50, 0]
    rows = torch.tensor([[0, 49, 3], [50, 79, 51], [3, 3, 0]])
    found = pool[rows]
    assert found.dtype == torch.int64
    want = np.concatenate([first.tokens.astype(int), second.tokens.astype(int)])[rows.numpy()]
    assert np.array_equal(found.numpy(), want)
    assert pool.documents[50:].min() > pool.documents[:50].max()
    ahead = pool.ahead(torch.stack([rows, rows.flip(0)])) if not resident else []
    for future, expected in zip(ahead, (want, want[::-1]), strict=bool(ahead) or False):
        assert np.array_equal(future.result().numpy(), expected)


def test_the_standard_error_is_the_bootstraps_over_documents():
    """It agrees within 10 % with the spread of 4,000 resamplings of whole documents, and exceeds the naive one."""
    rng = np.random.default_rng(0)
    n_documents, each = 60, 10
    level = rng.normal(size=n_documents)
    nats = 20 + 5 * np.repeat(level, each) + rng.normal(size=n_documents * each)
    document = np.repeat(np.arange(n_documents), each)
    tokens = np.full(len(nats), 8)
    loss = nats.sum() / tokens.sum()
    arrays = [torch.from_numpy(x)[None] for x in (nats - loss * tokens, tokens, document, np.ones(len(nats), bool))]
    sem = clustered_sem(*arrays).item()
    by_document = nats.reshape(n_documents, each).sum(1)
    draws = rng.integers(0, n_documents, (4000, n_documents))
    spread = (by_document[draws].sum(1) / (n_documents * each * 8)).std()
    assert sem == pytest.approx(spread, rel=0.1)
    assert sem > 2 * nats.std() / np.sqrt(len(nats)) / 8

"""The order of training: exact epochs, even shuffling, and resumption anywhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from memscape.data import batch_indices


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 400), st.integers(0, 2**63))
def test_every_sequence_is_seen_once_an_epoch(n, batch_size, seed):
    """Epochs are exact: after k epochs' worth of positions each sequence came k times, whatever the batch."""
    steps = math.ceil(3 * n / batch_size)
    seen = np.concatenate([batch_indices(n, batch_size, step, seed) for step in range(steps)])
    for epoch in range(3):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 30), st.integers(0, 40), st.integers(0, 10))
def test_the_order_does_not_depend_on_the_batch_it_is_read_in(n, batch_size, step, seed):
    """One step of many batches is many steps of one: a loop may look up as many at once as it likes."""
    together = batch_indices(n, 4 * batch_size, step, seed)
    apart = [batch_indices(n, batch_size, 4 * step + i, seed) for i in range(4)]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_epochs_differ_in_order_and_seeds_in_everything():
    """Each epoch is shuffled anew."""
    orders = {tuple(batch_indices(20, 20, step, seed)) for step in range(3) for seed in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("n", [2, 3, 5, 17, 64])
def test_shuffling_is_even(n):
    """Over 20,000 epochs: which sequence comes first, which follows it, and which opens the next epoch are all uniform.

    Chi-square tests at 1e-4; a network of 4 rounds fails them for every n, of 6 for n = 2.
    """
    order_EN = batch_indices(n, 20_000 * n, 0, seed=7).reshape(-1, n)
    first, second = order_EN[:, 0], order_EN[:, 1]
    following = np.bincount(first * n + second, minlength=n * n)[~np.eye(n, dtype=bool).ravel()]
    opening = np.bincount(first[:-1] * n + first[1:], minlength=n * n)
    for counts in (np.bincount(first, minlength=n), following, opening):
        assert chisquare(counts).pvalue > 1e-4

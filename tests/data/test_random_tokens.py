"""Random tokens: uniform, nested by size, apart by role."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscape.data.random_tokens import random_tokens, token_dtype
from memscape.errors import CorpusError


@settings(deadline=None)
@given(st.integers(2, 70_000), st.integers(1, 40), st.integers(1, 40), st.integers(1, 7))
def test_smaller_sets_begin_larger_ones(vocab_size, small, more, seq_len):
    """Capacity is read off growing sets; growth adds, it does not replace."""
    large = random_tokens(vocab_size, small + more, seq_len, seed=1)
    np.testing.assert_array_equal(random_tokens(vocab_size, small, seq_len, seed=1), large[:small])
    assert large.max() < vocab_size


def test_tokens_are_uniform():
    """Chi-square of 64 tokens over 64,000 draws, far inside its 99.99 % point (63 degrees of freedom: 124)."""
    counts = np.bincount(random_tokens(64, 1000, 64, seed=0).ravel(), minlength=64)
    assert ((counts - 1000) ** 2 / 1000).sum() < 124


def test_roles_and_seeds_are_apart():
    """Held-out sequences are no training sequences."""
    sets = [random_tokens(64, 200, 16, seed, role) for seed, role in [(0, 0), (0, 1), (0, 2), (1, 0)]]
    rows = {tuple(row) for tokens in sets for row in tokens.tolist()}
    assert len(rows) == 800


def test_types_hold_every_id_and_one_token_is_no_corpus():
    """16 bits up to 65,536 tokens."""
    assert (token_dtype(65_536), token_dtype(65_537)) == (np.uint16, np.uint32)
    with pytest.raises(CorpusError, match="at least 2"):
        random_tokens(1, 1, 1, seed=0)

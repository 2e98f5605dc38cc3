"""Duplicates: planted copies are found however they are hidden, and new text is left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscape.data.duplicates import NEAR, repeated_share, window_tokens

RNG = np.random.default_rng(0)


def text(n: int, seq_len: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (n, seq_len)).astype(np.uint16)


def brute_force(tokens: np.ndarray, window: int) -> list[float]:
    """The definition: windows as tuples, a dictionary of what earlier rows held."""
    seen, shares = set(), []
    for row in tokens.tolist():
        whole = [tuple(row[i : i + window]) for i in range(len(row) - window + 1)]
        whole = [w for w in whole if min(w) >= 0]
        shares.append(sum(w in seen for w in whole) / max(1, len(whole)))
        seen.update(whole)
    return shares


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4, 8]), st.integers(2, 12), st.integers(2, 30))
def test_the_share_is_that_of_the_definition(seed, window, seq_len, n):
    """Hashes of doubled windows against tuples, padding included."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 3, (n, seq_len)).astype(np.int32)
    lengths = rng.integers(1, seq_len + 1, n)
    tokens[np.arange(seq_len) >= lengths[:, None]] = -1
    share, copy = repeated_share(tokens, window)
    if window <= seq_len:
        np.testing.assert_allclose(share, brute_force(tokens, window), atol=1e-12)
    rows = [tuple(row) for row in tokens.tolist()]
    assert copy.tolist() == [row in rows[:i] for i, row in enumerate(rows)]


@pytest.mark.parametrize("shift", [1, 7, 20])
def test_shifted_and_edited_copies_are_near_duplicates(shift):
    """The cut between chunks falls elsewhere in another edition; a word differs; it is still the same text."""
    book = RNG.integers(0, 200, 64 * 20).astype(np.uint16)
    first, later = book.reshape(-1, 64), book[shift : shift + 64 * 19].reshape(-1, 64).copy()
    later[:, 30] = 199
    share, copy = repeated_share(np.concatenate([first, later]), window=8)
    assert (share[:20] < 0.01).all()
    assert (share[20:] >= NEAR).all()
    assert not copy.any()


def test_new_text_repeats_nothing():
    """Random rows share no window."""
    share, copy = repeated_share(text(500), window=8)
    assert share.max() == 0
    assert not copy.any()


def test_a_sample_of_windows_estimates_the_share():
    """With an eighth of the windows in memory a copy is still 1, new text 0, a half copy about a half."""
    old, new = text(2000), text(2000, seed=1)
    half = np.concatenate([old[:, :36], text(2000, seed=2)[:, :28]], axis=1)
    rows = np.concatenate([old, old, new, half])
    share, _ = repeated_share(rows, window=8, most_windows=rows.size // 8)
    expected = (36 - 7) / 57
    held = share[2000:4000]
    assert ((held == 1) | (held == 0)).all()
    assert (held == 1).mean() > 0.99, "a row of which no window was kept reads 0"
    assert share[4000:6000].max() == 0
    assert share[6000:].mean() == pytest.approx(expected, abs=0.02)


def test_windows_are_about_six_words():
    """32 bytes in any tokenizer; sequences under two windows are phrases, of which only copies count."""
    assert [window_tokens(b, 256) for b in (1.0, 2.2, 3.7, 4.5)] == [32, 16, 8, 8]
    assert [window_tokens(1.0, seq_len) for seq_len in (63, 64)] == [0, 32]

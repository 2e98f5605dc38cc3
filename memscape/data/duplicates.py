"""Duplicates: which sequences repeat an earlier one, word for word or nearly?

A sequence is compared through its windows of a few words: the share of them that occurred before is 1 for a copy, stays
high when a copy is shifted or a word is changed, and is near 0 for new text. On very large sets only windows whose hash
falls under a limit are kept (FracMinHash, Irber et al. 2022), which estimates the same share in bounded memory.

>>> rows = np.array([[1, 2, 3, 4, 5, 6], [9, 1, 2, 3, 4, 5], [7, 8, 7, 9, 8, 9]])
>>> repeated_share(rows, window=2)[0].tolist()
[0.0, 0.8, 0.0]
"""

import math

import numpy as np
from jaxtyping import Bool, Float64, Integer

from memscape.data.hashing import GOLDEN, mix

NEAR = 0.5
"""A sequence half of whose windows occurred before is a near duplicate."""

WINDOW_BYTES = 32
"""About six words of English: long enough that a window seen twice is a quotation, not an idiom."""

MOST_WINDOWS = 1 << 24
"""Windows held at once; beyond this number a sample of them is kept."""


def window_tokens(bytes_per_token: float, seq_len: int) -> int:
    """Return the window in tokens: the power of two nearest to 32 bytes; 0 where that is over half a sequence.

    So short a sequence is a phrase, and phrases recur in new text: of those only copies count.
    """
    window = 2 ** max(0, round(math.log2(WINDOW_BYTES / bytes_per_token)))
    return window if 2 * window <= seq_len else 0


def repeated_share(
    tokens: Integer[np.ndarray, "n seq_len"], window: int, most_windows: int = MOST_WINDOWS
) -> tuple[Float64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return per sequence the share of its windows found in earlier sequences, and whether it equals one of them.

    Args:
        tokens: ids, -1 after the end of a short sequence; windows that reach beyond the end do not count.
        window: tokens a window, a power of two; 0 looks for copies only.
        most_windows: how many windows to hold; the share is exact up to that many and an unbiased estimate beyond.
    """
    n, seq_len = tokens.shape
    limit = np.uint64(min(2**64 - 1, 2**64 * most_windows // max(1, n * seq_len)))
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    whole = np.zeros(n, np.uint64)
    powers = np.array([pow(int(GOLDEN), t, 2**64) for t in range(seq_len)], dtype=np.uint64)
    block = max(1, (1 << 20) // seq_len)
    for start in range(0, n, block):
        rows = np.asarray(tokens[start : start + block]).astype(np.int64)
        spelled = mix((rows + 2).astype(np.uint64))
        whole[start : start + len(rows)] = mix((spelled * powers).sum(axis=1, dtype=np.uint64))
        if 0 < window <= seq_len:
            found = _window_hashes(spelled, window)
            kept = (rows[:, window - 1 :] >= 0) & (found <= limit)
            hashes.append(found[kept])
            owners.append(np.nonzero(kept)[0] + start)
    owner = np.concatenate(owners)
    repeats = _first_owner(np.concatenate(hashes), owner) < owner
    n_windows = np.bincount(owner, minlength=n)
    share = np.bincount(owner, weights=repeats, minlength=n) / np.maximum(n_windows, 1)
    row = np.arange(n)
    return share, _first_owner(whole, row) < row


def _first_owner(hashes: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """For each hash the owner of its first occurrence; owners ascend."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return owner[first][inverse]


def _window_hashes(spelled: np.ndarray, window: int) -> np.ndarray:
    """Hash every window by doubling: its left half times a power plus its right half."""
    width, power = 1, int(GOLDEN)
    while width < window:
        spelled = spelled[:, :-width] * np.uint64(power) + spelled[:, width:]
        width, power = 2 * width, power * power % 2**64
    return mix(spelled)

"""The order of training: which sequences does a step see, epoch after epoch?

Every epoch is a fresh permutation, and a step costs its own size only, whatever the size of the set: the sequence at
place p of epoch e is computed, not looked up, by a Feistel network on the smallest square of a power of two that holds
n, walked until it falls below n (Black & Rogaway 2002). So a resumed run, and each of a hundred packed ones, begins at
once.

>>> sorted(batch_indices(5, batch_size=5, step=7, seed=0).tolist())
[0, 1, 2, 3, 4]
"""

import numpy as np
from jaxtyping import Int64

from memscape.data.hashing import GOLDEN, mix

ROUNDS = 8
"""With 6, sets of two or three are visibly uneven over 20,000 epochs (chi-square of places and neighbours)."""


def batch_indices(n_sequences: int, batch_size: int, step: int, seed: int) -> Int64[np.ndarray, " batch_size"]:
    """Return which sequences step `step` sees: epoch after epoch, a batch may end one and begin the next.

    After k n / batch_size steps every sequence has been seen exactly k times; a run resumed at `step` sees what it
    would have seen.
    """
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.uint64), n_sequences)
    return _permuted(places, n_sequences, mix(np.uint64(seed % 2**64) ^ mix(epochs + GOLDEN))).astype(np.int64)


def _permuted(places: np.ndarray, n: int, key: np.ndarray) -> np.ndarray:
    """Where the permutation of 0 .. n - 1 that `key` chooses, element by element, sends each place."""
    half = max(3, -(-(n - 1).bit_length() // 2))
    bits, rest, mask, middle = (np.uint64(x) for x in (half, 64 - half, 2**half - 1, 32))
    keys = [mix(key + np.uint64(r * int(GOLDEN) % 2**64)) | np.uint64(1) for r in range(1, ROUNDS + 1)]
    found, outside = places.copy(), np.arange(len(places))
    while len(outside):
        left, right = found[outside] >> bits, found[outside] & mask
        for multiplier in (k[outside] for k in keys):
            left, right = right, left ^ ((right * multiplier + (multiplier << middle)) >> rest)
        found[outside] = left << bits | right
        outside = outside[found[outside] >= n]
    return found

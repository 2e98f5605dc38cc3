"""Random tokens: sequences with nothing to learn, so that whatever a model knows of them it has memorised.

Every token is uniform out of V and carries log2 V bits; the capacity of a model is read off where the bits it stores
stop growing (Morris et al. 2025, arXiv 2505.24832).

>>> random_tokens(64, n_sequences=2, seq_len=4, seed=0).shape
(2, 4)
"""

import numpy as np
from jaxtyping import UInt

from memscape.errors import CorpusError


def random_tokens(vocab_size: int, n_sequences: int, seq_len: int, seed: int, role: int = 0) -> UInt[np.ndarray, "n T"]:
    """Return tokens uniform in 0 .. V-1; sets of one seed and role nest: the smaller begins the larger.

    `role` separates sets that must not share sequences (training, held out).
    """
    if vocab_size < 2:
        raise CorpusError(f"{vocab_size} different tokens carry no information; expected at least 2.")
    dtype = token_dtype(vocab_size)
    return np.random.default_rng([seed, role]).integers(0, vocab_size, (n_sequences, seq_len), dtype=dtype)


def token_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """Return the smallest unsigned type that holds every id of a vocabulary."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32

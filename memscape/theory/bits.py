"""Memorised bits: how much of its training set does a model hold, counted the same way wherever it is counted?

Unintended memorisation after Morris et al. (2025, arXiv 2505.24832): what a model spends less on its training text
than on text of the same kind that it never saw. On uniform random tokens nothing can be learnt, so all it saves is
memorised.

>>> round(memorised_bits(n_tokens=1_000_000, reference_loss=3.0, train_loss=2.5))
721348
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from memscape.errors import ShapeError


def memorised_bits(n_tokens: float, reference_loss: float, train_loss: float) -> float:
    """Return max(0, D (L_ref - L_train)) / ln 2 in bits, for D unique training tokens and losses in nats/token.

    `reference_loss` is the loss on fresh text of the same source, by the same model: never on another domain.
    """
    return max(0.0, n_tokens * (reference_loss - train_loss)) / math.log(2)


def data_bits(n_tokens: float, reference_loss: float, floor: float) -> float:
    """Return D (L_ref - floor) / ln 2: the bits that a model at the floor of its training set would have memorised."""
    return max(0.0, n_tokens * (reference_loss - floor)) / math.log(2)


def random_bits(n_tokens: float, vocab_size: int, train_loss: float) -> float:
    """Return D log₂V - ΣNLL / ln 2, the bits held of D uniform random tokens; negative if worse than chance."""
    return n_tokens * (math.log(vocab_size) - train_loss) / math.log(2)


def random_data_bits(n_tokens: float, vocab_size: int) -> float:
    """Return D log₂V, the information in D uniform random tokens, in bits."""
    return n_tokens * math.log2(vocab_size)


def share(memorised: float, data: float) -> float:
    """Return the share of the data's bits that is memorised; nan when the data has none to memorise."""
    return memorised / data if data > 0 else math.nan


def bits_per_parameter(memorised: float, n_params: float) -> float:
    """Return bits per parameter; published plateaus: 3.5-3.8 on random text (2505.24832), 2 for facts (2404.05405)."""
    return memorised / n_params


def extracted(predicted: ArrayLike, truth: ArrayLike, prompt: int) -> np.ndarray:
    """Return for each sequence whether greedy decoding from its first `prompt` tokens repeats the rest exactly.

    `predicted` (B, T) holds the most likely token at each position given the *true* tokens before it; `truth` (B, T)
    the tokens. One forward pass decides it: greedy decoding leaves the text at the first position where they differ.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or truth.ndim != 2:
        raise ShapeError(
            f"expected two (B, T) arrays of one shape, got {predicted.shape} and {truth.shape}; align them first."
        )
    if not 0 <= prompt < truth.shape[1]:
        raise ShapeError(f"prompt={prompt} leaves nothing of {truth.shape[1]} tokens to extract; use a shorter prompt.")
    return (predicted == truth)[:, prompt:].all(axis=1)

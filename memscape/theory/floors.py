"""Loss floors: how low can the training loss on a given set of tokens go, in nats?

A model that has memorised a training set perfectly still pays for not knowing which sequence comes: the empirical
entropy of the set. These are the honest floors beside which every training loss is printed; the constant 1 of
Niu et al. (arXiv 2405.08707, Prop. 4) is none of them.

>>> import numpy as np
>>> round(token_floor(np.random.default_rng(0).integers(0, 64, (64, 64))), 6)
0.064983
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from memscape.errors import CorpusError

Sequences = np.ndarray | Sequence[ArrayLike]
"""Token ids: an array (n_sequences, T), or a list of 1-D arrays of any lengths."""


def uniform(vocab_size: int) -> float:
    """Return ln V, the loss in nats/token of a model that knows nothing."""
    return math.log(vocab_size)


def entropy(counts: ArrayLike) -> float:
    """Return the entropy in nats of an empirical distribution with counts m: H = ln d - (1/d) Σ m ln m, d = Σ m."""
    m = np.asarray(counts, dtype=np.float64)
    m = m[m > 0]
    return float(math.log(m.sum()) - (m * np.log(m)).sum() / m.sum())


def sequence_entropy(sequences: Sequences) -> float:
    """Return H(p̂) of a set of sequences in nats per sequence; ln d if all d are distinct.

    No model has a lower mean -ln q(sequence) on the set; equality iff it gives each sequence its frequency.
    """
    tokens, lengths = _rows(sequences)
    return entropy(np.unique(np.column_stack([lengths, tokens]), axis=0, return_counts=True)[1])


def token_floor(sequences: Sequences, first_predicted: bool = True) -> float:
    """Return the floor of the next-token training loss on a set of sequences, in nats/token.

    H(p̂)/T̄ when every token is predicted, the first from a begin token; (H(p̂) - H(first token))/T̄ when the first is
    only context. T̄ is the mean number of predicted tokens. Where one sequence begins another and no end token is
    predicted, the loss does not contain the length, and neither does this floor: it is the entropy of each token given
    all before it.
    """
    tokens, lengths = _rows(sequences)
    n_predicted = int((lengths - (not first_predicted)).sum())
    if n_predicted == 0:
        raise CorpusError("expected a token to predict, got sequences of one token whose first is only context.")
    nats = 0.0
    prefix = np.zeros(len(tokens), dtype=np.int64)
    for t in range(tokens.shape[1]):
        alive = lengths > t
        tokens, lengths, prefix = tokens[alive], lengths[alive], prefix[alive]
        parents = np.bincount(prefix)[prefix]
        if parents.max() == 1:
            break  # every prefix is unique: the rest of each sequence is certain
        prefix = _ids(prefix, tokens[:, t])
        if t > 0 or first_predicted:
            nats += float(np.log(parents / np.bincount(prefix)[prefix]).sum())
    return nats / n_predicted


def context_entropy(sequences: Sequences, context: int | None = None, first_predicted: bool = True) -> float:
    """Return the empirical entropy of a token given the `context` tokens before it in its sequence, in nats/token.

    0 is the unigram entropy, None the whole prefix (`token_floor`). The floor of a model that sees no further; it
    falls as the context grows. Contexts are cut at the start of the sequence, which counts as a symbol of its own.
    """
    if context is None:
        return token_floor(sequences, first_predicted)
    tokens, lengths = _rows(sequences)
    padded = np.pad(tokens, ((0, 0), (context, 0)), constant_values=-1)
    predicted = np.arange(tokens.shape[1]) < lengths[:, None]
    predicted[:, 0] &= first_predicted
    at = np.flatnonzero(np.pad(predicted, ((0, 0), (context, 0))))
    joint = _window_ids(padded.ravel(), context + 1)[at - context]
    past = _window_ids(padded.ravel(), context)[at - context]
    return entropy(np.bincount(joint)) - entropy(np.bincount(past))


def crop_floor(documents: Sequences, length: int, first_predicted: bool = True) -> float:
    """Return the floor of training on random crops of `length` tokens out of one or more documents, in nats/token.

    H(crop)/T with all T tokens predicted from inside the crop (chain rule), at most ln(number of offsets)/T. Crops lie
    within a document and are equally likely.
    """
    if isinstance(documents, np.ndarray):
        documents = np.atleast_2d(documents)
    rows = [np.asarray(row, dtype=np.int64) for row in documents]
    stream = np.concatenate(rows)
    starts = _offsets([len(row) for row in rows], length)
    nats = entropy(np.bincount(_window_ids(stream, length)[starts]))
    if not first_predicted:
        nats -= entropy(np.bincount(_ids(stream)[starts]))
    return nats / (length - (not first_predicted))


def _rows(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Token ids as one array (n_sequences, longest), padded with -1, and the lengths."""
    if isinstance(sequences, np.ndarray) and sequences.ndim == 2:
        tokens, lengths = sequences.astype(np.int64), np.full(len(sequences), sequences.shape[1])
    else:
        rows = [np.asarray(row, dtype=np.int64).ravel() for row in sequences]
        lengths = np.array([len(row) for row in rows])
        tokens = np.full((len(rows), max(lengths, default=0)), -1)
        for target, row in zip(tokens, rows, strict=True):
            target[: len(row)] = row
    if tokens.size == 0 or lengths.min() == 0:
        raise CorpusError("expected sequences of at least one token, got an empty one; drop empty sequences first.")
    return tokens, lengths


def _offsets(lengths: list[int], length: int) -> np.ndarray:
    """Where crops may start in the concatenated documents."""
    ends = np.cumsum(lengths)
    starts = [np.arange(end - n, end - length + 1) for n, end in zip(lengths, ends, strict=True)]
    found = np.concatenate(starts)
    if len(found) == 0:
        raise CorpusError(
            f"expected a document of at least {length} tokens, the longest has {max(lengths)}; crop shorter."
        )
    return found


def _ids(*columns: np.ndarray) -> np.ndarray:
    """Number the distinct rows of equal-length integer columns 0, 1, ...: equal rows, equal number."""
    key, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        column = column - column.min()
        width = int(column.max()) + 1
        if size * width >= 2**62:  # would overflow: number what is there first
            key, size = np.unique(key, return_inverse=True)[1], len(key)
        key, size = key * width + column, size * width
    return np.unique(key, return_inverse=True)[1]


def _window_ids(stream: np.ndarray, length: int) -> np.ndarray:
    """Number the distinct windows of `length` tokens by their start, by doubling: two that may overlap make one."""
    if length == 0:
        return np.zeros(len(stream), dtype=np.int64)
    ids, width = _ids(stream), 1
    while width < length:
        step = min(width, length - width)
        ids, width = _ids(ids[:-step], ids[step:]), width + step
        if ids.max() == len(ids) - 1:
            return ids[: len(stream) - length + 1]  # all windows differ, longer ones too
    return ids

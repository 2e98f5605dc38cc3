"""Sequences: what nests, in which order they are seen, and the floor that their convention makes exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscape.data import Sequences
from memscape.errors import CorpusError, FolderError


def sequences(n: int, seq_len: int, seed: int = 0, vocab_size: int = 50) -> Sequences:
    tokens = np.random.default_rng(seed).integers(0, vocab_size, (n, seq_len), dtype=np.uint16)
    return Sequences(tokens, np.arange(n) // 3)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.data())
def test_subsets_nest(n, seq_len, data):
    """The smaller set begins the larger one, and neither exceeds what was asked for."""
    pool = sequences(n, seq_len)
    small = data.draw(st.integers(seq_len, n * seq_len))
    large = data.draw(st.integers(small, n * seq_len))
    a, b = pool.first(small), pool.first(large)
    np.testing.assert_array_equal(a.tokens, b.tokens[: len(a)])
    assert small - seq_len < a.n_tokens <= small


def test_padding_is_no_token():
    """Short lines count by what they hold."""
    tokens = np.array([[1, 2, -1], [3, -1, -1], [4, 5, 6]], dtype=np.int32)
    lines = Sequences(tokens, np.arange(3))
    assert lines.lengths.tolist() == [2, 1, 3]
    assert lines.n_tokens == 6
    assert len(lines.first(5)) == 2


def test_asking_for_too_much_or_too_little_says_so():
    """How much there is, and what one sequence takes."""
    with pytest.raises(CorpusError, match="expected 100 training tokens, the corpus has 12"):
        sequences(4, 3).first(100)
    with pytest.raises(CorpusError, match="2 tokens hold no sequence of 3"):
        sequences(4, 3).first(2)


def test_the_floor_is_reached_by_the_empirical_distribution_and_by_nothing_better():
    """Inputs [BOS, t1..], targets [t1..tT]: the exact counts of continuations, as a model, have loss H(p̂)/T."""
    tokens = np.array([[1, 2, 3], [1, 2, 4], [1, 2, 3], [5, 5, 5]], dtype=np.uint16)
    nats = 0.0
    for row in tokens.tolist():
        for t in range(3):
            before = [other[: t + 1] for other in tokens.tolist() if other[:t] == row[:t]]
            nats -= math.log(before.count(row[: t + 1]) / len(before))
    floor = Sequences(tokens, np.arange(4)).floor()
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert floor == pytest.approx(nats / tokens.size, abs=1e-12)
    assert floor == pytest.approx(entropy / 3, abs=1e-12)


def test_the_floor_of_padded_lines_counts_their_tokens_only():
    """With an end token each line is known from its tokens: H(p̂) over the mean length."""
    tokens = np.array([[1, 9, -1], [2, 3, 9], [4, 9, -1]], dtype=np.int32)
    assert Sequences(tokens, np.arange(3)).floor() == pytest.approx(math.log(3) / (7 / 3))


def test_sequences_on_disk_are_mapped_not_read(tmp_path):
    """A set larger than memory can be opened; a damaged file is named."""
    pool = sequences(9, 5)
    pool.save(tmp_path / "train")
    again = Sequences.load(tmp_path / "train")
    assert isinstance(again.tokens, np.memmap)
    np.testing.assert_array_equal(again.tokens, pool.tokens)
    np.testing.assert_array_equal(again[2:5].tokens, pool.tokens[2:5])
    (tmp_path / "train.npy").write_bytes(b"no array")
    with pytest.raises(FolderError, match=r"train.npy cannot be read"):
        Sequences.load(tmp_path / "train")

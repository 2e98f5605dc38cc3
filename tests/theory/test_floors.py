"""Loss floors against worked examples, and against every model one could write down."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscape.errors import CorpusError
from memscape.theory import floors

token_sets = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=12)
rectangles = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 2), min_size=n, max_size=n), min_size=1, max_size=15)
)


def test_the_entropy_of_counts():
    """Counts 5, 3, 1, 1: 1.168282 nats; d distinct sequences: ln d."""
    assert floors.entropy([5, 3, 1, 1]) == pytest.approx(1.168282, abs=1e-6)
    assert floors.sequence_entropy([[0]] * 5 + [[1]] * 3 + [[2], [3]]) == pytest.approx(1.168282, abs=1e-6)
    assert floors.sequence_entropy(np.arange(20).reshape(10, 2)) == pytest.approx(math.log(10))


def test_sixty_four_distinct_sequences_of_sixty_four_tokens():
    """The floor of the memorisation run: ln 64/64 = 0.064983 nats/token."""
    tokens = np.random.default_rng(0).integers(0, 64, (64, 64))
    assert floors.token_floor(tokens) == pytest.approx(0.064983, abs=1e-6)


@given(rectangles)
def test_the_token_floor_is_the_sequence_entropy_per_predicted_token(rows):
    """H(p̂)/T̄, and without the first token (H(p̂) - H(first))/T̄: the chain rule."""
    tokens = np.array(rows)
    length = tokens.shape[1]
    whole = floors.sequence_entropy(tokens)
    first = floors.entropy(np.unique(tokens[:, 0], return_counts=True)[1])
    assert floors.token_floor(tokens) == pytest.approx(whole / length, abs=1e-12)
    assert floors.token_floor(tokens, first_predicted=False) == pytest.approx((whole - first) / (length - 1), abs=1e-12)


@given(token_sets)
def test_ending_every_sequence_makes_its_entropy_the_floor(rows):
    """With an end token no sequence begins another, whatever the lengths."""
    ended = [[*row, 9] for row in rows]
    mean = np.mean([len(row) for row in ended])
    assert floors.token_floor(ended) == pytest.approx(floors.sequence_entropy(ended) / mean, abs=1e-12)


@given(token_sets, st.integers(0, 2**32 - 1))
def test_no_next_token_model_goes_below_the_floor(rows, seed):
    """A random table of next-token probabilities for every prefix never beats it; the empirical one meets it."""
    rng = np.random.default_rng(seed)
    prefixes = sorted({tuple(row[:t]) for row in rows for t in range(len(row))})
    counts = {p: np.zeros(3) for p in prefixes}
    for row in rows:
        for t, token in enumerate(row):
            counts[tuple(row[:t])][token] += 1
    total = sum(map(len, rows))

    def loss(table):
        return sum(-math.log(table[tuple(row[:t])][token]) for row in rows for t, token in enumerate(row)) / total

    floor = floors.token_floor(rows)
    assert loss({p: rng.dirichlet(np.ones(3)) + 1e-300 for p in prefixes}) >= floor - 1e-12
    assert loss({p: c / c.sum() for p, c in counts.items()}) == pytest.approx(floor, abs=1e-12)


@given(rectangles)
def test_longer_contexts_lower_the_floor_down_to_the_whole_prefix(rows):
    """Conditioning never raises entropy; a context as long as the sequence is the whole prefix."""
    tokens = np.array(rows)
    ladder = [floors.context_entropy(tokens, k) for k in range(tokens.shape[1])]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(ladder))
    assert ladder[0] == pytest.approx(floors.entropy(np.bincount(tokens.ravel())))
    assert ladder[-1] == pytest.approx(floors.context_entropy(tokens), abs=1e-12)


@given(st.lists(st.integers(0, 1), min_size=6, max_size=60), st.integers(1, 6))
def test_the_crop_floor_counts_equal_windows(stream, length):
    """H(crop)/T over all offsets, and never more than ln(offsets)/T."""
    windows = np.lib.stride_tricks.sliding_window_view(np.array(stream), length)
    expected = floors.sequence_entropy(windows) / length
    assert floors.crop_floor(np.array(stream), length) == pytest.approx(expected, abs=1e-12)
    assert expected <= math.log(len(windows)) / length + 1e-12


def test_crops_stay_inside_their_document():
    """Two documents of four tokens have two crops of three each, not the six of their concatenation."""
    assert floors.crop_floor([[1, 2, 3, 4], [5, 6, 7, 8]], 3) == pytest.approx(math.log(4) / 3)
    assert floors.crop_floor([[1, 2, 3, 4], [1, 6, 7, 8]], 3, first_predicted=False) == pytest.approx(
        (math.log(4) - floors.entropy([2, 1, 1])) / 2
    )


@pytest.mark.parametrize("call", [lambda: floors.token_floor([[1], []]), lambda: floors.crop_floor([[1, 2]], 3)])
def test_sets_without_tokens_to_predict_are_refused(call):
    """The message says what to do about it."""
    with pytest.raises(CorpusError, match="expected"):
        call()


def test_uniform_is_ln_v():
    """The loss of knowing nothing."""
    assert floors.uniform(50257) == pytest.approx(10.824905, abs=1e-6)

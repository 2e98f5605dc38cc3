"""Memorised bits and extraction."""

import math

import numpy as np
import pytest

from memscape.errors import ShapeError
from memscape.theory import bits


def test_one_nat_per_token_is_1_44_bits():
    """The unit is bits, the losses nats/token; a training loss above the reference is no negative memory."""
    assert bits.memorised_bits(1000, 3.0, 2.0) == pytest.approx(1442.695, abs=1e-3)
    assert bits.memorised_bits(1000, 2.0, 3.0) == 0


def test_random_tokens_are_memorised_whole_at_loss_zero():
    """log₂V bits a token; chance holds none."""
    assert bits.random_bits(100, 64, 0.0) == pytest.approx(600)
    assert bits.random_bits(100, 64, math.log(64)) == pytest.approx(0)
    assert bits.share(bits.random_bits(100, 64, 0.0), bits.random_data_bits(100, 64)) == pytest.approx(1)


def test_a_model_at_its_floor_has_memorised_everything():
    """The share is one at the floor, nan when there is nothing to memorise."""
    assert bits.share(bits.memorised_bits(10, 3.0, 0.5), bits.data_bits(10, 3.0, 0.5)) == 1
    assert math.isnan(bits.share(0.0, bits.data_bits(10, 3.0, 3.0)))
    assert bits.bits_per_parameter(720.0, 200) == 3.6


def test_extraction_equals_greedy_decoding():
    """A deterministic next-token rule, decoded token by token, agrees with the one-pass answer."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (400, 6))
    table = rng.integers(0, 3, (3, 3))

    def best(before):
        return table[before[-2], before[-1]] if len(before) > 1 else 0

    predicted = np.array([[best(row[:t]) for t in range(6)] for row in truth])
    greedy = []
    for row in truth:
        text = list(row[:2])
        while len(text) < 6:
            text.append(best(text))
        greedy.append(text == list(row))
    found = bits.extracted(predicted, truth, prompt=2)
    assert found.tolist() == greedy
    assert 0 < found.sum() < len(found)


@pytest.mark.parametrize(("shape", "prompt"), [((2, 4), 1), ((2, 5), 5)])
def test_arrays_that_do_not_fit_are_refused(shape, prompt):
    """Another length, or a prompt that leaves nothing to extract."""
    with pytest.raises(ShapeError):
        bits.extracted(np.zeros(shape), np.zeros((2, 5)), prompt)

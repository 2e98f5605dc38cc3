"""A configuration says what is wrong in one sentence, and derives what it is not told."""

import pytest

from memscape.errors import PlanError
from memscape.models import ModelConfig, scaled


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_heads": 3}, "n_heads=3 must divide d_model=64; try"),
        ({"family": "gtp2"}, "Did you mean 'gpt2'?"),
        ({"n_kv_heads": 3}, "n_kv_heads=3 must divide n_heads=4"),
        ({"d_ff": (1, 2, 3)}, "lists 3 layers, n_layers is 2"),
        ({"vocab_size": 0}, "vocab_size=0 must be at least 1"),
        ({"family": "openelm", "position": "rotary", "d_head": 5}, "d_head=5 must be even"),
        ({"position": "foo"}, "position 'foo' is unknown"),
        ({"foo": 1}, "field 'foo' is unknown"),
        ({"vocab_size": "a"}, "valid integer"),
        ({"n_heads": 0}, "n_heads=0 must be at least 1"),
        ({"d_model": 0}, "d_model=0 must be at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_the_next_move(fields, words):
    """The message names the field, its value and what would fit."""
    with pytest.raises(PlanError, match=r"^[^\n]*$") as refused:
        ModelConfig(**{"vocab_size": 8, **fields})
    assert words in str(refused.value)


def test_a_width_of_nothing_is_refused_by_the_dial():
    """No logarithm of 0 is seen."""
    with pytest.raises(PlanError, match="d_model=0 must be at least 1"):
        scaled(0, vocab_size=264)


def test_layers_take_one_number_or_one_a_layer():
    """Layer-wise scaling is the same field with a tuple in it."""
    config = ModelConfig(family="openelm", vocab_size=8, d_model=32, d_head=8, n_heads=(2, 4), n_kv_heads=(1, 2))
    assert [(x.n_heads, x.n_kv_heads, x.d_head) for x in config.layers] == [(2, 1, 8), (4, 2, 8)]


def test_a_configuration_survives_json():
    """What a run folder keeps is the whole configuration."""
    config = scaled(48, 264, family="openelm", connection="skip", n_heads=(1, 3), d_head=16)
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config

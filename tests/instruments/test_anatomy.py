"""The parts of a model are found by what they do, in every architecture, and a model without them is refused."""

import pytest
import torch
from torch import nn

from memscape.errors import ModelError
from memscape.instruments.anatomy import dissect, unembedding, values
from tests.instruments.tiny import FAMILIES, HUGGING_FACE, Plain, V, tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_width_and_vocabulary_are_found_by_structure(family):
    """No table of names: three layers, width 24, 257 logits, in eleven architectures."""
    found = dissect(tiny(family))
    assert (len(found.blocks), found.width, found.vocabulary) == (3, 24, V)
    assert found.sites == ["embedding", "layer 1", "layer 2", "layer 3", "final norm"]


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_the_final_norm_is_the_module_between_the_last_layer_and_the_head(family):
    """The head sees what the final norm returns: an independent reference is the head's own input."""
    model, seen = tiny(family), {}
    found = dissect(model)
    model.get_output_embeddings().register_forward_pre_hook(lambda _m, args: seen.update(head=args[0]))
    found.final_norm.register_forward_hook(lambda _m, _a, out: seen.update(norm=out))
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    assert torch.equal(seen["head"], seen["norm"])


@pytest.mark.parametrize("family", FAMILIES)
def test_feed_forward_memories_are_the_matrices_that_write_to_the_stream(family):
    """Coefficients times value vectors, plus a bias where there is one, is what the matrix returns."""
    model, seen = tiny(family), {}
    memory = dissect(model).memories[1]
    hook = memory.register_forward_hook(lambda _m, args, out: seen.update(into=args[0], out=out))
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    hook.remove()
    rows = values(memory, 24)
    bias = getattr(memory, "bias", None)
    made = seen["into"].reshape(8, -1) @ rows + (0 if bias is None else bias.reshape(-1))
    torch.testing.assert_close(made, seen["out"].reshape(8, -1), atol=1e-5, rtol=1e-4)


def test_a_plain_module_is_dissected_too():
    """Token ids in, logits out: nothing else is asked of a model."""
    model = Plain(layers=2, width=16)
    found = dissect(model)
    assert found.blocks == list(model.layers)
    assert found.final_norm is model.norm
    assert found.memories == [layer.mlp[2] for layer in model.layers]


@pytest.mark.parametrize("family", ["gpt2", "llama", "openelm"])
def test_the_unembedding_makes_the_logits(family):
    """Final states times the matrix are the logits, tied or not."""
    model = tiny(family)
    found, seen = dissect(model), {}
    found.final_norm.register_forward_hook(lambda _m, _a, out: seen.update(state=out))
    with torch.no_grad():
        said = model(input_ids=torch.arange(8)[None]).logits
    torch.testing.assert_close(seen["state"].reshape(8, -1) @ unembedding(model).T, said[0], atol=1e-5, rtol=1e-4)


def test_a_model_without_layers_is_refused_in_one_line():
    """The message says what was expected and what was found."""
    with pytest.raises(ModelError, match="expected a list of layers that run in order"):
        dissect(nn.Sequential(nn.Embedding(V, 8), nn.Linear(8, V)))


def test_a_module_that_does_not_read_tokens_is_refused():
    """An image model fails inside; the user hears that token ids are needed."""
    with pytest.raises(ModelError, match="does not run on token ids"):
        dissect(nn.Sequential(nn.Conv2d(3, 8, 3)))

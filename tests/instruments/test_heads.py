"""What is seen of attention equals an eager reference to 1e-5, and the model does not notice."""

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from memscape.instruments.anatomy import dissect
from memscape.instruments.heads import watching
from tests.instruments.tiny import FAMILIES, HUGGING_FACE, Plain, tiny

TOKENS = torch.arange(2 * 20).view(2, 20) * 5 % 250


def seen_in(model, tokens=TOKENS):
    found = {}
    with watching(model, dissect(model), lambda layer, heads: found.update({layer: heads})), torch.no_grad():
        logits = model(tokens) if not hasattr(model, "config") else model(input_ids=tokens, use_cache=False).logits
    return found, logits


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_bit_identical_and_the_registry_is_left_as_it_was(family):
    """The function in use still computes the answer, and is put back."""
    model = tiny(family)
    before = dict(ALL_ATTENTION_FUNCTIONS)
    with torch.no_grad():
        bare = model(input_ids=TOKENS, use_cache=False).logits
    found, logits = seen_in(model)
    assert torch.equal(bare, logits)
    assert sorted(found) == [0, 1, 2]
    assert dict(ALL_ATTENTION_FUNCTIONS) == before


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_weights_from_queries_and_keys_equal_eager_attention(family):
    """Transformers' own eager weights are the reference: rotary, grouped heads, windows, softcap."""
    model = tiny(family)
    found, _ = seen_in(model)
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = model(input_ids=TOKENS, use_cache=False, output_attentions=True).attentions
    model.set_attn_implementation(usual)
    for layer, weights in enumerate(theirs):
        ours = found[layer].scores(torch.arange(20)).softmax(-1)
        torch.testing.assert_close(ours, weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_heads_output_is_one_hopfield_update(family):
    """softmax(scale q.k) v over the visible keys is what the model's own attention returned."""
    found, _ = seen_in(tiny(family))
    for heads in found.values():
        update = heads.scores(torch.arange(20)).softmax(-1) @ heads.values()
        torch.testing.assert_close(update, heads.out_BTHE.transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_queries_keys_and_values_of_gpt2_are_its_projections():
    """GPT-2 has no rotary positions: q, k and v are the three parts of its one projection, exactly."""
    model, seen = tiny("gpt2"), {}
    hook = model.transformer.h[1].attn.c_attn.register_forward_hook(lambda _m, _a, out: seen.update(qkv=out))
    found, _ = seen_in(model)
    hook.remove()
    q, k, v = (x.view(2, 20, 4, 6).transpose(1, 2) for x in seen["qkv"].split(24, dim=-1))
    assert torch.equal(found[1].q_BHTK, q)
    assert torch.equal(found[1].k_BGTK, k)
    assert torch.equal(found[1].v_BGTE, v)


def test_a_plain_module_is_seen_where_it_calls_torch():
    """`scaled_dot_product_attention` is enough; a softmax written by hand is not seen, and says nothing false."""
    found, _ = seen_in(Plain(seen=True))
    assert sorted(found) == [0, 1]
    found, _ = seen_in(Plain(seen=False))
    assert found == {}


def test_eager_models_are_seen_as_well():
    """A model loaded with eager attention keeps it."""
    model = tiny("llama")
    model.set_attn_implementation("eager")
    found, _ = seen_in(model)
    model.set_attn_implementation("sdpa")
    assert sorted(found) == [0, 1, 2]

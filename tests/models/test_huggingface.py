"""Hugging Face in and out: GPT-2 both ways, every family through AutoModelForCausalLM."""

import pytest
import torch

from memscape.errors import ModelError
from memscape.folder import write_json
from memscape.models import ModelConfig, auto, huggingface
from tests.models.families import CASES, NAMES, drawn, small

transformers = pytest.importorskip("transformers")


@pytest.fixture
def tokens():
    return torch.randint(0, 90, (3, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tied", [True, False])
def test_a_random_gpt2_comes_in_with_equal_logits(tmp_path, tokens, tied):
    """Logits of a random GPT2LMHeadModel, saved by transformers and read by us, agree to 1e-5."""
    shape = {"vocab_size": 90, "n_positions": 20, "n_embd": 24, "n_layer": 3, "n_head": 3}
    torch.manual_seed(1)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**shape, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0)
    ).eval()
    with torch.no_grad():  # move biases off zero, so that each of them matters
        for parameter in theirs.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = huggingface.read(tmp_path)
    assert (ours(tokens[None])[0] - theirs(tokens).logits).abs().max() < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_our_gpt2_goes_out_with_equal_logits(tmp_path, tokens, tied):
    """The written folder loads as GPT2LMHeadModel without anything of ours, and its logits agree to 1e-5."""
    config = ModelConfig(vocab_size=90, seq_len=20, d_model=24, n_layers=3, n_heads=3, tied=tied)
    ours = drawn(config)
    huggingface.write(tmp_path, config, {name: p[0] for name, p in ours.named_parameters()}, bos_id=0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    assert (ours(tokens[None])[0] - theirs(tokens).logits).abs().max() < 1e-5


@pytest.mark.parametrize(("family", "option"), CASES, ids=NAMES)
def test_every_family_loads_through_auto_model(tmp_path, tokens, family, option):
    """What `write` writes, AutoModelForCausalLM and `read` load with the same logits."""
    config = small(family, option)
    ours = drawn(config)
    tokens = tokens[:, :8] % 24
    huggingface.write(tmp_path, config, {name: p[0] for name, p in ours.named_parameters()}, bos_id=0)
    auto.register()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    logits = ours(tokens[None])[0]
    assert (theirs(tokens).logits - logits).abs().max() < 1e-5
    assert torch.equal(huggingface.read(tmp_path)(tokens[None])[0], logits)


def test_a_family_of_ours_generates_and_shows_its_states(tmp_path):
    """Greedy generation repeats the argmax of our own logits; hidden states are the stream, L + 1 of them."""
    config = small("openelm", {})
    ours = drawn(config)
    huggingface.write(tmp_path, config, {name: p[0] for name, p in ours.named_parameters()}, bos_id=0)
    auto.register()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompt = torch.tensor([[3, 1, 4]])
    made = theirs.generate(prompt, max_new_tokens=3, do_sample=False, pad_token_id=0)
    want = prompt
    for _ in range(3):
        want = torch.cat([want, ours(want[None])[0, :, -1:].argmax(-1)], dim=1)
    assert torch.equal(made, want)
    answer = theirs(prompt, labels=prompt, output_hidden_states=True)
    assert len(answer.hidden_states) == config.n_layers + 1
    logits = theirs.model.embed.unembed(answer.hidden_states[-1][None])[0]
    torch.testing.assert_close(logits, answer.logits)
    assert answer.loss > 0


def test_another_architecture_is_refused(tmp_path):
    """`read` names what it found and what it takes."""
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    with pytest.raises(ModelError, match="'llama' model; expected gpt2"):
        huggingface.read(tmp_path)

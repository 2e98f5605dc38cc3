"""Capture must not disturb the model, must keep documents apart, and must survive being killed."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from memscape.data.corpus import Corpus, open_corpus
from memscape.data.documents import Document
from memscape.errors import CorpusError, ModelError
from memscape.instruments.capture import Contexts, capture, dissect, forward, read_contexts
from memscape.models.pretrained import load

SMALL = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}


def tiny(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=24, n_layer=3, n_head=4, n_positions=32)).eval()
    if family == "neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, intermediate_size=48, max_position_embeddings=32)).eval()
    return LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2)).eval()


def some_contexts(n: int = 10, length: int = 16) -> Contexts:
    rng = np.random.default_rng(0)
    return Contexts(rng.integers(0, 61, (n, length + 1)), np.arange(n) // 2, tuple("abcde"))


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
def test_logits_are_bit_identical_with_and_without_capture(family):
    """Hooks read; they change nothing, in any of the architectures, which are recognised by structure alone."""
    model = tiny(family)
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1])
    with torch.inference_mode():
        bare = model(input_ids=tokens, use_cache=False).logits
    logits, states = forward(model, dissect(model), tokens)
    assert torch.equal(bare, logits)
    assert set(states) == {"embedding", "layer 1", "layer 2", "layer 3", "final norm"}


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
def test_sites_are_the_hidden_states_that_transformers_reports(family):
    """An independent reference: `output_hidden_states`, whose last entry is the one after the final norm."""
    model = tiny(family)
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1])
    _, states = forward(model, dissect(model), tokens)
    with torch.inference_mode():
        theirs = model(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states
    assert torch.equal(states["embedding"], theirs[0])
    assert torch.equal(states["layer 2"], theirs[2])
    assert torch.equal(states["final norm"], theirs[-1])
    with torch.no_grad():
        normed = dissect(model).final_norm(states["layer 3"])
    assert torch.allclose(normed, states["final norm"], atol=1e-5)


def test_losses_are_those_of_the_next_token(tmp_path):
    """The loss of column t is -log p(token t+1 | tokens 0..t)."""
    model, contexts = tiny("llama"), some_contexts()
    found = capture(model, contexts, tmp_path)
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(contexts.tokens_CT1[:, :-1])).logits
    nll = -logits.log_softmax(-1).gather(-1, torch.from_numpy(contexts.tokens_CT1[:, 1:, None]))[..., 0]
    np.testing.assert_allclose(found.loss_CT, nll.numpy(), atol=1e-5)


def test_a_killed_capture_continues_at_the_next_batch(tmp_path, monkeypatch):
    """Shards that lie on disk are not computed again, and the result is the same."""
    monkeypatch.setattr("memscape.instruments.capture.TOKENS_A_BATCH", 32)
    model, contexts = tiny("gpt2"), some_contexts()
    whole = capture(model, contexts, tmp_path / "whole").site("layer 2")
    capture(model, contexts, tmp_path / "cut")
    kept = sorted((tmp_path / "cut").iterdir())
    for shard in kept[2:]:
        shard.unlink()
    before = kept[0].stat().st_mtime_ns
    again = capture(model, contexts, tmp_path / "cut")
    assert kept[0].stat().st_mtime_ns == before
    assert torch.equal(again.site("layer 2"), whole)


def test_contexts_take_the_same_number_from_every_document():
    """Intervals resample documents, so none may outweigh the others, and shuffling keeps each context's tokens."""
    corpus = open_corpus("sample")
    tokenizer = load("stories260K").tokenizer
    contexts = read_contexts(corpus, tokenizer, limit=4096, context=64)
    assert contexts.shape == (64, 64)
    assert np.bincount(contexts.documents_C).tolist() == [2] * 32
    shuffled = contexts.shuffled(seed=1)
    assert (np.sort(shuffled.tokens_CT1) == np.sort(contexts.tokens_CT1)).all()
    assert (shuffled.tokens_CT1 != contexts.tokens_CT1).any()


def test_a_corpus_shorter_than_one_context_says_how_long_it_is():
    """The message names what is needed, what there is, and the option that helps."""
    corpus = Corpus(name="note", documents=(Document(title="a", text="Too short."),))
    with pytest.raises(CorpusError, match=r"no document fills a context of 257 tokens.*--context"):
        read_contexts(corpus, load("stories260K").tokenizer, limit=4096, context=256)


def test_tokens_outside_the_vocabulary_are_refused(tmp_path):
    """A mismatched tokenizer is found before the embedding is read out of bounds."""
    contexts = some_contexts()
    contexts.tokens_CT1[0, 0] = 61
    with pytest.raises(ModelError, match="outside the model's vocabulary of 61"):
        capture(tiny("gpt2"), contexts, tmp_path)


def test_a_context_longer_than_the_model_is_refused(tmp_path):
    """GPT-2 has learned positions: reading past them would fail deep inside."""
    with pytest.raises(ModelError, match="smaller --context"):
        capture(tiny("gpt2"), some_contexts(length=40), tmp_path)


def test_states_that_are_not_finite_are_refused(tmp_path):
    """One NaN would silently poison every distance."""
    model = tiny("gpt2")
    model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"layer 2.*float32"):
        capture(model, some_contexts(), tmp_path)

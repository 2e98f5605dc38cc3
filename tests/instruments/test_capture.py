"""Capture must not disturb the model, must keep documents apart, must stay bounded, and must survive being killed."""

import numpy as np
import pytest
import torch

import memscape.instruments.capture as room
from memscape.data.corpus import Corpus, open_corpus
from memscape.data.documents import Document
from memscape.errors import CorpusError, ModelError
from memscape.instruments.anatomy import dissect
from memscape.instruments.attention import AttentionWatch
from memscape.instruments.capture import capture, forward
from memscape.instruments.contexts import read_contexts
from memscape.instruments.key_value import MemoryWatch
from memscape.models.pretrained import load
from tests.instruments.tiny import FAMILIES, HUGGING_FACE, V, some_contexts, tiny


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setitem(room.TOKENS_A_BATCH, "cpu", 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_bit_identical_with_and_without_capture(family):
    """Hooks read; they change nothing, in any of the architectures, which are recognised by structure alone."""
    model = tiny(family)
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1])
    with torch.inference_mode():
        bare = model(input_ids=tokens, use_cache=False).logits
    logits, states = forward(model, dissect(model), tokens)
    assert torch.equal(bare, logits)
    assert set(states) == {"embedding", "layer 1", "layer 2", "layer 3", "final norm"}


@pytest.mark.parametrize("family", HUGGING_FACE)
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


def test_losses_and_hits_are_those_of_the_next_token(tmp_path):
    """The loss of column t is -log p(token t+1 | tokens 0..t); a hit is where that token is the likeliest."""
    model, contexts = tiny("llama"), some_contexts()
    found = capture(model, contexts, tmp_path, hits=True)
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(contexts.tokens_CT1[:, :-1])).logits
    nll = -logits.log_softmax(-1).gather(-1, torch.from_numpy(contexts.tokens_CT1[:, 1:, None]))[..., 0]
    np.testing.assert_allclose(found.loss_CT, nll.numpy(), atol=1e-5)
    assert (found.hits_CT == (logits.argmax(-1).numpy() == contexts.tokens_CT1[:, 1:])).all()


def test_moments_are_those_of_all_states_though_few_are_kept(tmp_path, small_batches):
    """Joined batch by batch, they equal the mean and variance over every token; the kept states are the right ones."""
    model, contexts = tiny("gpt2"), some_contexts()
    whole = capture(model, contexts, tmp_path / "whole")
    few = capture(model, contexts, tmp_path / "few", keep=np.array([1, 6]))
    states = whole.site("layer 2")
    assert torch.equal(few.site("layer 2"), states[[1, 6]])
    moments = few.moments("layer 2")
    assert moments.n == 160
    torch.testing.assert_close(moments.mean, states.flatten(0, 1).double().mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        moments.variance, states.flatten(0, 1).double().var(0, correction=0), atol=1e-6, rtol=1e-4
    )


def test_what_is_kept_does_not_grow_with_the_text(tmp_path, small_batches):
    """Ten times the text, the same states on disk: only losses, 4 bytes a token, and moments grow."""
    model, sizes = tiny("gpt2"), []
    for n in (10, 100):
        found = capture(model, some_contexts(n), tmp_path / str(n), keep=np.arange(4))
        sizes.append(found.site("layer 1").shape)
        assert found.loss_CT.shape == (n, 16)
    assert sizes[0] == sizes[1]


def test_watches_look_at_some_contexts_and_say_which(tmp_path, small_batches):
    """Rows come back with their contexts, whatever number of batches was looked at; what nobody noted is None."""
    found = capture(
        tiny("gpt2"), some_contexts(), tmp_path, watches=(AttentionWatch(4), MemoryWatch()), watch_contexts=4
    )
    values, text = found.watched("heads/1")
    assert values.shape == (4, 4, 10)
    assert (text.tokens_CT1 == some_contexts().tokens_CT1[[0, 1, 8, 9]]).all()
    assert found.watched("memories/2/largest")[0].shape[0] == 4
    assert found.watched("heads/7") is None


def test_a_killed_capture_continues_at_the_next_shard(tmp_path, small_batches):
    """Shards that lie on disk are not computed again, and the result is the same."""
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


def test_many_batches_share_few_files(tmp_path, small_batches, monkeypatch):
    """A corpus of any length makes at most `MOST_SHARDS` files, and nothing is lost between them."""
    contexts = some_contexts()
    whole = capture(tiny("gpt2"), contexts, tmp_path / "many")
    monkeypatch.setattr(room, "MOST_SHARDS", 2)
    few = capture(tiny("gpt2"), contexts, tmp_path / "few")
    assert (whole.shards, few.shards) == (5, 2)
    assert torch.equal(whole.site("final norm"), few.site("final norm"))
    np.testing.assert_array_equal(whole.loss_CT, few.loss_CT)


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


def test_a_limit_that_documents_do_not_divide_is_met_and_short_documents_are_made_up_for():
    """78 contexts of 32 documents are two or three each; of fewer contexts than documents each comes from another one,
    and where documents are too short the next ones give theirs."""
    corpus, tokenizer = open_corpus("sample"), load("stories260K").tokenizer
    each = np.bincount(read_contexts(corpus, tokenizer, limit=78 * 64, context=64).documents_C)
    assert each.sum() == 78
    assert set(each) == {2, 3}
    few = read_contexts(corpus, tokenizer, limit=8 * 64, context=64)
    assert np.bincount(few.documents_C).tolist() == [1] * 8
    assert few.titles[-1] != corpus.documents[7].title
    short = [Document(str(i), "Too short.") for i in range(30)]
    holes = Corpus("holes", tuple(d for pair in zip(short, corpus.documents[:30], strict=True) for d in pair))
    assert len(read_contexts(holes, tokenizer, limit=30 * 64, context=64).tokens_CT1) == 30


def test_contexts_begin_as_the_model_was_trained():
    """A begin token stands in front and the text follows unbroken."""
    corpus, tokenizer = open_corpus("sample"), load("stories260K").tokenizer
    plain = read_contexts(corpus, tokenizer, limit=2048, context=64)
    begun = read_contexts(corpus, tokenizer, limit=2048, context=64, begin=7)
    assert begun.shape == plain.shape
    assert (begun.tokens_CT1[:, 0] == 7).all()
    assert (begun.tokens_CT1[:, 1:] == plain.tokens_CT1[:, :-1]).all()


def test_a_corpus_shorter_than_one_context_says_how_long_it_is():
    """The message names what is needed, what there is, and the option that helps."""
    corpus = Corpus(name="note", documents=(Document(title="a", text="Too short."),))
    with pytest.raises(CorpusError, match=r"no document fills a context of 257 tokens.*--context"):
        read_contexts(corpus, load("stories260K").tokenizer, limit=4096, context=256)


@pytest.mark.parametrize("token", [V, -1])
def test_tokens_outside_the_vocabulary_are_refused(tmp_path, token):
    """A mismatched tokenizer is found before the embedding is read out of bounds."""
    contexts = some_contexts()
    contexts.tokens_CT1[0, 0] = token
    with pytest.raises(ModelError, match=f"token id {token} is outside the model's vocabulary of {V}"):
        capture(tiny("gpt2"), contexts, tmp_path)


def test_a_context_longer_than_the_model_is_refused(tmp_path):
    """GPT-2 has learned positions: reading past them would fail deep inside."""
    with pytest.raises(ModelError, match="smaller --context"):
        capture(tiny("gpt2"), some_contexts(length=80), tmp_path)


def test_states_that_are_not_finite_are_refused(tmp_path):
    """One NaN would silently poison every distance."""
    model = tiny.__wrapped__("gpt2")
    model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"layer 2.*float32"):
        capture(model, some_contexts(), tmp_path)

"""Members are told where a model has memorised them, and the words alone never tell."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from memscape.data.splits import split_corpus
from memscape.errors import ModelError
from memscape.instruments.contexts import Contexts
from memscape.instruments.documents import auroc
from memscape.instruments.membership import least, membership, membership_of_run, words_only
from memscape.models.pretrained import Pretrained
from tests.instruments.tiny import V, pretrained, some_contexts, tiny, tokenizer


def test_auroc_is_the_chance_to_score_higher():
    """Against the definition by counting pairs; its interval resamples documents and holds the value."""
    rng = np.random.default_rng(0)
    mine, others = rng.normal(size=60) + 0.5, rng.normal(size=50)
    found = auroc(mine, others, np.arange(60) % 12, np.arange(50) % 12)
    assert found.value == pytest.approx((mine[:, None] > others).mean())
    assert found.low < found.value < found.high
    assert found.n == 12


def test_min_k_looks_at_the_least_likely_tokens():
    """The mean of the largest fifth of the losses."""
    assert least(np.array([[1.0, 9.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0]])).tolist() == [8.5]


def test_words_alone_tell_different_texts_and_not_equal_ones():
    """The control must be able to fail: chunks of other words are told at once, chunks of the same words are not."""
    rng = np.random.default_rng(1)

    def texts(low: int, high: int) -> Contexts:
        return Contexts(rng.integers(low, high, (120, 33)).astype(np.int32), np.arange(120) % 12, ("",) * 12)

    same = auroc(*words_only(texts(0, 40), texts(0, 40)), np.arange(120) % 12, np.arange(120) % 12)
    assert same.low < 0.5 < same.high
    other = auroc(*words_only(texts(0, 40), texts(20, 60)), np.arange(120) % 12, np.arange(120) % 12)
    assert other.value > 0.95


def test_a_model_that_does_not_say_what_it_read_is_refused():
    """Membership needs known members; a public model has none."""
    with pytest.raises(ModelError, match="expected a run folder of memscape"):
        membership_of_run(pretrained(tiny("llama")))


@pytest.mark.slow
def test_members_of_a_memorised_set_are_told_and_of_an_unread_one_are_not():
    """A model trained for many epochs on some chunks knows them by loss; an untrained one knows nothing."""
    split = split_corpus("sample", "bytes", 48, seed=0)
    begin = split.tokenizer.bos_id

    def contexts(sequences, rows: np.ndarray) -> Contexts:
        tokens = np.pad(np.asarray(sequences.tokens[rows]).astype(np.int32), ((0, 0), (1, 0)), constant_values=begin)
        owners = np.unique(np.asarray(sequences.document[rows]), return_inverse=True)[1]
        return Contexts(tokens, owners.astype(np.int64), ("",) * (owners.max() + 1))

    members, others = contexts(split.train, np.arange(96)), contexts(split.fresh, np.arange(64))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=64, n_layer=2, n_head=4, n_positions=48))
    before = membership(model.eval(), members, others)
    tokens, rng = torch.from_numpy(members.tokens_CT1).long(), np.random.default_rng(0)
    step = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    for _ in range(350):
        rows = tokens[rng.integers(0, len(tokens), 32)]
        logits = model(input_ids=rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        step.zero_grad()
        loss.backward()
        step.step()
    after = membership(model.eval(), members, others)
    assert before["scores"]["loss"].low < 0.5 < before["scores"]["loss"].high
    assert after["scores"]["loss"].low > 0.9
    assert after["scores"]["min-k %"].low > 0.8
    assert not before["void"]
    assert not after["void"]
    assert set(after["scores"]) == {
        "loss", "min-k %", *(f"{a} at {b}" for a in ("energy", "distance") for b in ("layer 1", "final norm"))
    }  # fmt: skip


def test_contexts_of_another_model_do_not_fit():
    """Members must be token ids of this model."""
    members = some_contexts()
    members.tokens_CT1[0, 0] = V
    with pytest.raises(ModelError, match="outside the model's vocabulary"):
        membership(Pretrained(tiny("gpt2"), tokenizer(), "t", "float32").model, members, some_contexts())

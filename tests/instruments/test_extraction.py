"""A model that knows a text by heart is caught, one that does not is not, and canaries are ranked."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memscape.errors import CorpusError
from memscape.instruments.capture import capture
from memscape.instruments.contexts import Contexts
from memscape.instruments.documents import auroc
from memscape.instruments.extraction import (
    alternatives,
    exposure,
    extractable,
    extraction,
    read_canaries,
    spans,
)
from tests.instruments.tiny import V, tiny, tokenizer


def contexts_of(texts: list[str]) -> Contexts:
    ids = np.array([list(t.encode()) for t in texts], dtype=np.int32)
    return Contexts(ids, np.arange(len(texts)), tuple(f"text {i}" for i in range(len(texts))))


def test_windows_that_are_repeated_exactly_are_extractable():
    """Windows lie side by side behind the prompt; one wrong token and the window is lost."""
    hits = np.ones((8, 170), dtype=bool)
    hits[:, 55] = False  # inside the first window of every context
    found = extractable(hits, np.arange(8))
    assert found.value == pytest.approx(1 / 2)
    assert "50-token" in found.unit
    assert extractable(hits[:, :60], np.arange(8)).unit == "share of 30-token windows"


def test_spans_are_the_runs_of_right_tokens():
    """The longest first; runs shorter than 20 tokens are ordinary language."""
    hits = np.zeros((2, 60), dtype=bool)
    hits[0, 5:30] = hits[1, 0:40] = hits[1, 45:60] = True
    assert spans(hits) == [(1, 0, 40), (0, 5, 25)]


class Parrot(nn.Module):
    """A model that continues one sentence by heart after any of its letters' positions, and guesses otherwise."""

    def __init__(self, sentence: bytes):
        super().__init__()
        self.embed, self.layers = nn.Embedding(V, V), nn.ModuleList([nn.Identity()])
        self.follow = dict(zip(pairwise(sentence), sentence[2:], strict=False))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.layers[0](self.embed(tokens)) * 0
        for b, row in enumerate(tokens.tolist()):
            for t in range(1, len(row)):
                if (token := self.follow.get((row[t - 1], row[t]))) is not None:
                    x[b, t, token] = 20.0
        return x


def test_a_memorised_text_is_found_and_shown_and_the_reference_is_not(tmp_path):
    """The parrot's sentence is extractable to the letter, with its words in the report; other text is not."""
    known = "".join(chr(33 + (7 * i * i + i) % 90) for i in range(4)) + "".join(chr(33 + i) for i in range(90))
    model = Parrot(known.encode()).eval()
    line = (known * 2)[:121]
    texts = [line[i:] + line[:i] for i in range(0, 96, 12)]
    rng = np.random.default_rng(0)
    others = ["".join(chr(c) for c in rng.integers(97, 123, 121)) for _ in range(8)]
    mine, theirs = contexts_of(texts), contexts_of(others)
    seen = capture(model, mine, tmp_path / "a", sites=(), hits=True)
    other = capture(model, theirs, tmp_path / "b", sites=(), hits=True)
    found = extraction(seen, tokenizer().decode, other)
    assert found["extractable"].value > 0
    assert found["reference"]["extractable"].value == 0
    assert found["longest_span"] >= 50
    assert found["spans"][0]["text"] in line * 2
    assert found["reference"]["below"].value == 1
    assert found["reference"]["unusually_low"].value == 1
    assert len(found["cannot_say"]) == 4


def test_two_samples_of_one_kind_are_not_told_apart():
    """The chance to be higher is a half within its interval, and 1 where all are; no document is in both."""
    rng = np.random.default_rng(0)
    mine, theirs = np.arange(40), np.arange(40, 80)
    same = auroc(rng.normal(size=40), rng.normal(size=40), mine, theirs)
    assert same.low < 0.5 < same.high
    assert auroc(rng.normal(size=40) + 9, rng.normal(size=40), mine, theirs).value == 1


def test_random_secrets_keep_the_form():
    """Digits for digits, letters for letters, all else as it is."""
    rng = np.random.default_rng(0)
    for secret in alternatives("4917-AB ax.", 50, rng):
        assert re.fullmatch(r"[0-9]{4}-[A-Z]{2} [a-z]{2}\.", secret)


def test_exposure_of_a_known_secret_is_high_and_of_an_unknown_one_is_not():
    """The parrot finds its own number likelier than all random ones; another number is one of many."""
    secret = "My number is 583920."
    model = Parrot(secret.encode()).eval()
    lines = ["My number is {583920}.", "My number is {114477}."]
    known, unknown = exposure(model, tokenizer(), lines, n=200)
    assert known["rank"] == 1
    assert known["exposure"].value == pytest.approx(np.log2(201), abs=0.01)
    assert known["exposure"].high is None
    assert known["most"] == pytest.approx(6 * np.log2(10))
    assert unknown["exposure"].value < 4
    assert unknown["exposure"].low < unknown["exposure"].value < unknown["exposure"].high


def test_exposure_of_an_untrained_model_is_about_one_bit():
    """Without memory a secret's rank is uniform: over many the mean exposure is log2 e = 1.44 bits."""
    rng = np.random.default_rng(3)
    lines = [f"The code is {{{rng.integers(1000, 9999)}}}." for _ in range(24)]
    torch.manual_seed(0)
    values = [found["exposure"].value for found in exposure(tiny("gpt2"), tokenizer(), lines, n=99)]
    assert 0.7 < np.mean(values) < 2.4


def test_canaries_are_read_a_line_each(tmp_path):
    """One secret in braces in every line; anything else is refused with the line."""
    path = tmp_path / "canaries.txt"
    path.write_text("My card is {4917}.\n\nPIN {12}\n")
    assert read_canaries(path) == ["My card is {4917}.", "PIN {12}"]
    path.write_text("no secret here\n")
    with pytest.raises(CorpusError, match="one secret in braces"):
        read_canaries(path)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_canaries(tmp_path / "none")

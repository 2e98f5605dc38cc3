"""Tokenizers: text to ids and back without loss, trained on nothing but what they are given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscape.data import open_corpus, open_tokenizer
from memscape.data.tokenizer import load_tokenizer, train_bpe, word_tokenizer
from memscape.errors import CorpusError

TEXTS = [d.text for d in open_corpus("sample", limit=200_000)]
BPE = train_bpe(TEXTS, 512)
BYTES = open_tokenizer("bytes")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT)
def test_every_text_comes_back(text):
    """Byte-level tokenizers lose nothing: any script, control characters, spaces at the ends."""
    for tokenizer in (BYTES, BPE):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert ((ids >= 0) & (ids < tokenizer.vocab_size) & (ids != tokenizer.bos_id)).all()


def test_bytes_are_their_own_ids():
    """The fast path and the library agree, and the only token beyond the bytes is the begin token."""
    text = "naïve 😀\n\x00"
    assert BYTES.encode(text).tolist() == list(text.encode())
    assert BYTES.backend.encode(text, add_special_tokens=False).ids == list(text.encode())
    assert (BYTES.vocab_size, BYTES.bos_id) == (257, 256)


def test_a_text_that_spells_the_begin_token_is_only_text():
    """No document can smuggle a begin token in."""
    for tokenizer in (BYTES, BPE):
        assert tokenizer.bos_id not in tokenizer.encode(f"a {tokenizer.bos} b")


def test_training_is_deterministic_and_has_the_size_asked_for():
    """Equal texts, equal tokenizer: runs can be repeated anywhere."""
    assert BPE.vocab_size == 512
    assert train_bpe(list(TEXTS), 512).sha256 == BPE.sha256
    assert train_bpe(TEXTS[1:], 512).sha256 != BPE.sha256


def test_larger_vocabularies_need_fewer_tokens():
    """What the merges are for."""
    n = [sum(map(len, t.encode_each(TEXTS))) for t in (BYTES, BPE, train_bpe(TEXTS, 1024))]
    assert n[0] > 1.8 * n[1] > 2 * n[2]


def test_many_texts_are_encoded_as_one_by_one():
    """Batches are only a matter of speed."""
    for one, text in zip(BPE.encode_each(TEXTS), TEXTS, strict=True):
        np.testing.assert_array_equal(one, BPE.encode(text))


@pytest.mark.parametrize("tokenizer", [BYTES, BPE, word_tokenizer("ids:5", "01234")], ids=lambda t: t.name)
def test_a_saved_tokenizer_loads_here_and_in_transformers(tmp_path, tokenizer):
    """A run folder carries its tokenizer in the layout that AutoTokenizer reads."""
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "0 1 2 3 4 0"
    assert (again.name, again.sha256, again.bos_id) == (tokenizer.name, tokenizer.sha256, tokenizer.bos_id)
    assert theirs(text, add_special_tokens=False).input_ids == tokenizer.encode(text).tolist()
    assert (theirs.bos_token_id, len(theirs)) == (tokenizer.bos_id, tokenizer.vocab_size)


def test_gpt2_from_its_two_files(shared_data):
    """The published ids of "Hello world", and GPT-2's own begin token."""
    gpt2 = open_tokenizer(shared_data / "tokenizers" / "gpt2")
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert (gpt2.name, gpt2.vocab_size, gpt2.bos_id) == ("gpt2", 50_257, 50_256)
    assert gpt2.decode(gpt2.encode(TEXTS[0])) == TEXTS[0]


@pytest.mark.parametrize(
    ("spec", "texts", "message"),
    [
        ("bpe:many", TEXTS, "write bpe:V"),
        ("bpe:100", TEXTS, "at least 258"),
        ("bpe:512", None, "must be trained"),
        ("bpe:4096", ["a short text"], "yields only"),
        ("no-such-tokenizer", None, "neither a folder nor on the Hub"),
    ],
)
def test_what_is_no_tokenizer_is_refused(spec, texts, message):
    """One line that says what was expected."""
    with pytest.raises(CorpusError, match=message):
        open_tokenizer(spec, texts)


def test_a_closed_vocabulary_names_the_word_it_lacks():
    """Words are looked up; the begin token is no word."""
    ids = word_tokenizer("ids:5", "01234")
    assert ids.encode("4 0 1").tolist() == [4, 0, 1]
    for text, word in (("4 7", "'7'"), (ids.bos, "begin")):
        with pytest.raises(CorpusError, match=f"has no word .*{word}"):
            ids.encode(text)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    """A folder is never mistaken for a Hub name."""
    with pytest.raises(CorpusError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    BYTES.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": {"content": "<s>"}}')
    with pytest.raises(CorpusError, match=r"lacks a begin token .it names '<s>'"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(CorpusError, match=r"lacks a begin token .it names None"):
        load_tokenizer(tmp_path)

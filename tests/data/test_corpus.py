"""A corpus by name: the shipped sample, files, streams, lines and random tokens."""

import json

import pytest

from memscape.data import Corpus, Document, open_corpus
from memscape.errors import CorpusError


def test_the_shipped_sample_is_what_its_readme_says():
    """32 excerpts of about 40 kB from 32 authors: enough documents for an interval on everything."""
    sample = open_corpus("sample")
    assert sample.n_documents == 32
    assert len({d.author for d in sample}) == 32
    assert sample.n_bytes == 1_299_125
    assert all(38_000 < d.n_bytes < 42_000 for d in sample)
    assert all("\n" not in d.text.replace("\n\n", "") for d in sample), "line breaks inside paragraphs are joined"
    assert sample.sha256.startswith("34f778a1")


def test_a_lone_text_is_cut_into_documents_and_says_so(tmp_path):
    """One file has no documents to resample; its sections serve, and the corpus tells."""
    (tmp_path / "book.txt").write_text("A paragraph of some words.\n\n" * 2000)
    corpus = open_corpus(tmp_path / "book.txt")
    assert corpus.n_documents == 16
    assert "cut into 16 pieces" in str(corpus)
    assert corpus.documents[0].title == "book, piece 1"


def test_the_hash_is_of_the_content_alone(tmp_path):
    """The same documents from files or records are the same corpus; another order or another cut is not."""
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "both.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in ("one", "two")))
    (tmp_path / "moved.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in ("onet", "wo")))
    files, lines, moved = [
        Corpus("files", tuple(open_corpus(tmp_path / n).documents[0] for n in ("a.txt", "b.txt")))
    ] + [open_corpus(tmp_path / f"{n}.jsonl") for n in ("both", "moved")]
    assert lines.n_documents == 2
    assert files.sha256 == lines.sha256 != moved.sha256


def test_a_limit_stops_reading_inside_a_document(tmp_path):
    """A limit is in bytes of text, counted over documents; half a character is never kept."""
    corpus_of_accents = tmp_path / "accents.txt"
    corpus_of_accents.write_text("é" * 10, encoding="utf-8")
    corpus = open_corpus("sample", limit=60_000)
    assert corpus.n_bytes == 60_000
    assert corpus.n_documents == 2
    assert "first 60,000 bytes" in str(corpus)
    assert open_corpus(corpus_of_accents, limit=5).documents[0].text == "éé"
    with pytest.raises(CorpusError, match="limit=0 reads nothing"):
        open_corpus("sample", limit=0)


def test_too_short_says_how_much_is_needed():
    """Tokens never outnumber bytes, so the check holds before any tokenizer is made."""
    sample = open_corpus("sample")
    assert sample.require(1_000_000) is sample
    with pytest.raises(CorpusError, match="expected 4,000,000 tokens or more bytes than that, it has 1,299,125"):
        sample.require(4_000_000)


def test_question_formation_is_lines_shipped_or_given(tmp_path):
    """The shipped files, or the training file of whoever has it."""
    shipped = open_corpus("question-formation")
    assert (shipped.kind, shipped.n_documents) == ("lines", 11_000)
    (tmp_path / "question.train").write_text("\n".join(d.text for d in shipped.documents[:20]) + "\n")
    assert open_corpus(f"question-formation:{tmp_path / 'question.train'}").n_documents == 20
    with pytest.raises(CorpusError, match="does not exist"):
        open_corpus("question-formation:nowhere")


def test_random_tokens_have_an_alphabet_and_no_end():
    """They carry no text; a wrong alphabet is refused."""
    corpus = open_corpus("random:64")
    assert (corpus.kind, corpus.alphabet, corpus.n_documents) == ("random", 64, 0)
    for wrong in ("random:", "random:1", "random:many", "random:99999999999", "random:" + "9" * 5000):
        with pytest.raises(CorpusError, match="write random:V"):
            open_corpus(wrong)


def test_an_empty_name_is_no_folder(tmp_path, monkeypatch):
    """Path("") is the current folder; whoever leaves the name out has not asked for that."""
    (tmp_path / "private.txt").write_text("words")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match="got an empty name; write one of: sample"):
        open_corpus("")


def test_a_stream_is_read_up_to_its_limit(tmp_path):
    """The same door as a Hub data set, on a local folder in its layout."""
    rows = "".join(json.dumps({"text": f"document {i} " + "x" * 90}) + "\n" for i in range(50))
    (tmp_path / "train.jsonl").write_text(rows)
    corpus = open_corpus(f"hf:{tmp_path}", limit=1000)
    assert corpus.n_bytes == 1000
    assert corpus.n_documents == 10
    assert corpus.documents[3].text.startswith("document 3")
    assert open_corpus(f"hf:{tmp_path}:train").n_documents == 50


@pytest.mark.parametrize("spec", ["hf:", "hf:a:b:c:d", "hf:no/such-data-set-here"])
def test_a_stream_that_cannot_be_opened_is_one_line(spec):
    """Wrong form, unknown name, no network: name it and say what to do."""
    with pytest.raises(CorpusError, match="hf:") as raised:
        open_corpus(spec)
    assert "\n" not in str(raised.value)


def test_records_without_any_text_are_refused(tmp_path):
    """A corpus of blank documents is empty, whatever its size."""
    (tmp_path / "blank.jsonl").write_text('{"text": " "}\n' * 9)
    with pytest.raises(CorpusError, match="holds no text"):
        open_corpus(tmp_path / "blank.jsonl")


def test_it_prints_well_and_escapes_what_it_shows():
    """A title is text, never markup, when it reaches a notebook."""
    corpus = Corpus("c", tuple(Document("<script>", "text") for _ in range(30)))
    assert "<script>" not in corpus._repr_html_()
    assert "and 10 more" in corpus._repr_html_()
    assert repr(corpus).startswith("<Corpus c: 30 documents, 120 bytes (sha256 ")
    assert set(corpus.facts) == {"name", "sha256", "n_documents", "n_bytes", "note"}

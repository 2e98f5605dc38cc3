"""Splits: three disjoint sets, subsets that nest, duplicates out, and the same again from the same seed."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscape.data import Corpus, Document, Split, open_corpus, split_corpus
from memscape.data.question_formation import SHIPPED_LINES, read_lines
from memscape.data.tokenizer import train_bpe
from memscape.errors import CorpusError, FolderError

SETS = ("train", "fresh", "other")


def words(n: int, seed: int) -> str:
    """Text that repeats no window: words out of 10,000, drawn anew for every seed."""
    return " ".join(map(str, random.Random(seed).choices(range(10_000, 20_000), k=n)))


def corpus(n_documents: int = 20, n_words: int = 200, extra: tuple[str, ...] = ()) -> Corpus:
    texts = [words(n_words, seed) for seed in range(n_documents)] + list(extra)
    return Corpus("made", tuple(Document(f"d{i}", text) for i, text in enumerate(texts)))


def rows(sequences) -> list[tuple[int, ...]]:
    return [tuple(row) for row in sequences.tokens.tolist()]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 25), st.integers(8, 70), st.integers(0, 3))
def test_the_sets_are_disjoint_and_made_of_whole_pieces_of_their_documents(n_documents, seq_len, seed):
    """No sequence is in two sets, none crosses a document, and other shares no document with train and fresh."""
    made = corpus(n_documents, 120)
    split = split_corpus(made, "bytes", seq_len, seed)
    everything = [row for name in SETS for row in rows(getattr(split, name))]
    assert len(set(everything)) == len(everything)
    for name in SETS:
        part = getattr(split, name)
        for tokens, i in zip(part.tokens, part.document, strict=True):
            text = made.documents[i].text.encode()
            cut = {text[k : k + seq_len] for k in range(0, len(text), seq_len)}
            assert bytes(tokens[tokens >= 0].astype(np.uint8).tolist()) in cut
    trained = set(split.train.document) | set(split.fresh.document)
    assert not trained & set(split.other.document)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 5), st.integers(64, 15_000), st.integers(64, 15_000))
def test_training_subsets_nest_across_all_documents(seed, one, two):
    """The D of 4k lies inside the D of 64k: the smaller subset begins the larger, whatever the two sizes."""
    split = split_corpus(corpus(), "bytes", 64, seed)
    small, large = (split.subset(n) for n in sorted((one, two)))
    assert rows(small) == rows(large)[: len(small)]
    assert small.n_tokens <= min(one, two) < small.n_tokens + 64


def test_subsets_and_fresh_are_fair_samples_of_the_training_documents():
    """A subset of a tenth touches nearly all documents, about evenly: subject and size do not mix."""
    split = split_corpus("sample", "bytes", 64)
    n_documents = split.counts.documents["train"]
    for part in (split.subset(90_000), split.fresh):
        counts = np.unique(part.document, return_counts=True)[1]
        assert len(counts) == n_documents
        assert counts.max() < 2 * counts.mean()


def test_equal_arguments_make_equal_splits_and_other_seeds_others():
    """Deterministic, tokenizer included."""
    a, b, c = (split_corpus(corpus(), "bpe:270", 64, seed) for seed in (0, 0, 1))
    for name in SETS:
        np.testing.assert_array_equal(getattr(a, name).tokens, getattr(b, name).tokens)
    assert a.tokenizer.sha256 == b.tokenizer.sha256
    assert set(a.other.document) != set(c.other.document)


def test_the_tokenizer_is_trained_on_the_training_documents_alone():
    """Held-out text must not shape the tokens: the merges are those of the training documents."""
    made = corpus()
    split = split_corpus(made, "bpe:270", 64)
    held_out = set(split.other.document)
    texts = [d.text for i, d in enumerate(made) if i not in held_out]
    assert split.tokenizer.sha256 == train_bpe(texts, 270).sha256 != train_bpe([d.text for d in made], 270).sha256


def test_planted_copies_are_found_across_every_border_and_counted():
    """Two editions of a text, one shifted by a title: whichever set comes later loses its chunks."""
    original = words(400, seed=99)
    planted = corpus(20, 200, extra=(original, "TITLE PAGE\n\n" + original, original))
    split = split_corpus(planted, "bytes", 64)
    clean = split_corpus(corpus(20, 200, extra=(original, words(402, 107), words(400, 108))), "bytes", 64)
    per_edition = len(original) // 64
    removed = sum(split.counts.copies.values()) + sum(split.counts.near.values())
    assert sum(clean.counts.copies.values()) + sum(clean.counts.near.values()) == 0
    assert 1.95 * per_edition < removed <= 2 * per_edition
    assert sum(split.counts.copies.values()) >= 0.95 * per_edition
    assert sum(split.counts.sequences.values()) + removed == sum(clean.counts.sequences.values())


@pytest.mark.parametrize("seed", range(4))
def test_no_held_out_sequence_is_half_a_quotation_of_training_text(seed):
    """Checked by substrings, not by hashes: half of a removed edition would otherwise be in other."""
    text = words(300, seed=50)
    planted = corpus(16, 150, extra=(text, "x" * 13 + text))
    split = split_corpus(planted, "bytes", 64, seed)
    trained = b" ".join(bytes(row.astype(np.uint8).tolist()) for row in split.train.tokens)
    for part in (split.fresh, split.other):
        for row in part.tokens:
            chunk = bytes(row.astype(np.uint8).tolist())
            windows = [chunk[i : i + split.counts.window] for i in range(64 - split.counts.window + 1)]
            assert sum(w in trained for w in windows) < len(windows) / 2


def test_short_documents_are_padded_not_lost():
    """Documents below seq_len would vanish if only whole chunks counted; every token of theirs is a target."""
    short = Corpus("short", tuple(Document(str(i), words(8, i)) for i in range(60)))
    split = split_corpus(short, "bytes", 64)
    assert sum(split.counts.tokens.values()) == short.n_bytes
    assert split.counts.tail_tokens == 0
    assert split.train.tokens.min() == -1
    assert split.train.floor() == pytest.approx(np.log(len(split.train)) / split.train.lengths.mean(), rel=1e-6)


def test_long_documents_lose_only_their_ends():
    """Under 5 % of the tokens: then every sequence is full and stored unsigned."""
    split = split_corpus("sample", "bytes", 64)
    assert split.train.tokens.dtype == np.uint16
    assert sum(split.counts.tokens.values()) + split.counts.tail_tokens + 64 * 2 == open_corpus("sample").n_bytes
    assert sum(split.counts.near.values()) == 2


def test_the_floor_of_distinct_sequences_is_that_of_theory():
    """H(p̂)/T = ln d / T when no sequence repeats."""
    train = split_corpus("sample", "bytes", 64).subset(64 * 64)
    assert train.floor() == pytest.approx(np.log(64) / 64, abs=1e-12)


def test_question_formation_trains_on_generated_lines_and_holds_out_real_ones():
    """fresh is more of the same generator, other the real files: other - fresh is how well the generator imitates."""
    split = split_corpus("question-formation", seq_len=36, n_tokens=50_000)
    real = {tuple(split.tokenizer.encode(d.text)) for d in open_corpus("question-formation")}
    whole = {name: {row[: row.index(split.tokenizer.bos_id)] for row in rows(getattr(split, name))} for name in SETS}
    assert whole["other"] == real
    assert not (whole["train"] | whole["fresh"]) & real
    assert not whole["train"] & whole["fresh"]
    assert split.train.tokens[0][split.train.lengths[0] - 1] == split.tokenizer.bos_id, "lines end in the end token"
    assert abs(split.train.lengths.mean() - split.other.lengths.mean()) < 0.5
    with pytest.raises(CorpusError, match=r"seq_len=32 cuts lines.*use 36"):
        split_corpus("question-formation", seq_len=32, n_tokens=10_000)


@pytest.mark.slow
def test_question_formation_without_a_size_is_that_of_the_paper():
    """100,000 distinct lines, ln 10^5 / 23.4 = 0.492 nats/token to memorise; small sets begin large ones."""
    split = split_corpus("question-formation", seq_len=36)
    assert len(split.train) == 100_000
    assert split.train.floor() == pytest.approx(0.492, abs=5e-4)
    small = split_corpus("question-formation", seq_len=36, n_tokens=10_000).subset(10_000)
    assert rows(small) == rows(split.train.first(10_000))


def test_a_file_of_lines_is_shuffled_into_train_and_fresh(tmp_path):
    """The published training file, for whoever has it; real lines that it lacks are other."""
    mine = read_lines(SHIPPED_LINES[0])
    (tmp_path / "mine").write_text("\n".join(mine) + "\n")
    split = split_corpus(f"question-formation:{tmp_path / 'mine'}", seq_len=36)
    assert split.counts.sequences == {"train": 900, "fresh": 100, "other": 10_000}


def test_random_tokens_come_in_the_size_asked_for():
    """No end of data, so the size must be said; the begin token lies outside the alphabet."""
    split = split_corpus("random:64", seq_len=16, n_tokens=1000)
    larger = split_corpus("random:64", seq_len=16, n_tokens=5000)
    assert split.train.n_tokens == 1008
    assert rows(larger.train)[: len(split.train)] == rows(split.train)
    assert (split.tokenizer.bos_id, split.tokenizer.vocab_size) == (64, 65)
    assert len(split.fresh) == len(split.other) == 8
    with pytest.raises(CorpusError, match="say how many training tokens"):
        split_corpus("random:64", seq_len=16)


def test_a_folder_keeps_the_split_and_refuses_another(tmp_path):
    """Made once, mapped afterwards; a damaged or half-written one is made again."""
    made = split_corpus(corpus(), "bpe:270", 32, folder=tmp_path)
    before = (tmp_path / "train.npy").stat().st_mtime_ns
    again = split_corpus(corpus(), "bpe:270", 32, folder=tmp_path)
    loaded = Split.load(tmp_path)
    assert (tmp_path / "train.npy").stat().st_mtime_ns == before
    assert isinstance(again.train.tokens, np.memmap)
    assert repr(made) == repr(again) == repr(loaded)
    assert again.tokenizer.sha256 == made.tokenizer.sha256
    with pytest.raises(FolderError, match="belongs to another plan: its seq_len is 32"):
        split_corpus(corpus(), "bpe:270", 64, folder=tmp_path)
    (tmp_path / "split.json").unlink()
    split_corpus(corpus(), "bpe:270", 32, folder=tmp_path)
    assert (tmp_path / "train.npy").stat().st_mtime_ns > before
    json.loads((tmp_path / "split.json").read_text())


@pytest.mark.parametrize(
    ("made", "seq_len", "n_tokens", "message"),
    [
        (corpus(4, 5), 64, None, "too short: expected 256 tokens"),
        (corpus(20, 200), 64, 10**6, "expected 1,000,000 tokens or more bytes than that, it has 23,980"),
        (
            corpus(20, 200),
            64,
            20_000,
            r"expected 20,000 training tokens, got 1\d,\d{3} beside the held-out sets; about 3\d,",
        ),
        (corpus(1, 2000), 64, None, "leaves nothing for other"),
        (corpus(20, 200), 1, None, "seq_len=1 leaves nothing"),
    ],
)
def test_too_short_says_what_is_needed(made, seq_len, n_tokens, message):
    """How much there is, how much the plan takes, and what to change."""
    with pytest.raises(CorpusError, match=message):
        split_corpus(made, "bytes", seq_len, n_tokens=n_tokens)


def test_a_corpus_that_repeats_itself_is_told_so():
    """A longer one of the same kind would not help: what was removed is said beside what is left."""
    same = Corpus("same", (Document("a", "The same line again and again.\n" * 3000),) * 4)
    for n_tokens in (None, 10_000):
        with pytest.raises(CorpusError, match=r"5,\d{3} of 5,\d{3} sequences repeat others and were removed"):
            split_corpus(same, "bytes", 64, n_tokens=n_tokens)
    half = Corpus("half", (*same, *corpus(20, 200)))
    with pytest.raises(CorpusError, match=r"expected 30,000 training tokens, .* repeat others and were removed"):
        split_corpus(half, "bytes", 64, n_tokens=30_000)


def test_a_negative_seed_is_refused():
    """numpy would raise an error of its own."""
    with pytest.raises(CorpusError, match="seed=-1 is below 0"):
        split_corpus(corpus(), "bytes", 64, seed=-1)


@pytest.mark.parametrize(("n_documents", "n_other"), [(2, 1), (16, 4), (32, 8), (291, 29)])
def test_other_takes_a_tenth_of_the_documents_at_least_eight_at_most_a_quarter(n_documents, n_other):
    """Eight clusters are the fewest that give an interval."""
    split = split_corpus(corpus(n_documents, 120), "bytes", 32)
    assert split.counts.documents["other"] == n_other


def test_it_prints_its_counts():
    """What was trained on, held out and removed, before anything runs."""
    printed = str(split_corpus("sample", "bytes", 64))
    assert "13,663 sequences" in printed
    assert "2 near duplicates removed" in printed
    assert "24 documents for train and fresh, 8 for other" in printed

"""A split: which text is trained on, and which two kinds of text are held out?

`fresh` are random chunks of the training documents that are never trained on: they differ from the training set in
nothing but having been seen, so the gap to them is memorisation. `other` are whole documents never opened: the gap from
fresh to other is the change of subject, not memorisation. Training chunks stand in random order across all training
documents, so every beginning of them is a fair sample and the 4k tokens lie inside the 64k.

>>> split = split_corpus("sample", tokenizer="bytes", seq_len=128)
>>> split.subset(4096).n_tokens, split.subset(65536).n_tokens
(4096, 65536)
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from memscape.data.corpus import Corpus, open_corpus
from memscape.data.duplicates import NEAR, repeated_share, window_tokens
from memscape.data.question_formation import SHIPPED_LINES, never_repeated, read_lines
from memscape.data.random_tokens import random_tokens, token_dtype
from memscape.data.tokenizer import Tokenizer, load_tokenizer, open_tokenizer, word_tokenizer
from memscape.data.tokens import PADDING, Sequences
from memscape.errors import CorpusError
from memscape.folder import claim, read_json, write_json

FRESH_SHARE = 0.1
"""Share of the training documents' chunks that is kept back as `fresh`."""

OTHER_SHARE, FEWEST_OTHER, MOST_OTHER_SHARE = 0.1, 8, 0.25
"""`other` takes a tenth of the documents, at least 8 (fewer give no interval), at most a quarter."""

TAIL_SHARE = 0.05
"""The ends of documents that fill no chunk are dropped while they are less than this; else kept, padded."""

LINES, TOKENS_A_LINE = 100_000, 22
"""Question-Formation without a size has as many training lines as McCoy et al.; a line has 23.4 tokens on average."""

FRESH_LINES = 2_000


class Counts(BaseModel):
    """How many documents, sequences and tokens each set has, and what was taken out."""

    model_config = ConfigDict(frozen=True)

    documents: dict[str, int]
    """Documents cut into `train` (and `fresh`), and into `other`."""
    sequences: dict[str, int]
    tokens: dict[str, int]
    copies: dict[str, int]
    """Sequences removed because an earlier one equals them: train before fresh before other."""
    near: dict[str, int]
    """Sequences removed because at least half of their windows occur in earlier ones."""
    window: int
    """Tokens a window; 0 where near duplicates mean nothing (phrases, lines of a grammar, random tokens)."""
    tail_tokens: int
    """Tokens at the ends of documents that filled no whole sequence and were dropped."""

    @property
    def left_out(self) -> str:
        """What to say of a corpus that repeats itself; nothing where no sequence was removed."""
        removed, kept = sum(self.copies.values()) + sum(self.near.values()), sum(self.sequences.values())
        return f" ({removed:,} of {removed + kept:,} sequences repeat others and were removed)" if removed else ""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Three disjoint sets of sequences of one corpus, and the tokenizer that made them."""

    corpus: dict
    """Name, sha256 and counts of the corpus."""
    tokenizer: Tokenizer
    train: Sequences
    """The pool of unique training sequences, in the order in which subsets grow."""
    fresh: Sequences
    other: Sequences
    counts: Counts
    seed: int

    @property
    def seq_len(self) -> int:
        return self.train.seq_len

    def subset(self, n_tokens: int) -> Sequences:
        """Return the training set of (at most) `n_tokens` unique tokens; smaller ones lie inside larger ones."""
        return self.train.first(n_tokens)

    def save(self, folder: Path) -> None:
        """Write the sets as mappable arrays, the tokenizer, and `split.json` last: it exists = done."""
        for name in ("train", "fresh", "other"):
            getattr(self, name).save(Path(folder) / name)
        self.tokenizer.save(folder)
        write_json(Path(folder) / "split.json", {"corpus": self.corpus, "seed": self.seed, "counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> "Split":
        """Open what `save` wrote; the sets stay on disk until touched."""
        record = read_json(Path(folder) / "split.json")
        train, fresh, other = (Sequences.load(Path(folder) / name) for name in ("train", "fresh", "other"))
        counts = Counts(**record["counts"])
        return cls(record["corpus"], load_tokenizer(folder), train, fresh, other, counts, record["seed"])

    def __repr__(self) -> str:
        c = self.counts
        lines = [
            f"{self.corpus['name']} in sequences of {self.seq_len} tokens ({self.tokenizer.name}), seed {self.seed}"
        ]
        for name in ("train", "fresh", "other"):
            removed = f"{c.copies[name]:,} copies and {c.near[name]:,} near duplicates removed"
            lines.append(f"  {name:5}  {c.sequences[name]:>9,} sequences  {c.tokens[name]:>12,} tokens   {removed}")
        documents = f"{c.documents['train']:,} documents for train and fresh, {c.documents['other']:,} for other"
        return "\n".join([*lines, f"  {documents}; {c.tail_tokens:,} tokens at their ends dropped"])


def split_corpus(
    corpus: str | Path | Corpus,
    tokenizer: str | Path | Tokenizer = "bytes",
    seq_len: int = 256,
    seed: int = 0,
    n_tokens: int | None = None,
    folder: Path | None = None,
) -> Split:
    """Return the split of a corpus into train, fresh and other.

    Args:
        corpus: what `open_corpus` takes.
        tokenizer: what `open_tokenizer` takes; `bpe:V` is trained on the training documents. Random tokens and
            Question-Formation bring their own.
        seq_len: tokens a sequence; no sequence crosses a document.
        seed: decides the held-out documents and the order of the chunks; equal arguments, equal split.
        n_tokens: unique training tokens that the pool must hold; what is generated is generated to that size.
        folder: keep the split there, and take it from there the next time.

    Raises:
        CorpusError: the corpus is too short; says how much it has and how much is needed.
        FolderError: the folder holds the split of something else.
    """
    corpus = open_corpus(corpus)
    if seq_len < 2:
        raise CorpusError(f"seq_len={seq_len} leaves nothing to predict from; expected at least 2.")
    if seed < 0:
        raise CorpusError(f"seed={seed} is below 0; expected a whole number from 0 up.")
    spec = tokenizer.sha256 if isinstance(tokenizer, Tokenizer) else str(tokenizer)
    request = {"corpus": corpus.sha256, "tokenizer": spec, "seq_len": seq_len, "seed": seed, "n_tokens": n_tokens}
    place = None if folder is None else Path(folder) / "request.json"
    if place and place.exists() and claim(place, request) and place.with_name("split.json").exists():
        return Split.load(place.parent)
    make = {"text": _split_text, "lines": _split_lines, "random": _split_random}[corpus.kind]
    split = make(corpus, tokenizer, seq_len, seed, n_tokens)
    if n_tokens is not None and split.train.n_tokens < n_tokens:
        needed = corpus.n_bytes * n_tokens / max(1, split.train.n_tokens)
        raise CorpusError(
            f"{corpus.name} is too short: expected {n_tokens:,} training tokens, got {split.train.n_tokens:,} beside "
            f"the held-out sets{split.counts.left_out}; about {needed:,.0f} bytes are needed, it has "
            f"{corpus.n_bytes:,}; use a longer corpus or a smaller plan."
        )
    if place:
        claim(place, request)  # only now: a text that cannot serve leaves no claim behind
        split.save(place.parent)
        return Split.load(place.parent)
    return split


def _split_text(corpus: Corpus, spec: str | Path | Tokenizer, seq_len: int, seed: int, n_tokens: int | None) -> Split:
    corpus.require(max(n_tokens or 0, 4 * seq_len))
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(corpus.n_documents)
    n_other = _n_other(corpus.n_documents)
    homes = {"train": np.sort(shuffled[n_other:]), "other": np.sort(shuffled[:n_other])}
    texts = [d.text for d in corpus]
    tokenizer = open_tokenizer(spec, [texts[i] for i in homes["train"]])
    ids = list(tokenizer.encode_each(texts))
    ends = sum(len(x) % seq_len for x in ids)
    total = sum(map(len, ids))
    padded = ends > TAIL_SHARE * total
    dtype = np.int32 if padded else token_dtype(tokenizer.vocab_size)
    chunks = {home: _chunks(ids, documents, seq_len, dtype, padded) for home, documents in homes.items()}
    order = rng.permutation(len(chunks["train"]))
    n_fresh = int(FRESH_SHARE * len(order))
    sets = {
        "train": chunks["train"][order[n_fresh:]],
        "fresh": chunks["train"][order[:n_fresh]],
        "other": chunks["other"][rng.permutation(len(chunks["other"]))],
    }
    window = window_tokens(corpus.n_bytes / max(total, 1), seq_len)
    return _finish(corpus, tokenizer, sets, window, seed, 0 if padded else ends)


def _split_lines(corpus: Corpus, spec: str | Path | Tokenizer, seq_len: int, seed: int, n_tokens: int | None) -> Split:
    """A file of lines is shuffled into train and fresh; without one both are generated. Shipped lines are other."""
    tokenizer = open_tokenizer("words")
    if corpus.name == "question-formation":
        shipped = [d.text for d in corpus]
        fresh = list(islice(never_repeated(2 * seed, shipped), FRESH_LINES))
        n_lines = LINES if n_tokens is None else n_tokens // TOKENS_A_LINE + 64
        lines = [*fresh, *islice(never_repeated(2 * seed + 1, [*shipped, *fresh]), n_lines)]
        n_fresh = FRESH_LINES
    else:
        lines = [corpus.documents[i].text for i in np.random.default_rng(seed).permutation(corpus.n_documents)]
        n_fresh = int(FRESH_SHARE * len(lines))
        mine = set(lines)
        shipped = [text for file in SHIPPED_LINES for text in read_lines(file) if text not in mine]
    ids = [np.append(x, tokenizer.bos_id) for x in tokenizer.encode_each([*lines, *shipped])]
    longest = max(map(len, ids))
    if longest > seq_len:
        raise CorpusError(
            f"seq_len={seq_len} cuts lines; the longest has {longest} tokens with its end: use {longest}."
        )
    n = len(lines)
    bounds = {"train": (n_fresh, n), "fresh": (0, n_fresh), "other": (n, len(ids))}
    sets = {name: _chunks(ids, np.arange(*ends), seq_len, np.int32, True) for name, ends in bounds.items()}
    return _finish(corpus, tokenizer, sets, 0, seed, 0)


def _split_random(corpus: Corpus, spec: str | Path | Tokenizer, seq_len: int, seed: int, n_tokens: int | None) -> Split:
    if n_tokens is None or corpus.alphabet is None:
        raise CorpusError(f"{corpus.name} has no end; say how many training tokens are needed (n_tokens).")
    n_train = -(-n_tokens // seq_len)
    n_held_out = max(8, min(4096, int(FRESH_SHARE * n_train)))
    sets = {}
    for role, (name, n) in enumerate([("train", n_train), ("fresh", n_held_out), ("other", n_held_out)]):
        sets[name] = Sequences(random_tokens(corpus.alphabet, n, seq_len, seed, role), np.arange(n))
    tokenizer = word_tokenizer(f"ids:{corpus.alphabet}", map(str, range(corpus.alphabet)))
    return _finish(corpus, tokenizer, sets, 0, seed, 0)


def _finish(corpus: Corpus, tokenizer: Tokenizer, sets: dict, window: int, seed: int, tail_tokens: int) -> Split:
    """Take duplicates out of the later sets and count everything."""
    names, starts = list(sets), np.cumsum([0, *map(len, sets.values())])
    share, copy = repeated_share(np.concatenate([s.tokens for s in sets.values()]), window)
    near = ~copy & (share >= NEAR)
    bounds = {name: slice(starts[i], starts[i + 1]) for i, name in enumerate(names)}
    sets = {name: sets[name][np.flatnonzero(~(copy | near)[at])] for name, at in bounds.items()}
    counts = Counts(
        documents={name: len(np.unique(s.document)) for name, s in sets.items()},
        sequences={name: len(s) for name, s in sets.items()},
        tokens={name: s.n_tokens for name, s in sets.items()},
        copies={name: int(copy[at].sum()) for name, at in bounds.items()},
        near={name: int(near[at].sum()) for name, at in bounds.items()},
        window=window,
        tail_tokens=tail_tokens,
    )
    empty = [name for name, s in sets.items() if len(s) == 0]
    if empty:
        raise CorpusError(
            f"{corpus.name} leaves nothing for {' and '.join(empty)} in sequences of {sets['train'].seq_len} tokens"
            f"{counts.left_out}; use a longer corpus of more documents, or a smaller seq_len."
        )
    return Split(corpus.facts, tokenizer, sets["train"], sets["fresh"], sets["other"], counts, seed)


def _n_other(n_documents: int) -> int:
    wanted = max(FEWEST_OTHER, round(OTHER_SHARE * n_documents))
    return max(1, min(wanted, int(MOST_OTHER_SHARE * n_documents))) if n_documents > 1 else 0


def _chunks(ids: list[np.ndarray], documents: np.ndarray, seq_len: int, dtype: type, padded: bool) -> Sequences:
    """Cut documents into chunks of seq_len from their starts; the last one of each is padded or dropped."""
    n_rows = [-(-len(ids[i]) // seq_len) if padded else len(ids[i]) // seq_len for i in documents]
    rows = np.full((sum(n_rows), seq_len), PADDING if padded else 0, dtype)
    place = 0
    for i, n in zip(documents, n_rows, strict=True):
        tokens = ids[i][: n * seq_len]
        rows.reshape(-1)[place : place + len(tokens)] = tokens
        place += n * seq_len
    return Sequences(rows, np.repeat(documents, n_rows))

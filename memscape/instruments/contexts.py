"""The text as a model reads it: windows of equal length, the same number from every document.

contexts = read_contexts(open_corpus("sample"), tokenizer, limit=8192, context=256)
contexts.shape                              # (contexts, tokens a context)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from memscape.data.corpus import Corpus
from memscape.errors import CorpusError


@dataclass(frozen=True)
class Contexts:
    """Windows of a corpus as a model reads them: C contexts of T tokens, each followed by one more token to predict."""

    tokens_CT1: Int[np.ndarray, "C T1"]
    """Token ids; column T is the token that the last state predicts."""
    documents_C: Int[np.ndarray, " C"]
    """Which document each context comes from."""
    titles: tuple[str, ...]
    """The title of every document that gave a context, in the order of their numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(contexts, tokens a context)"""
        return self.tokens_CT1.shape[0], self.tokens_CT1.shape[1] - 1

    @property
    def n_tokens(self) -> int:
        return self.shape[0] * self.shape[1]

    def spread(self, n_tokens: int) -> Int[np.ndarray, " K"]:
        """Return the numbers of the contexts that make about `n_tokens` tokens, spread over the documents."""
        count = max(1, min(len(self.documents_C), n_tokens // self.shape[1]))
        return np.linspace(0, len(self.documents_C) - 1, count).round().astype(int)

    def at(self, rows: Int[np.ndarray, " K"]) -> "Contexts":
        """Return some of the contexts."""
        return Contexts(self.tokens_CT1[rows], self.documents_C[rows], self.titles)

    def first(self, n_tokens: int) -> "Contexts":
        """Return about `n_tokens` tokens of the same text, spread over the documents: what a null is measured on."""
        return self.at(self.spread(n_tokens))

    def shuffled(self, seed: int = 0) -> "Contexts":
        """Return the same tokens in random order within each context: text without its order, as a null."""
        rng = np.random.default_rng(seed)
        return Contexts(rng.permuted(self.tokens_CT1, axis=1), self.documents_C, self.titles)


def read_contexts(corpus: Corpus, tokenizer: Any, *, limit: int, context: int, begin: int | None = None) -> Contexts:
    """Return about `limit` tokens of the corpus as contexts of `context` tokens, spread evenly over the documents.

    No document gives more than one context above the others; what short ones lack, later ones give up to that. `begin`
    is the token that every context starts with, for a model that was trained so; plain text has none.

    Raises:
        CorpusError: no document fills one context; the message says how long the longest is.
    """
    wanted, n_documents = max(1, round(limit / context)), max(1, len(corpus.documents))
    most, width = -(-wanted // n_documents), context + 1 - (begin is not None)
    rows, owners, titles, longest = [], [], [], 0
    for i, document in enumerate(corpus.documents, 1):
        due = min(most, -(-i * wanted // n_documents) - len(rows))
        if due == 0:
            continue
        ids = _encode_start(document.text, tokenizer, due * width)
        longest, count = max(longest, len(ids)), min(due, len(ids) // width)
        rows += [ids[j * width : (j + 1) * width] for j in range(count)]
        owners += [len(titles)] * count
        titles += [document.title] * (count > 0)
    if not rows:
        raise CorpusError(
            f"corpus {corpus.name!r}: no document fills a context of {width:,} tokens, the longest has {longest:,}; "
            "give longer documents or a smaller --context."
        )
    tokens = np.array(rows, dtype=np.int32)
    if begin is not None:
        tokens = np.pad(tokens, ((0, 0), (1, 0)), constant_values=begin)
    return Contexts(tokens, np.array(owners, dtype=np.int64), tuple(titles))


def _encode_start(text: str, tokenizer: Any, wanted: int) -> list[int]:
    """Encode only as much of a long document as `wanted` tokens need."""
    length = wanted * 8
    while True:
        ids = tokenizer(text[:length], add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= wanted or length >= len(text):
            return ids[:wanted]
        length *= 4

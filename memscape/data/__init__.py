"""Corpora, tokenizers, nested subsets, grammars, random patterns."""

from memscape.data.corpus import Corpus, open_corpus
from memscape.data.documents import Document
from memscape.data.order import batch_indices
from memscape.data.splits import Split, split_corpus
from memscape.data.tokenizer import Tokenizer, open_tokenizer
from memscape.data.tokens import Sequences

__all__ = [
    "Corpus",
    "Document",
    "Sequences",
    "Split",
    "Tokenizer",
    "batch_indices",
    "open_corpus",
    "open_tokenizer",
    "split_corpus",
]

"""Corpora, tokenizers, nested subsets, grammars, random patterns."""

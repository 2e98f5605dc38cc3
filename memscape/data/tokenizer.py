"""A tokenizer: text to token ids and back, with one begin token and as few other specials as possible.

`bytes` has 257 tokens and no training; `bpe:4096` is trained on the training documents alone; `gpt2`, a folder or a Hub
name takes a ready-made one. All are one class over `tokenizers`, so that every trained model can carry its own in the
layout that `AutoTokenizer` reads.

>>> t = open_tokenizer("bytes")
>>> t.encode("ab").tolist(), t.bos_id, t.vocab_size, t.decode(t.encode("naïve"))
([97, 98], 256, 257, 'naïve')
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from memscape.data.question_formation import WORDS
from memscape.errors import CorpusError
from memscape.folder import read_json, write_json, write_whole

SPECS = "bytes, bpe:V, gpt2 or another Hub name, a folder with tokenizer.json or vocab.json + merges.txt"
"""Every form a tokenizer of text can be named by, as printed in messages."""

BEGIN = "<|begin|>"
"""The begin token of the tokenizers made here: what stands before the first token of a sequence, never a target."""

END = "<|end|>"
"""End of a line, where sequences are lines (`question-formation`); the same token begins the line."""

BATCH_BYTES = 1 << 22
"""Text goes to `tokenizers` in batches of this size: it keeps some 150 bytes a token while it works."""


class Tokenizer:
    """One protocol for all: `encode`, `decode`, `vocab_size`, `bos_id`, `name`."""

    def __init__(self, name: str, backend: Backend, bos: str | None):
        bos_id = None if bos is None else backend.token_to_id(bos)
        if bos is None or bos_id is None:
            raise CorpusError(f"tokenizer {name} lacks a begin token (it names {bos!r}); choose another.")
        backend.encode_special_tokens = True  # a text that spells a special token is only text
        self.name, self.backend, self.bos, self.bos_id = name, backend, bos, int(bos_id)
        vocab = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values()) + 1
        closed = isinstance(backend.model, models.WordLevel)
        self._words = {word: i for word, i in vocab.items() if closed and i != self.bos_id}

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids (n_tokens,) of a text, int32, no begin token."""
        return next(self.encode_each([text]))

    def encode_each(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the token ids of each text; memory stays bounded by the longest text and 4 MB."""
        if self.name == "bytes":  # a table look-up needs no library
            for text in texts:
                yield np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
            return
        if self._words:  # so does a closed vocabulary
            for text in texts:
                yield self._look_up(text)
            return
        for batch in _batches(texts):
            for encoding in self.backend.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoding.ids, dtype=np.int32)

    def _look_up(self, text: str) -> np.ndarray:
        try:
            return np.array([self._words[word] for word in text.split()], dtype=np.int32)
        except KeyError as problem:
            raise CorpusError(
                f"tokenizer {self.name} has no word {problem}; use bytes or bpe:V for free text."
            ) from None

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of token ids; bytes that make no character become U+FFFD, begin and padding nothing."""
        ids = np.asarray(ids).ravel()
        return self.backend.decode(ids[(ids >= 0) & (ids != self.bos_id)].tolist(), skip_special_tokens=False)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides the ids."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as `AutoTokenizer.from_pretrained(folder)` reads them."""
        write_whole(Path(folder) / "tokenizer.json", lambda part: self.backend.save(str(part)))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": self.bos, "eos_token": self.bos}
        write_json(Path(folder) / "tokenizer_config.json", {**config, "memscape_name": self.name})

    def __repr__(self) -> str:
        return f"<Tokenizer {self.name}: {self.vocab_size:,} tokens, begin token {self.bos_id}>"


def open_tokenizer(spec: str | Path | Tokenizer, training_texts: Iterable[str] | None = None) -> Tokenizer:
    """Return the tokenizer that `spec` names; `bpe:V` is trained on `training_texts`, which nothing else looks at.

    Raises:
        CorpusError: no such tokenizer, too small or too large a vocabulary for the text, or texts missing.
    """
    if isinstance(spec, Tokenizer):
        return spec
    name = str(spec)
    kind, _, rest = name.partition(":")
    if name == "bytes":
        return byte_tokenizer()
    if name == "words":
        return word_tokenizer("words", WORDS, END)
    if kind == "bpe":
        if not rest.isdecimal() or int(rest) < 258:
            raise CorpusError(f"{name!r} names no vocabulary; write bpe:V with V of at least 258, as in bpe:4096.")
        if training_texts is None:
            raise CorpusError(f"{name} must be trained; expected training texts, got none; or load it from its folder.")
        return train_bpe(training_texts, int(rest))
    return load_tokenizer(name)


def byte_tokenizer() -> Tokenizer:
    """Return the tokenizer whose ids 0 to 255 are the bytes of UTF-8 and whose id 256 begins a sequence."""
    return _byte_level("bytes", models.BPE(vocab={name: byte for byte, name in enumerate(_byte_names())}, merges=[]))


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a byte-level BPE of exactly `vocab_size` tokens, begin token included; same texts, same tokenizer."""
    backend = _byte_level("", models.BPE()).backend
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[BEGIN], initial_alphabet=_byte_names(), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(f"bpe:{vocab_size}", backend, BEGIN)
    if tokenizer.vocab_size < vocab_size:
        raise CorpusError(
            f"the training text yields only {tokenizer.vocab_size:,} tokens; expected {vocab_size:,}; "
            f"use bpe:{tokenizer.vocab_size} or more text."
        )
    return tokenizer


def word_tokenizer(name: str, words: Iterable[str], bos: str = BEGIN) -> Tokenizer:
    """Return the tokenizer of a closed vocabulary, words apart by white space; the begin token comes last."""
    vocab = {word: i for i, word in enumerate([*words, bos])}
    backend = Backend(models.WordLevel(vocab))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([bos])
    return Tokenizer(name, backend, bos)


def load_tokenizer(name: str | Path) -> Tokenizer:
    """Return the tokenizer of a folder (`tokenizer.json`, or `vocab.json` and `merges.txt`) or of a Hub name.

    Its begin token is the one it names, else its end token (GPT-2's `<|endoftext|>` is both).
    """
    folder = Path(name)
    if (folder / "tokenizer.json").exists():
        config = read_json(path) if (path := folder / "tokenizer_config.json").exists() else {}
        named = config.get("bos_token") or config.get("eos_token")
        bos = named["content"] if isinstance(named, dict) else named
        backend = Backend.from_file(str(folder / "tokenizer.json"))
        return Tokenizer(config.get("memscape_name", str(name)), backend, bos)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        return _byte_level("gpt2", model, "<|endoftext|>")
    if folder.exists():
        raise CorpusError(f"{folder} holds no tokenizer; expected tokenizer.json, or vocab.json and merges.txt.")
    from transformers import AutoTokenizer

    try:
        ready = AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError) as problem:
        raise CorpusError(
            f"tokenizer {str(name)!r} is neither a folder nor on the Hub or in its cache; expected {SPECS}."
        ) from problem
    return Tokenizer(str(name), ready.backend_tokenizer, ready.bos_token or ready.eos_token)


def _byte_level(name: str, model: models.Model, bos: str = BEGIN) -> Tokenizer:
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([bos])
    return Tokenizer(name, backend, bos)


def _byte_names() -> list[str]:
    """The character for each byte in byte-level vocabularies: itself if it prints, else one above U+00FF."""
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

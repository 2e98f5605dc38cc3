"""Token sequences, in memory or mapped from disk: what is one training set, and the floor of its loss?

A set of sequences is an array (n, seq_len) of token ids without begin tokens. Whoever trains puts the begin token first
and drops the last token: inputs are [BOS, t1 .. t(T-1)], targets t1 .. tT, so every token is predicted and the floor
H(p̂)/T of `theory.floors` is exact. A sequence shorter than seq_len ends in -1, which is no token and no target.

>>> s = Sequences(np.arange(12).reshape(4, 3), np.zeros(4, int))
>>> s.n_tokens, s.first(7).n_tokens, round(s.floor(), 4)
(12, 6, 0.4621)
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer

from memscape.errors import CorpusError, FolderError
from memscape.folder import write_whole
from memscape.theory import floors

PADDING = -1
"""What follows the end of a sequence that is shorter than seq_len."""


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """Token ids and the document each sequence was cut from."""

    tokens: Integer[np.ndarray, "n seq_len"]
    """Unsigned where no sequence is padded, else int32 with -1 after the end; perhaps mapped from disk."""
    document: Integer[np.ndarray, " n"]
    """Index of the document in its corpus: the cluster that intervals resample."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | np.ndarray) -> "Sequences":
        """Return those sequences as a set of their own."""
        return Sequences(self.tokens[rows], self.document[rows])

    def __repr__(self) -> str:
        return f"<Sequences: {len(self):,} of {self.seq_len} tokens>"

    @property
    def seq_len(self) -> int:
        return self.tokens.shape[1]

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """Tokens of each sequence, padding left out."""
        if np.issubdtype(self.tokens.dtype, np.unsignedinteger):
            return np.full(len(self), self.seq_len, dtype=np.int64)
        return (self.tokens >= 0).sum(axis=1, dtype=np.int64)

    @cached_property
    def n_tokens(self) -> int:
        """Tokens in all; each is a target once an epoch."""
        return int(self.lengths.sum())

    def first(self, n_tokens: int) -> "Sequences":
        """Return the longest beginning of the set with at most `n_tokens` tokens: what nests, nested.

        Raises:
            CorpusError: the set is smaller than that, or one sequence is larger.
        """
        if n_tokens > self.n_tokens:
            raise CorpusError(
                f"expected {n_tokens:,} training tokens, the corpus has {self.n_tokens:,} after the held-out sets; "
                "use a longer corpus or a smaller plan."
            )
        n = int(np.searchsorted(np.cumsum(self.lengths), n_tokens, side="right"))
        if n == 0:
            raise CorpusError(f"{n_tokens:,} tokens hold no sequence of {self.seq_len}; ask for more, or cut shorter.")
        return self[:n]

    def floor(self) -> float:
        """Return H(p̂)/T̄ in nats/token: no model has a lower mean loss on this set (theory.floors.token_floor)."""
        if (self.lengths == self.seq_len).all():
            return floors.token_floor(np.asarray(self.tokens))
        return floors.token_floor([row[:n] for row, n in zip(self.tokens, self.lengths, strict=True)])

    def save(self, path: Path) -> None:
        """Write `path`.npy and `path`.document.npy, plain arrays that map straight into memory."""
        write_whole(path.with_name(f"{path.name}.npy"), lambda part: np.save(part, self.tokens, allow_pickle=False))
        write_whole(
            path.with_name(f"{path.name}.document.npy"), lambda part: np.save(part, self.document, allow_pickle=False)
        )

    @classmethod
    def load(cls, path: Path) -> "Sequences":
        """Map what `save` wrote; pages are read when touched, so a set larger than memory is fine."""
        names = [path.with_name(f"{path.name}.npy"), path.with_name(f"{path.name}.document.npy")]
        try:
            return cls(*(np.load(name, mmap_mode="r", allow_pickle=False) for name in names))
        except (OSError, ValueError) as problem:
            raise FolderError(f"{path}.npy cannot be read ({problem}); delete its folder and repeat.") from problem

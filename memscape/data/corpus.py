"""A corpus: which text is this, in which documents, and how much of it is there?

    open_corpus("sample")                  32 excerpts of books, shipped with memscape
    open_corpus("book.txt")                a file, or a folder of them: .txt .jsonl .parquet, also .gz .xz
    open_corpus("hf:roneneldan/TinyStories", limit=10_000_000)
    open_corpus("question-formation")      11,000 lines of McCoy et al.
    open_corpus("random:64")               uniform tokens, for capacity

>>> print(open_corpus("sample"))
sample: 32 documents by 32 authors, 1,299,125 bytes (sha256 34f778a1)
"""

import hashlib
import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from memscape.data.documents import SPECS, Document, pieces, read_documents, records
from memscape.data.question_formation import SHIPPED_LINES, read_lines
from memscape.errors import CorpusError

SAMPLE = Path(__file__).parent / "sample" / "books.jsonl.xz"

STREAM_LIMIT = 100_000_000
"""How many bytes of a streamed data set are read when no limit is given."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents kept apart, and what identifies them."""

    name: str
    """As the user wrote it: `sample`, a path, `hf:...`."""
    documents: tuple[Document, ...]
    kind: Literal["text", "lines", "random"] = "text"
    """Prose to be cut into chunks; lines that are sequences by themselves; or no text at all, uniform tokens."""
    alphabet: int | None = None
    """The number of different tokens of a random corpus."""
    note: str = ""
    """What was done to make documents of it, in words."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the texts in their order, whatever file they came in; of the name, for random tokens."""
        digest = hashlib.sha256()
        for text in (d.text for d in self.documents) if self.documents else [self.name]:
            content = text.encode()
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
        return digest.hexdigest()

    @property
    def n_documents(self) -> int:
        return len(self.documents)

    @cached_property
    def n_bytes(self) -> int:
        """Bytes of UTF-8 text."""
        return sum(d.n_bytes for d in self.documents)

    @property
    def facts(self) -> dict[str, Any]:
        """Name, hash, counts and note, as result files carry them."""
        counts = {"n_documents": self.n_documents, "n_bytes": self.n_bytes}
        return {"name": self.name, "sha256": self.sha256, **counts, "note": self.note}

    def require(self, n_tokens: int) -> "Corpus":
        """Return the corpus if it can hold `n_tokens` tokens, for which it needs as many bytes; else a CorpusError."""
        if self.kind == "random" or self.n_bytes >= n_tokens:
            return self
        raise CorpusError(
            f"{self.name} is too short: expected {n_tokens:,} tokens or more bytes than that, it has {self.n_bytes:,} "
            "bytes; use a longer corpus or a smaller plan."
        )

    def __len__(self) -> int:
        return self.n_documents

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __str__(self) -> str:
        if self.kind == "random":
            return f"{self.name}: uniform tokens out of {self.alphabet:,}, as many as are asked for"
        authors = {d.author for d in self.documents} - {None}
        by = f" by {len(authors):,} authors" if authors else ""
        noun = "lines" if self.kind == "lines" else "documents"
        note = f"; {self.note}" if self.note else ""
        return f"{self.name}: {self.n_documents:,} {noun}{by}, {self.n_bytes:,} bytes (sha256 {self.sha256[:8]}){note}"

    def __repr__(self) -> str:
        return f"<Corpus {self}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(d.title)}</td><td>{html.escape(d.author or '')}</td><td>{d.n_bytes:,}</td></tr>"
            for d in self.documents[:20]
        )
        more = f"<p>and {self.n_documents - 20:,} more</p>" if self.n_documents > 20 else ""
        head = "<tr><th>title</th><th>author</th><th>bytes</th></tr>"
        return f"<p>{html.escape(str(self))}</p><table>{head}{rows}</table>{more}"


def open_corpus(spec: str | Path | Corpus, *, limit: int | None = None) -> Corpus:
    """Return the corpus that `spec` names.

    Args:
        spec: `sample`; a file or folder; `hf:NAME[:config][:split]`, streamed; `question-formation`, or
            `question-formation:FILE` for lines of your own; `random:V`, uniform tokens out of V.
        limit: stop reading after this many bytes of text (100 MB for `hf:`).

    A lone text is cut into at least 16 pieces at blank lines (documents are what intervals resample) and says so.

    Raises:
        CorpusError: nothing to read there, or not text; one line that says what and where.
    """
    if isinstance(spec, Corpus):
        return spec
    name = str(spec)
    if limit is not None and limit < 1:
        raise CorpusError(f"limit={limit} reads nothing; expected a number of bytes above 0.")
    if not name.strip():
        raise CorpusError(f"expected a corpus, got an empty name; write one of: {SPECS}.")
    kind, _, rest = name.partition(":")
    if kind == "random":
        if not (rest.isdecimal() and len(rest) <= 7 and 2 <= int(rest) <= 1 << 20):
            raise CorpusError(
                f"{name!r} names no random corpus; write random:V with 2 to 1,048,576 tokens, as in random:64."
            )
        return Corpus(name, (), "random", int(rest))
    if kind == "question-formation":
        files = [Path(rest)] if rest else SHIPPED_LINES
        lines = [Document(f"{f.name}:{i}", text) for f in files for i, text in enumerate(read_lines(f), 1)]
        ends = accumulate(d.n_bytes for d in lines)
        return Corpus(
            name, tuple(d for d, end in zip(lines, ends, strict=True) if limit is None or end <= limit), "lines"
        )
    if kind == "hf":
        documents = list(_until(_stream(name), limit or STREAM_LIMIT))
        note = f"the first {limit or STREAM_LIMIT:,} bytes of the stream"
    else:
        documents = list(_until(read_documents(SAMPLE if name == "sample" else Path(spec)), limit))
        note = "" if limit is None else f"the first {limit:,} bytes"
    if not documents:
        raise CorpusError(f"{name} holds no text; expected records whose 'text' is not blank.")
    if len(documents) == 1:
        documents = pieces(documents[0].text, documents[0].title)
        note = "; ".join(filter(None, [note, f"one text, cut into {len(documents)} pieces at natural breaks"]))
    return Corpus(name, tuple(documents), note=note)


def _until(documents: Iterable[Document], limit: int | None) -> Iterator[Document]:
    """Pass documents on until `limit` bytes are reached; the last one is cut there."""
    left = limit
    for document in documents:
        if left is None:
            yield document
        elif left > 0:
            yield _opening(document, left)
            left -= document.n_bytes
        else:
            return


def _opening(document: Document, n_bytes: int) -> Document:
    """The first `n_bytes` of a document, never half a character."""
    if document.n_bytes <= n_bytes:
        return document
    return Document(document.title, document.text.encode()[:n_bytes].decode(errors="ignore"), document.author)


def _stream(name: str) -> Iterator[Document]:
    """Stream a data set of the hub, or a local folder in its layout, record by record."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    path, *rest = name.removeprefix("hf:").split(":")
    splits = {"train", "validation", "test"}
    config, split = (rest + [""] * 2)[:2] if len(rest) != 1 or rest[0] not in splits else ("", rest[0])
    if not path or len(rest) > 2:
        raise CorpusError(
            f"{name!r} names no data set; write hf:NAME[:config][:split], as in hf:roneneldan/TinyStories."
        )
    try:
        rows = load_dataset(path, config or None, split=split or "train", streaming=True)
        yield from records(iter(rows), name)
    except (OSError, ValueError, DatasetsError) as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise CorpusError(
            f"{name} cannot be streamed ({reason}); check the name and the network, or give a local file instead."
        ) from problem

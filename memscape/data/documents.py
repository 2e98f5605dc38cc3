"""Documents read from files: what text is there, kept apart by the pieces it naturally has.

>>> [d.title for d in pieces("One.\\n\\nTwo.\\n\\nThree.\\n", "tale", size=6)]
['tale, piece 1', 'tale, piece 2', 'tale, piece 3']
"""

import codecs
import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memscape.errors import CorpusError

SPECS = "sample, FILE, FOLDER, hf:NAME[:config][:split], question-formation[:FILE], random:V"
"""Every form a corpus can be named by, as printed in messages."""

SUFFIXES = (".txt", ".jsonl", ".parquet")
"""What can be read; `.txt` and `.jsonl` also packed, as `.txt.gz` or `.jsonl.xz`."""

PACKED = {".gz": gzip.open, ".xz": lzma.open}

FEWEST_PIECES, MOST_PIECES = 16, 256
"""A lone text is cut into at least 16 pieces, because intervals resample documents, and into no more than 256."""

PIECE_BYTES, SMALLEST_PIECE = 40_000, 1_000
"""The size pieces have where the text is long enough, and the size below which a piece would say little."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text that stands for itself: a book, an article, a line."""

    title: str
    text: str
    author: str | None = None

    @property
    def n_bytes(self) -> int:
        """Length in bytes of UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file, or of every readable file of a folder in the order of their names.

    A `.txt` file is one document; so is a `.jsonl` line or a `.parquet` row, by its field `text`.

    Raises:
        CorpusError: missing, empty, damaged, of unknown suffix, not UTF-8 (names the byte), or without `text`.
    """
    path = Path(path)
    try:
        files, size = _files(path) if path.is_dir() else [], path.stat().st_size
    except OSError as problem:
        missing = isinstance(problem, FileNotFoundError | NotADirectoryError)
        why = "does not exist" if missing else f"cannot be opened ({problem.strerror})"
        expected = f"expected a file or folder of text that you may read, or one of: {SPECS}"
        raise CorpusError(f"{problem.filename or path} {why}; {expected}.") from problem
    if path.is_dir():
        if not files:
            raise CorpusError(f"{path} holds no file to read; expected {_known()}.")
        for file in files:
            yield from read_documents(file)
    elif size == 0:
        raise CorpusError(f"{path} is empty; expected text.")
    elif _suffix(path) == ".parquet":
        yield from _read_parquet(path)
    elif _suffix(path) == ".jsonl":
        yield from _read_jsonl(path)
    elif _suffix(path) == ".txt":
        yield Document(path.name.split(".")[0], read_text(path))
    else:
        raise CorpusError(f"{path} has a suffix memscape does not read; expected {_known()}; rename or convert it.")


def read_text(path: Path) -> str:
    """Return the text of one `.txt` or `.jsonl` file, unpacked; line ends become `\\n`."""
    try:
        with PACKED.get(path.suffix.lower(), open)(path, "rb") as file:
            content = file.read()
    except PermissionError as problem:
        raise CorpusError(f"{path} may not be read ({problem.strerror}); allow it with chmod, or copy it.") from problem
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as problem:
        raise CorpusError(f"{path} cannot be read ({problem}); fetch or pack it again.") from problem
    wide, zero = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)), content.find(0)
    if zero >= 0 and not wide:
        raise CorpusError(f"{path} is not text: byte 0x00 at offset {zero:,}; expected UTF-8 text.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise CorpusError(
            f"{path} is not UTF-8: byte 0x{content[problem.start]:02x} at offset {problem.start:,}; "
            f"convert it, for example with iconv -f {'utf-16' if wide else 'latin1'} -t utf-8."
        ) from problem
    if not text.strip():
        raise CorpusError(f"{path} is empty; expected text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pieces(text: str, title: str, size: float | None = None) -> list[Document]:
    """Return a long text as consecutive documents of about `size` bytes; joined they are the text.

    Cuts fall at blank lines; inside paragraphs larger than a piece at line ends, then at spaces, then anywhere. Without
    `size` there are 16 to 256 pieces, as near to 40 kB as that allows and no smaller than 1 kB.
    """
    n_bytes = Document(title, text).n_bytes
    if size is None:
        size = max(SMALLEST_PIECE, n_bytes / max(FEWEST_PIECES, min(MOST_PIECES, n_bytes // PIECE_BYTES)))
    parts = [text]
    for natural in (r".+?(?:\n\s*\n|\Z)", r".+?(?:\n|\Z)", r".+?(?:\s|\Z)", r".{1,1000}"):
        cut = [re.findall(natural, part, re.DOTALL) if len(part) > size else [part] for part in parts]
        parts = [part for group in cut for part in group]
    found, piece, done = [], [], 0
    for part in parts:
        piece.append(part)
        done += Document("", part).n_bytes
        if done >= (len(found) + 1) * size or done == n_bytes:
            found.append("".join(piece))
            piece = []
    return [Document(f"{title}, piece {i}", part) for i, part in enumerate(found, 1)]


def _read_jsonl(path: Path) -> Iterator[Document]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as problem:
            raise CorpusError(
                f"{path}, line {number} is not JSON ({problem.msg}); expected one object a line."
            ) from problem
        if not isinstance(record, dict):
            raise CorpusError(f"{path}, line {number} is no JSON object; expected one with a 'text' field.")
        yield from records([record], f"{path}, line {number}", number)


def _read_parquet(path: Path) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        names = table.schema_arrow.names
        columns = [c for c in ("title", "name", "author", "text") if c in names]
        if "text" not in columns:
            raise CorpusError(f"{path} has no column 'text'; it has {', '.join(names)}; rename one.")
        first = 1
        for batch in table.iter_batches(batch_size=1024, columns=columns):
            rows = batch.to_pylist()
            yield from records(rows, str(path), first)
            first += len(rows)
    except (pyarrow.ArrowException, OSError) as problem:
        raise CorpusError(
            f"{path} cannot be read as Parquet ({str(problem).splitlines()[0]}); check its permissions, "
            "or fetch it again."
        ) from problem


def records(rows: Iterable[dict], where: str, first: int = 1) -> Iterator[Document]:
    """Yield the documents of records: `text`, if there `title` (or `name`) and `author`; blank texts are skipped."""
    for number, row in enumerate(rows, first):
        text = row.get("text")
        if "text" in row and not isinstance(text, str):
            got = json.dumps(text, default=repr)[:40]
            raise CorpusError(f"{where}: the 'text' of record {number} is {got}; expected words: leave the record out.")
        if not isinstance(text, str):
            raise CorpusError(f"{where} has no 'text' field; it has {', '.join(map(str, row)) or 'none'}; rename one.")
        if text.strip():
            author = row.get("author")
            title = row.get("title") or row.get("name") or f"document {number}"
            whole = text.encode(errors="replace").decode()  # JSON may hold half a surrogate pair
            yield Document(str(title), whole, None if author is None else str(author))


def _files(folder: Path) -> list[Path]:
    """Return the readable files of a folder in the order of their names; a part that may not be searched is refused."""

    def refuse(problem: OSError):
        raise problem

    every = (Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names)
    return sorted(f for f in every if _suffix(f) in SUFFIXES and f.name[0] != "." and f.is_file())


def _suffix(path: Path) -> str:
    """The suffix that says the format, without the packing, in small letters."""
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()


def _known() -> str:
    return f"{', '.join(SUFFIXES)} (.txt and .jsonl also packed: {', '.join(PACKED)})"

"""Reading files: documents stay apart, and whatever is no text is refused in one line that says where."""

import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscape.data.documents import Document, pieces, read_documents, read_text
from memscape.errors import CorpusError

RECORDS = [{"title": "One", "author": "A", "text": "alpha"}, {"name": "Two", "text": "beta"}, {"text": "gamma"}]
EXPECTED = [Document("One", "alpha", "A"), Document("Two", "beta"), Document("document 3", "gamma")]


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
def test_jsonl_plain_or_packed_gives_the_same_documents(tmp_path, packing):
    """Packing is no part of the content."""
    path = tmp_path / f"books.jsonl{packing}"
    opener = {"": open, ".gz": gzip.open, ".xz": lzma.open}[packing]
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, RECORDS)) + "\n\n")
    assert list(read_documents(path)) == EXPECTED


def test_parquet_gives_the_same_documents(tmp_path):
    """A column is a field; an empty title falls back to the row's number."""
    columns = {name: [row.get(name) for row in RECORDS] for name in ("title", "name", "author", "text")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "books.parquet")
    assert list(read_documents(tmp_path / "books.parquet")) == EXPECTED


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    """The same folder is the same corpus on every machine; hidden files and unknown suffixes are left out."""
    (tmp_path / "sub").mkdir()
    for name, text in {
        "b.txt": "two",
        "a.txt": "one",
        ".hidden.txt": "no",
        "sub/c.txt": "three",
        "d.png": "no",
    }.items():
        (tmp_path / name).write_text(text)
    assert [d.text for d in read_documents(tmp_path)] == ["one", "two", "three"]


def test_line_ends_and_byte_order_marks_leave_no_trace(tmp_path):
    """A file written on another system holds the same text."""
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(tmp_path / "dos.txt") == "one\ntwo\nthree\n"


def test_half_a_surrogate_pair_does_not_spoil_a_corpus(tmp_path):
    """JSON can spell what UTF-8 cannot; the rest of the document is kept."""
    (tmp_path / "a.jsonl").write_text('{"text": "caf\\u00e9 \\ud83d end"}\n')
    (document,) = read_documents(tmp_path / "a.jsonl")
    assert document.text == "café ? end"
    assert document.n_bytes == 11


def write(folder, name, content: bytes):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "is empty"),
        ("blank.txt", b" \n\n ", "is empty"),
        ("binary.txt", b"text\x00more", "byte 0x00 at offset 4"),
        ("latin.txt", b"caf\xe9 noir", "not UTF-8: byte 0xe9 at offset 3"),
        ("wide.txt", "hello".encode("utf-16"), "byte 0xff at offset 0; convert it, .* iconv -f utf-16"),
        ("book.pdf", b"%PDF", "expected .txt, .jsonl, .parquet"),
        ("damaged.txt.gz", b"not gzip", "cannot be read"),
        ("damaged.txt.xz", b"not xz", "cannot be read"),
        ("cut.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:-12], "cannot be read"),
        ("damaged.parquet", b"not parquet", "cannot be read as Parquet"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("list.jsonl", b"[1]", "line 1 is no JSON object"),
        ("other.jsonl", b'{"body": "a"}', "no 'text' field; it has body"),
        ("null.jsonl", b'{"text": "a"}\n{"text": null}', "line 2: the 'text' of record 2 is null; expected words"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, name, content, message):
    """Expected, got, next move: the message names the file and the place."""
    with pytest.raises(CorpusError, match=message) as raised:
        list(read_documents(write(tmp_path, name, content)))
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_files_and_folders_without_text_are_named(tmp_path):
    """A mistyped name lists every form that a corpus may have."""
    with pytest.raises(CorpusError, match=r"smaple does not exist.*sample, FILE"):
        list(read_documents(tmp_path / "smaple"))
    with pytest.raises(CorpusError, match="holds no file to read"):
        list(read_documents(tmp_path))
    with pytest.raises(CorpusError, match="File name too long"):
        list(read_documents(tmp_path / ("x" * 300)))


def test_a_suffix_in_capitals_is_the_same_suffix(tmp_path):
    """Other systems write BOOK.TXT; alone and in a folder it is read, packed or not."""
    write(tmp_path, "A.TXT", b"one")
    write(tmp_path, "B.TXT.GZ", gzip.compress(b"two"))
    write(tmp_path, "C.JSONL", b'{"text": "three"}')
    assert [d.text for d in read_documents(tmp_path)] == ["one", "two", "three"]
    assert [d.text for d in read_documents(tmp_path / "B.TXT.GZ")] == ["two"]


@pytest.mark.parametrize(
    ("refuses", "target", "message"),
    [
        ("memscape.data.documents.open", "book.txt", "may not be read .Permission denied.; allow it with chmod"),
        ("os.scandir", "", "cannot be opened .Permission denied.; expected a file or folder of text that you may"),
        ("pathlib.Path.stat", "book.txt", "cannot be opened .Permission denied."),
    ],
)
def test_what_may_not_be_read_says_so(tmp_path, monkeypatch, refuses, target, message):
    """Not 'fetch it again', and no folder passed over in silence. Root may read everything: the refusal is planted."""

    def refused(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    path = write(tmp_path, "book.txt", b"words") if target else tmp_path
    monkeypatch.setattr(refuses, refused, raising=False)
    with pytest.raises(CorpusError, match=message) as raised:
        list(read_documents(path))
    monkeypatch.undo()
    assert "\n" not in str(raised.value)


def test_parquet_without_a_text_column_lists_what_it_has(tmp_path):
    """The user sees which column to rename."""
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"], "id": [1]}), tmp_path / "t.parquet")
    with pytest.raises(CorpusError, match="no column 'text'; it has body, id"):
        list(read_documents(tmp_path / "t.parquet"))


@settings(deadline=None)
@given(st.text(alphabet="ab \n\n\n.é漢", min_size=1, max_size=3000), st.integers(1, 400))
def test_pieces_joined_are_the_text(text, size):
    """Cutting loses and changes nothing, wherever the text has breaks."""
    assert "".join(d.text for d in pieces(text, "t", size)) == text


@settings(deadline=None)
@given(st.integers(30, 400), st.sampled_from(["\n\n", "\n", " ", ""]))
def test_a_long_text_makes_sixteen_pieces_of_like_size(n_sections, separator):
    """Intervals need documents: 16 or more of them, none many times the others, whatever separates the text."""
    text = separator.join(["word" * 150] * n_sections)
    found = pieces(text, "t")
    sizes = [d.n_bytes for d in found]
    assert len(found) >= 15
    assert max(sizes) < 3 * sum(sizes) / len(sizes)


def test_pieces_end_at_blank_lines_where_there_are_any():
    """A paragraph stays whole when it is smaller than a piece."""
    paragraphs = [f"paragraph {i} " + "x" * 200 + "\n\n" for i in range(200)]
    ends = [d.text[-2:] for d in pieces("".join(paragraphs), "t")]
    assert set(ends) == {"\n\n"}

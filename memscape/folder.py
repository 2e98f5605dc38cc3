"""Result folders: whole files or none, one plan a folder, one writer at a time.

A command that is killed at any moment leaves either the old file or the new one, never a part of one, because every
file is written beside its place and renamed onto it. A folder belongs to the plan that began it.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from memscape.errors import FolderError


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` on a temporary path beside `path`, flush it to disk, then rename it onto `path`."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
    except OSError as problem:
        raise _unwritable(path, problem) from problem
    part = Path(name)
    try:
        write(part)
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.chmod(0o644)
        part.replace(path)
    except OSError as problem:
        raise _unwritable(path, problem) from problem
    except Exception as problem:  # safetensors reports a full disk with an exception of its own
        if found := re.search(r"os error (\d+)", str(problem)):
            raise _unwritable(path, OSError(int(found[1]), os.strerror(int(found[1])))) from problem
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write `content` (JSON values, numpy numbers, pydantic models) as a whole file, keys in the order given."""
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read one JSON file of a result folder; a damaged or missing one is an error that names the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise FolderError(
            f"expected a result file at {path}, found none; run the command that makes it first."
        ) from problem
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise FolderError(f"{path} cannot be read as JSON ({problem}); delete it and repeat the command.") from problem


def claim(path: Path, identity: dict[str, Any]) -> bool:
    """Make `path` the identity file of its folder; return True if it was there already and says the same.

    A folder that was begun with another identity is refused: the message names the first field that differs.
    """
    path = Path(path)
    identity = json.loads(json.dumps(plain(identity), allow_nan=False))
    if not path.exists():
        write_json(path, identity)
        return False
    found = read_json(path)
    if found == identity:
        return True
    field, theirs, ours = _difference(found, identity)
    raise FolderError(
        f"{path.parent} belongs to another plan: its {field} is {_short(theirs)}, this command's is {_short(ours)}; "
        "choose another --out, or repeat the command that began it."
    )


_held: set[Path] = set()
"""Folders that this process writes to at the moment."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Hold `folder` for one writer: it is made if need be, and a second memscape process is refused in one line.

    A command that calls another on its own folder holds it already, and passes.
    """
    folder = Path(folder)
    if folder.resolve() in _held:
        yield folder
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as problem:
        raise _unwritable(folder, problem) from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise FolderError(f"another memscape process is writing to {folder}; wait for it or stop it.") from problem
        _held.add(folder.resolve())
        try:
            yield folder
        finally:
            _held.discard(folder.resolve())


def _difference(one: Any, two: Any, name: str = "content") -> tuple[str, Any, Any]:
    """Return the name and the two values of the first leaf in which two JSON values differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        key = next(k for k in {**two, **one} if one.get(k, _difference) != two.get(k, _difference))
        return _difference(one.get(key), two.get(key), key)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return _difference(*next((a, b) for a, b in zip(one, two, strict=True) if a != b), name)
    return name, one, two


def _unwritable(path: Path, problem: OSError) -> FolderError:
    # numpy tells a short write by its counts alone, without an error number.
    if problem.errno in (errno.ENOSPC, errno.EDQUOT) or "requested and" in str(problem):
        return FolderError(f"the disk is full: {path} was not written; free some space and repeat the command.")
    return FolderError(f"cannot write {path} ({problem.strerror or problem}); choose an --out folder you may write to.")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def plain(content: Any) -> Any:
    """Turn models, numpy values and paths into JSON values; a number that is not finite becomes null."""
    if hasattr(content, "model_dump"):
        return plain(content.model_dump(mode="json"))
    if isinstance(content, dict):
        return {str(k): plain(v) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [plain(v) for v in content]
    if hasattr(content, "tolist"):
        return plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Path):
        return str(content)
    return content

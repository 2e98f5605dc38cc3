"""Sweeps whose folder lies on an fsspec URL: s3://bucket/book, gs://..., file:///mnt/shared/book.

    sweep(plan, "s3://bucket/book", engine="ray")

Every process works in a folder of its own and exchanges files with the URL: the plan and a pack's checkpoint come in,
its checkpoint goes out now and then, its runs' folders at the end, each result.json after everything else of its run.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import fsspec

from memscape.errors import FolderError

PUSH_SECONDS = 60.0
"""How often a pack's checkpoint is sent while it trains."""


def is_url(out: str | Path) -> bool:
    """Return whether `out` is a URL rather than a path."""
    return "://" in str(out)


class Mirror:
    """A folder of this process and the URL it is kept equal to."""

    def __init__(self, url: str):
        try:
            self.files, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as problem:
            raise FolderError(
                f"{url} cannot be reached ({problem}); install its fsspec package or give a path."
            ) from problem
        self.url, self.folder = url, Path(tempfile.mkdtemp(prefix="memscape-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self._pushed: dict[Path, tuple[int, int]] = {}
        self._last = time.monotonic()

    def pull(self, *patterns: str) -> None:
        """Fetch the files that match and are not here yet; plan.json is always fetched anew."""
        with self._told("read"):
            for remote in (found for pattern in patterns for found in self.files.glob(f"{self.root}/{pattern}")):
                path = self.folder / os.path.relpath(str(remote), self.root)
                if not self.files.isdir(remote) and (path.name == "plan.json" or not path.exists()):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self.files.get_file(remote, str(path))
                    self._pushed[path] = _state(path)

    def push(self, *patterns: str) -> None:
        """Send the files that match and changed since; result.json last."""
        found = [path for pattern in patterns for path in self.folder.glob(pattern) if path.name[0] != "."]
        with self._told("written"):
            for path in sorted(filter(Path.is_file, found), key=lambda p: p.name == "result.json"):
                if self._pushed.get(path) != _state(path):
                    remote = f"{self.root}/{path.relative_to(self.folder).as_posix()}"
                    self.files.makedirs(os.path.dirname(remote), exist_ok=True)
                    self.files.put_file(str(path), remote)
                    self._pushed[path] = _state(path)
        self._last = time.monotonic()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise FolderError(
                f"{self.url} cannot be {what} ({problem}); check the address and your rights."
            ) from problem

    @property
    def late(self) -> bool:
        """Whether the last push is long ago."""
        return time.monotonic() - self._last > PUSH_SECONDS


@lru_cache(maxsize=4)
def mirror_of(url: str) -> Mirror:
    """Return this process's mirror of a URL: token files made for one pack serve the next."""
    return Mirror(url)


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size

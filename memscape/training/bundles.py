"""One small archive of everything a folder holds except weights: what travels between machines.

bundle("runs/book")                       runs/book.tar.gz without weights
bundle("runs/book", weights="*-s0")       with the weights of the runs that match
"""

import fnmatch
import tarfile
from pathlib import Path

from memscape.errors import FolderError
from memscape.folder import write_whole

LEFT_OUT = ("*.safetensors", "progress.json", ".*")
"""Weights and checkpoints, what packs at work write, locks and temporary files."""


def bundle(folder: str | Path, weights: str | None = None) -> Path:
    """Return the path of `folder`.tar.gz, written beside the folder: all results, no weights, no token files.

    Unpacked elsewhere it is a folder of results like any other: `sweep` goes on there with the runs that are left.

    Args:
        weights: keep the weights of runs whose id matches this pattern (`*`, `gpt2-d64*`).

    Raises:
        FolderError: no such folder, nothing in it, or the pattern matches no weights.
    """
    folder = Path(folder) if Path(folder).name else Path(folder).resolve()  # `.` has no name
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder; expected one that a command has filled.")
    kept = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _left_out(p.relative_to(folder))]
    if weights is not None:
        models = [p for p in sorted(folder.glob("runs/*/model.safetensors")) if fnmatch.fnmatch(p.parent.name, weights)]
        if not models:
            raise FolderError(f"weights={weights!r} matches no run of {folder}; try '*'.")
        kept = sorted({*kept, *models})
    if not kept:
        raise FolderError(f"{folder} holds no results; run the command that fills it first.")

    def pack(part: Path) -> None:
        with tarfile.open(part, "w:gz") as archive:
            for path in kept:
                archive.add(path, arcname=str(Path(folder.resolve().name) / path.relative_to(folder)))

    return write_whole(folder.with_name(f"{folder.resolve().name}.tar.gz"), pack)


def _left_out(path: Path) -> bool:
    return "tokens" in path.parts or any(fnmatch.fnmatch(path.name, pattern) for pattern in LEFT_OUT)

"""How long did each step of a folder take? `timing.json`, the only file of a result that depends on the clock.

with timed(out, "train"):
    ...                       # killed and begun again: the seconds of all calls add up
"""

import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from memscape.errors import FolderError
from memscape.folder import read_json, write_json


@contextlib.contextmanager
def timed(out: Path, step: str, device: str | None = None) -> Iterator[None]:
    """Add the seconds that a step takes to `out/timing.json`, however it ends; `device` as the user named it."""
    start = time.perf_counter()
    try:
        yield
    finally:
        spent = seconds(out)
        spent[step] = round(spent.get(step, 0) + time.perf_counter() - start, 1)
        told = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        torch = sys.modules.get("torch")
        if device != "cpu" and torch is not None and torch.cuda.is_available():
            told["gpu"] = torch.cuda.get_device_name()
        write_json(out / "timing.json", {"seconds": spent, **told})


def seconds(out: Path) -> dict[str, float]:
    """Return the seconds of each step so far; times are no results, so a damaged file is begun again."""
    try:
        return dict(read_json(out / "timing.json")["seconds"])
    except (FolderError, KeyError, TypeError, ValueError):
        return {}


def machine(out: Path) -> str:
    """Return what the folder was made on: the GPU, else the number of cores."""
    told = read_json(out / "timing.json")
    return told.get("gpu") or f"{told['cores']} cores"

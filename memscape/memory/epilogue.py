"""How does the compiled half of the CPU search (epilogue.cpp) come into this process?

It is built once a machine with the C++ compiler that is there, kept in the user's cache, and called through ctypes.
Without a compiler, or with MEMSCAPE_EAGER=1, `library()` is None and `cascade` does the same work in PyTorch.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC", "-pthread"]


def _struct(name: str, fields: str) -> type[ctypes.Structure]:
    """Return a ctypes structure from `kind name name; ...`, the kinds being long, float and pointer (*)."""
    kinds = {"long": ctypes.c_int64, "float": ctypes.c_float, "*": ctypes.c_void_p}
    listed = [(n, kinds[kind]) for kind, *names in map(str.split, fields.split(";")) for n in names]
    return type(name, (ctypes.Structure,), {"_fields_": listed})


Rows = _struct(
    "Rows",
    "long n capacity k threads; float beta gap spill; * norm residue group self reach level sum heat ceiling"
    " count spilled place near error lower upper",
)
Tile = _struct("Tile", "long n origin; * product norm residue floor group")


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled epilogue, building it if this machine has not built this source yet; None if it cannot."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if os.environ.get("MEMSCAPE_EAGER") == "1" or not compiler or os.name != "posix":
        return None
    key = hashlib.sha256("\0".join([SOURCE.read_text(), compiler, *FLAGS, _processor()]).encode()).hexdigest()[:16]
    for folder in (
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "memscape",
        Path(tempfile.mkdtemp()),
    ):
        built = folder / f"epilogue-{key}.so"
        try:
            if not built.exists():
                folder.mkdir(parents=True, exist_ok=True)
                part = built.with_suffix(f".{os.getpid()}")
                subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(part)], check=True, capture_output=True)
                part.replace(built)
            loaded = ctypes.CDLL(str(built))
            loaded.scan.argtypes = [ctypes.POINTER(Rows), ctypes.POINTER(Tile), ctypes.c_int]
            pointer = ctypes.c_void_p
            loaded.rescore.argtypes = [ctypes.POINTER(Rows), pointer, pointer, ctypes.c_int64, ctypes.c_int, pointer]
            return loaded
        except (OSError, subprocess.CalledProcessError):
            continue
    return None


def _processor() -> str:
    """Return what -march=native depends on: a cache on a shared home may serve different machines."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = (
        next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
        if cpuinfo.exists()
        else ""
    )
    return platform.machine() + flags

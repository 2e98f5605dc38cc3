"""How does the compiled pass go over the patterns, each tile of products finished while it is in the cache?

epilogue.cpp is built once a machine with the C++ compiler that is there, kept in the user's cache, and called through
ctypes. Without a compiler, or with MEMSCAPE_EAGER=1, `library()` is None and `eager` does the same work in PyTorch.
"""

import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from memscape.memory.pairs import Pairs
from memscape.memory.rounding import BFLOAT16, Asked, Level, Rounded, Sums, answer
from memscape.memory.union import Neighbours

TILE, BLOCK = 4096, 1024
"""Patterns a tile and queries a product: 8 MB of bfloat16, which stays in the cache."""
POOL = 16
"""Candidates kept at least where an energy is asked for: they carry most of it, exactly."""
SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC", "-pthread"]


def _struct(name: str, fields: str) -> type[ctypes.Structure]:
    """Return a ctypes structure from `kind name name; ...`, the kinds being long, float and pointer (*)."""
    kinds = {"long": ctypes.c_int64, "float": ctypes.c_float, "*": ctypes.c_void_p}
    listed = [(n, kinds[kind]) for kind, *names in map(str.split, fields.split(";")) for n in names]
    return type(name, (ctypes.Structure,), {"_fields_": listed})


Rows = _struct(
    "Rows",
    "long n capacity k threads; float beta gap spill negligible; * norm residue group self reach level sum ceiling"
    " count spilled place near error lower upper",
)
Tile = _struct("Tile", "long n origin; float longest lost; * product norm residue floor group")


def compiled(level: Level, pairs: Pairs, asked: Asked) -> tuple[Neighbours, Tensor]:
    """Return the answer of one pass at one level, and which rows it settles."""
    built = library()
    assert built is not None
    n_queries, width = pairs.queries.shape
    k, beta = asked.k if asked.beta is None else max(asked.k, POOL), asked.beta
    capacity = 88 + 4 * k
    centre = pairs.centre()
    queries = _rounded(level, pairs.queries, centre)
    state = {
        "reach": torch.full((n_queries,), math.inf),
        "level": torch.full((n_queries,), math.inf),
        "sum": torch.zeros(n_queries, dtype=torch.float64),
        "ceiling": torch.zeros(n_queries, dtype=torch.float64),
        "count": torch.zeros(n_queries, dtype=torch.int32),
        "spilled": torch.zeros(n_queries, dtype=torch.bool),
        "place": torch.empty(n_queries, capacity, dtype=torch.int64),
        **{name: torch.empty(n_queries, capacity) for name in ("near", "error", "lower", "upper")},
        "norm": queries.norm,
        "residue": queries.residue,
        "group": None if pairs.query_groups is None else pairs.query_groups.long(),
        "self": None if pairs.self_index is None else pairs.self_index.long(),
    }
    groups = None if pairs.pattern_groups is None else pairs.pattern_groups.long()
    negligible = 16 + math.log(len(pairs.patterns))  # what is left out is together under exp(-16) of the sum
    spill = level.spill if level.stored != level.summed else 0.0

    def rows(start: int, stop: int) -> ctypes.Structure:
        chosen = {name: _pointer(None if v is None else v[start:stop]) for name, v in state.items()}
        return Rows(
            n=stop - start, capacity=capacity, k=k, threads=torch.get_num_threads(),
            beta=beta or 0.0, gap=level.gap(width), spill=spill, negligible=negligible, **chosen,
        )  # fmt: skip

    spans = [(a, min(n_queries, a + BLOCK)) for a in range(0, n_queries, BLOCK)]
    blocks = [(queries.stored[a:b], rows(a, b)) for a, b in spans]
    buffer = torch.empty(BLOCK * TILE, dtype=level.stored)  # one for all: fresh pages would cost a twentieth
    for origin in range(0, len(pairs.patterns), TILE):
        tile = _rounded(level, pairs.patterns[origin : origin + TILE], centre)
        group = None if groups is None else groups[origin : origin + TILE]
        floor = (1 - level.gap(width)) * tile.norm - tile.residue.square()
        longest, lost = float(tile.norm.max()), float(tile.residue.max())
        for stored, block in blocks:
            product = buffer[: len(stored) * len(floor)].view(len(stored), len(floor))
            torch.mm(stored, tile.stored.mT, out=product)
            view = Tile(
                n=product.shape[1], origin=origin, longest=longest, lost=lost, product=_pointer(product),
                norm=_pointer(tile.norm), residue=_pointer(tile.residue), floor=_pointer(floor), group=_pointer(group),
            )  # fmt: skip
            built.scan(ctypes.byref(block), ctypes.byref(view), int(level.stored != level.summed))

    distance = torch.full((n_queries, capacity), math.inf, dtype=torch.float64)
    plain = pairs.queries.dtype != torch.float64 and pairs.patterns.dtype in (torch.float32, torch.bfloat16)
    patterns, exact = pairs.patterns.contiguous(), pairs.queries.float().contiguous()
    built.rescore(
        ctypes.byref(rows(0, n_queries)),_pointer(exact), _pointer(patterns) if plain else None,
        width, int(patterns.dtype == torch.bfloat16), _pointer(distance),
    )  # fmt: skip
    most = max(k, int(state["count"].max()))
    distance, index = distance[:, :most], state["place"][:, :most]
    index = torch.where(torch.arange(most) < state["count"][:, None], index, -1)
    if not plain:
        distance = pairs.distances(index)
    norm = queries.norm.double()
    near = state["near"][:, :most].double() + norm[:, None]
    sums = Sums(state["level"].double() + norm, state["sum"], state["ceiling"])
    return answer(asked, distance, index, near, sums, ~state["spilled"])


def _rounded(level: Level, vectors: Tensor, centre: Tensor) -> Rounded:
    """Return what `Rounded.at` does, in one pass where vectors go from float32 or bfloat16 to bfloat16."""
    built = library()
    if level is not BFLOAT16 or vectors.dtype not in (torch.float32, torch.bfloat16) or built is None:
        return Rounded.at(level, vectors, centre)
    vectors, n = vectors.contiguous(), len(vectors)
    stored, (norm, residue) = torch.empty_like(vectors, dtype=torch.bfloat16), torch.empty(2, n).unbind()
    built.round_rows(
        _pointer(vectors), _pointer(centre), n, vectors.shape[1], int(vectors.dtype == torch.bfloat16),
        torch.get_num_threads(), _pointer(stored), _pointer(norm), _pointer(residue),
    )  # fmt: skip
    return Rounded(stored, norm, residue)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


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
            long, short = ctypes.c_int64, ctypes.c_int
            loaded.rescore.argtypes = [ctypes.POINTER(Rows), pointer, pointer, long, short, pointer]
            loaded.round_rows.argtypes = [pointer, pointer, long, long, short, long, pointer, pointer, pointer]
            return loaded
        except (OSError, subprocess.CalledProcessError):
            continue
    return None


def _processor() -> str:
    """Return what -march=native depends on: a cache on a shared home may serve different machines."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return platform.machine() + next((line for line in lines if line.startswith("flags")), "")

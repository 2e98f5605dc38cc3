"""How are more patterns than memory holds kept on disk, and brought past a search block by block?

A folder of safetensors files, each one block of rows. Opening it reads headers only.

>>> bank = Shards.write("bank", torch.randn(1_000_000, 64).split(100_000))
>>> bank.shape
(1000000, 64)
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from memscape.errors import FolderError, ShapeError
from memscape.folder import write_whole


class Shards:
    """Patterns on disk, one safetensors file a block, in the order of their names."""

    def __init__(self, folder: str | Path):
        """Open a folder; raises FolderError if it holds no shards, ShapeError if their widths differ."""
        self.folder = Path(folder)
        self.files = sorted(self.folder.glob("patterns-*.safetensors"))
        if not self.files:
            raise FolderError(f"expected patterns-*.safetensors in {folder}, found none; Shards.write() makes them.")
        shapes, dtypes = [], set()
        for file in self.files:
            with safe_open(file, "pt") as opened:
                piece = opened.get_slice("patterns")
                shapes.append(tuple(piece.get_shape()))
                dtypes.add(str(piece.get_dtype()))
        if len({width for _, width in shapes}) > 1 or len(dtypes) > 1:
            raise ShapeError(f"expected shards of one width and type in {folder}, got {sorted(set(shapes))} {dtypes}.")
        self.counts = [rows for rows, _ in shapes]
        self.shape = (sum(self.counts), shapes[0][1])

    def __len__(self) -> int:
        return self.shape[0]

    @classmethod
    def write(cls, folder: str | Path, blocks: Iterable[Tensor]) -> "Shards":
        """Write blocks of patterns (rows, D), each as a whole file, and open them."""
        folder = Path(folder)
        old = set(folder.glob("patterns-*.safetensors"))
        for number, block in enumerate(blocks):
            tensors = {"patterns": block.contiguous()}
            path = folder / f"patterns-{number:05d}.safetensors"
            write_whole(path, lambda part, tensors=tensors: save_file(tensors, part))
            old.discard(path)
        for path in old:
            path.unlink()
        return cls(folder)

    def __iter__(self) -> Iterator[tuple[int, Float[Tensor, "N D"]]]:
        """Yield (index of its first pattern, block), one block in memory at a time."""
        start = 0
        for file, rows in zip(self.files, self.counts, strict=True):
            yield start, load_file(file)["patterns"]
            start += rows

    def rows(self, index: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        """Return chosen patterns, reading only the shards that hold them."""
        out: Tensor | None = None
        start = 0
        for file, rows in zip(self.files, self.counts, strict=True):
            inside = (index >= start) & (index < start + rows)
            if inside.any():
                block = load_file(file)["patterns"]
                out = block.new_zeros(len(index), self.shape[1]) if out is None else out
                out[inside] = block[index[inside] - start]
            start += rows
        if out is None or bool(((index < 0) | (index >= start)).any()):
            raise ShapeError(f"expected indices from 0 to {start - 1}, got {index.min()} to {index.max()}.")
        return out


def passing(
    patterns: Float[Tensor, "M D"] | Shards, device: torch.device, megabytes: int = 128
) -> Iterator[tuple[int, Float[Tensor, "N D"]]]:
    """Yield (start, block on `device`); a GPU copies one block while it works on another (from pinned memory)."""
    if isinstance(patterns, Shards):
        blocks = iter(patterns)
    else:
        step = max(1, megabytes * 2**20 // max(1, patterns.shape[1] * patterns.element_size()))
        blocks = ((start, patterns[start : start + step]) for start in range(0, len(patterns), step))
    if device.type != "cuda":
        yield from ((start, block.to(device)) for start, block in blocks)
        return
    aside, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    places: list[Tensor] = []  # two, in turn: one is filled while the other is searched
    waiting: tuple[int, Tensor] | None = None
    for number, (start, block) in enumerate(blocks):
        if number < 2 or len(block) > len(places[number % 2]):
            fresh = torch.empty(block.shape, dtype=block.dtype, device=device)
            places[number % 2 :] = [fresh, *places[number % 2 + 1 :]]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            coming = places[number % 2][: len(block)].copy_(block, non_blocking=True)
        if waiting is not None:
            yield waiting
        here.wait_stream(aside)
        waiting = (start, coming)
    if waiting is not None:
        yield waiting

"""A pack's state on disk: weights, moments, counters and history in one safetensors file with a checksum.

A checkpoint that is cut off, damaged or of another pack is refused with one sentence, and the pack starts over.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memscape.errors import FolderError
from memscape.folder import write_whole


def save(path: Path, tensors: dict[str, Tensor], identity: Sequence[str]) -> None:
    """Write `tensors` as one whole file that belongs to `identity` (the pack's run ids, in order)."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    notes = {"identity": json.dumps(list(identity)), "crc32": json.dumps(_checksums(tensors))}
    write_whole(path, lambda part: save_file(tensors, part, metadata=notes))


def load(path: Path, identity: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors that `save` wrote.

    Raises:
        FolderError: damaged, or of another pack; says which.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        belongs, sums = json.loads(notes["identity"]), json.loads(notes["crc32"])
    except (SafetensorError, OSError, KeyError, ValueError) as problem:
        raise FolderError(f"checkpoint {path} is damaged ({problem}); its pack starts over.") from problem
    if belongs != list(identity):
        raise FolderError(f"checkpoint {path} is of other runs ({', '.join(belongs[:3])}, ...); its pack starts over.")
    if sums != _checksums(tensors):
        raise FolderError(f"checkpoint {path} is damaged (its checksum differs); its pack starts over.")
    return tensors


def _checksums(tensors: dict[str, Tensor]) -> dict[str, int]:
    return {
        name: zlib.crc32(tensor.flatten().view(torch.uint8).numpy().tobytes())
        for name, tensor in sorted(tensors.items())
    }

"""Where a pack's sequences wait: on its device if they fit there, else mapped from disk and read ahead by a thread.

pool = Pool([split.train for split in splits], device)
pool[rows]                      (..., T) token ids on the device
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from memscape.data import Sequences

SHARE = 0.25
"""Largest share of a device's free memory that sequences may take; a larger pool stays on disk."""


class Pool:
    """Several sets of sequences, one after another; equal sets are kept once."""

    def __init__(self, sets: Sequence[Sequences], device: torch.device, resident: bool | None = None):
        """`sets` holds one set a member; `resident` forces the choice between device and disk."""
        self.device, self.seq_len = device, sets[0].seq_len
        own = list({id(s): s for s in sets}.values())
        ends = np.cumsum([0, *map(len, own)])
        starts = {id(s): int(start) for s, start in zip(own, ends, strict=False)}
        self.offsets = [starts[id(s)] for s in sets]
        """Where each member's set begins."""
        clusters = np.cumsum([0, *(int(s.document.max(initial=-1)) + 1 for s in own)])
        documents = [s.document + first for s, first in zip(own, clusters, strict=False)]
        self.documents = torch.from_numpy(np.concatenate(documents).astype(np.int64)).to(device)
        """(M,) the document of each sequence: the cluster that its loss belongs to."""
        largest = max(int(s.tokens.max(initial=0)) if len(s) < 1 << 20 else 1 << 16 for s in own)
        kind = np.dtype(np.int16 if largest < 2**15 else np.int32)
        size = int(ends[-1]) * self.seq_len * kind.itemsize
        self.resident = fits(size, device) if resident is None else resident
        self._own, self._starts = own, ends[:-1]
        self._tokens = torch.empty(0)
        if self.resident:
            tokens = np.concatenate([np.asarray(s.tokens) for s in own]).astype(kind)
            self._tokens = torch.from_numpy(tokens).to(device)
        self._reader = None if self.resident else ThreadPoolExecutor(1)

    def __getitem__(self, rows: Int[Tensor, "*n"]) -> Int[Tensor, "*n T"]:
        """Return the sequences of those rows, -1 where they are padded."""
        if self.resident:
            return self._tokens[rows].long()
        return self._read(rows.cpu().numpy()).to(self.device)

    def ahead(self, steps: Int[Tensor, "S P B"]) -> list["Future[Tensor]"]:
        """Begin to read the rows of many steps in their order; each future holds one step's sequences."""
        reader = self._reader or ThreadPoolExecutor(1)
        return [reader.submit(self._read, rows) for rows in steps.cpu().numpy()]

    def _read(self, rows: np.ndarray) -> Tensor:
        flat = rows.ravel()
        which = np.searchsorted(self._starts, flat, side="right") - 1
        tokens = np.empty((len(flat), self.seq_len), dtype=np.int64)
        for i in np.unique(which):
            mine = which == i
            tokens[mine] = self._own[i].tokens[flat[mine] - self._starts[i]]
        found = torch.from_numpy(tokens.reshape(*rows.shape, -1))
        return found.pin_memory() if self.device.type == "cuda" else found


def fits(size: int, device: torch.device) -> bool:
    """Return whether `size` bytes may stay on the device."""
    return device.type != "cuda" or size <= SHARE * torch.cuda.mem_get_info(device)[0]

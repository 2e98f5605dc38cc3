"""How do I store patterns, recall them from a damaged cue, and read the energy?

>>> memory = Memory(torch.eye(4), energy="distance", beta=8.0)
>>> memory.recall(torch.tensor([0.9, 0.2, 0.0, 0.1])).outcome
'The state stood still within 3 steps, all at a stored pattern.'
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from memscape.errors import FolderError, ShapeError, unknown
from memscape.folder import write_whole
from memscape.memory import energies, separation
from memscape.memory.neighbours import Neighbours, search
from memscape.memory.retrieval import BINARY, CONTINUOUS, Retrieval, refuse_beta, retrieve
from memscape.memory.shards import Shards

Rows = Num[Tensor, "M D"] | Num[np.ndarray, "M D"]
Row = Num[Tensor, " D"] | Num[np.ndarray, " D"]
States = Num[Tensor, "*B D"] | Num[np.ndarray, "*B D"]


class Memory:
    """An associative memory: patterns, an energy, an inverse temperature. Device and dtype follow the patterns.

    Arrays of numpy and whole numbers become tensors of floating point.
    """

    def __init__(
        self,
        patterns: Rows | Shards | None = None,
        *,
        energy: str = "distance",
        beta: float = 1.0,
        degree: int = 3,
    ):
        """Hold `patterns` (rows; `Shards` for more than memory holds; none yet is fine).

        `energy`: distance, mchn, classical, dense or rectified (of `degree`), exponential; `energies` has the formulas
        and what beta means in each.
        """
        if energy not in CONTINUOUS + BINARY:
            raise unknown("energy", energy, CONTINUOUS + BINARY)
        refuse_beta(beta)
        self.kind, self.beta, self.degree = energy, beta, degree
        self._patterns = patterns if patterns is None or isinstance(patterns, Shards) else _floats(patterns)

    def __len__(self) -> int:
        return 0 if self._patterns is None else len(self._patterns)

    def __repr__(self) -> str:
        width = 0 if self._patterns is None else self._patterns.shape[1]
        return f"Memory({len(self)} patterns of width {width}, energy={self.kind!r}, beta={self.beta:g})"

    @property
    def patterns(self) -> Float[Tensor, "M D"] | Shards:
        """The stored patterns; raises ShapeError if there are none yet."""
        if self._patterns is None:
            raise ShapeError("expected stored patterns, got an empty memory; call .store(patterns) first.")
        return self._patterns

    def store(self, patterns: Rows) -> "Memory":
        """Add patterns below those already stored; returns the memory itself."""
        patterns = _floats(patterns)
        if self._patterns is None:
            self._patterns = patterns.clone()
            return self
        held = self._held("store")
        if held.shape[1] != patterns.shape[1]:
            raise ShapeError(f"expected patterns of width {held.shape[1]}, as stored before, got {patterns.shape[1]}.")
        self._patterns = torch.cat([held, patterns.to(held)])
        return self

    def add(self, pattern: Row) -> int:
        """Add one pattern and return its index."""
        self.store(pattern[None])
        return len(self) - 1

    def delete(self, index: int | Iterable[int]) -> None:
        """Forget patterns by index; those behind them move up."""
        held = self._held("delete")
        gone = torch.as_tensor([index] if isinstance(index, int) else list(index), dtype=torch.int64)
        if len(gone) and not bool(((gone >= -len(held)) & (gone < len(held))).all()):
            raise ShapeError(f"expected indices below {len(held)}, got {gone.tolist()}.")
        stay = torch.ones(len(held), dtype=torch.bool, device=held.device)
        stay[gone] = False
        self._patterns = held[stay] if bool(stay.any()) else None

    def recall(self, cue: States, **options) -> Retrieval:
        """Return where the cue goes: state, energies, nearest pattern, steps, outcome (options: see `retrieve`)."""
        options = {"energy": self.kind, "beta": self.beta, "degree": self.degree, **options}
        return retrieve(self._fit(cue), self.patterns, **options)

    def energy(self, state: States) -> Float[Tensor, "*B"]:
        """Return the energy of states, differentiable; the distance energy streams over any number of patterns."""
        state = self._fit(state)
        if self.kind == "distance":
            found = search(state.reshape(-1, state.shape[-1]), self.patterns, beta=self.beta)
            assert found.energy is not None
            return found.energy.view(state.shape[:-1])
        held = self._held("energy").to(state.dtype)
        if self.kind == "mchn":
            return energies.mchn_energy(state, held, self.beta)
        if self.kind == "classical":
            return energies.classical_energy(state, held)
        if self.kind in ("dense", "rectified"):
            return energies.dense_energy(state, held, self.degree, self.kind == "rectified")
        return energies.exponential_energy(state, held)

    def nearest(self, state: States, k: int = 1) -> Neighbours:
        """Return the k nearest patterns of every state, by squared distance."""
        state = self._fit(state)
        return search(state.reshape(-1, state.shape[-1]), self.patterns, k)

    def separation(self) -> Float[Tensor, " M"]:
        """Return each pattern's distance to its nearest other pattern."""
        return separation.separation(self.patterns)

    def __getitem__(self, index: int | Int[Tensor, " N"]) -> Tensor:
        if isinstance(self.patterns, Shards):
            chosen = torch.as_tensor(index).reshape(-1)
            return self.patterns.rows(chosen)[0 if isinstance(index, int) else slice(None)]
        return self.patterns[index]

    def save(self, path: str | Path) -> Path:
        """Write patterns, energy and beta to one safetensors file."""
        about = {"energy": self.kind, "beta": repr(self.beta), "degree": str(self.degree)}
        held = {"patterns": self._held("save").contiguous()}
        return write_whole(Path(path), lambda part: save_file(held, part, about))

    @classmethod
    def load(cls, path: str | Path) -> "Memory":
        """Open a saved memory, or a folder of shards (which stays on disk)."""
        path = Path(path)
        if path.is_dir():
            return cls(Shards(path))
        if not path.exists():
            raise FolderError(f"expected a saved memory at {path}, found none; Memory.save() writes one.")
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
            patterns = opened.get_tensor("patterns")
        kind, beta, degree = about.get("energy", "distance"), about.get("beta", "1.0"), about.get("degree", "3")
        return cls(patterns, energy=kind, beta=float(beta), degree=int(degree))

    def _held(self, verb: str) -> Tensor:
        if isinstance(self.patterns, Shards):
            raise ShapeError(f"expected patterns in memory to {verb}, got shards on disk; write a new folder instead.")
        return self.patterns

    def _fit(self, state: Tensor | np.ndarray) -> Tensor:
        state, patterns = _floats(state), self.patterns
        if isinstance(patterns, Shards):
            return state
        return state.to(patterns.device, torch.promote_types(state.dtype, patterns.dtype))


def _floats(values: Tensor | np.ndarray) -> Tensor:
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())

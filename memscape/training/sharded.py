"""One pack on many GPUs: processes under torchrun, each with a part of every batch.

    sweep(plan, "runs/wide", engine="ddp")           every GPU of this machine holds the whole model: the faster way
    sweep(plan, "runs/large", engine="fsdp")         for a model larger than one of them: every GPU holds a part

With `ddp` the step is that of any pack, in one CUDA graph, and gradients are summed over all processes inside it. With
`fsdp` (FSDP2) each process holds a part of every parameter and of its moments, cut along an axis behind the pack axis.
The losses are those of one process with the whole batch, dropout masks included. Process 0 writes checkpoints and
results, in the format of any other pack.
"""

import contextlib
import gc
import json
import os
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.utils import get_total_norm

from memscape.errors import PlanError
from memscape.folder import writing
from memscape.models.stream import Stream
from memscape.progress import Budget
from memscape.training import optimiser
from memscape.training.config import RunConfig
from memscape.training.plan import Plan
from memscape.training.step import PackedStep, compile_parts
from memscape.training.trainer import Outcome, Packed, train
from memscape.training.worker import ending, heart, leave_with_driver


class CopiedStep(PackedStep):
    """The packed step with a whole copy of the model in every process."""

    def __init__(self, *parts, **options):
        self.rank = dist.get_rank()
        super().__init__(*parts, **options)

    def summed(self, x: Tensor) -> Tensor:
        """Return the sum over all processes, of half-precision numbers in single precision."""
        x = x.float() if x.is_floating_point() else x
        dist.all_reduce(x)
        return x


class ShardedStep(CopiedStep):
    """The packed step with every parameter sharded over all processes."""

    def __init__(self, model: Stream, runs: list[RunConfig], bos: int, *, bf16: bool = False, compiled: bool = False):
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.mesh = init_device_mesh(next(model.parameters()).device.type, (self.world,))
        if compiled:
            compile_parts(model)
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
        for part in (*model.blocks, model):
            fully_shard(part, mesh=self.mesh, mp_policy=policy, shard_placement_fn=self._placement)
        self.prepare(model, runs, bos)
        self.runs = runs
        self.slots, self.width = optimiser.lay_out(model)
        self.parts = [p for p in model.parameters() if isinstance(p, DTensor)]
        self.moments = [(torch.zeros_like(local(p)), torch.zeros_like(local(p))) for p in self.parts]
        self.captures = False

    def _placement(self, parameter: Tensor) -> Shard:
        """Cut the first axis behind the pack axis that divides evenly; of a single model the rest is process 0's."""
        for axis in range(1, parameter.dim()):
            if parameter.shape[axis] % self.world == 0:
                return Shard(axis)
        if len(parameter) > 1:
            shape = "x".join(map(str, parameter.shape[1:]))
            raise PlanError(
                f"engine 'fsdp' cannot cut a parameter of {shape} into {self.world} equal parts in a pack of "
                f"{len(parameter)}; use pack_size=1 or engine 'ddp'."
            )
        return Shard(0)

    def _advance(self, targets_PBT: Int[Tensor, "P B T"]) -> None:
        logits, d_logits, loss_P = self.scored(targets_PBT)
        torch.autograd.backward(logits, d_logits * self.world)  # FSDP averages over processes; the loss is their sum
        with torch.no_grad():
            self._move(loss_P)
        self.model.zero_grad(set_to_none=True)

    def _move(self, loss_P: Float[Tensor, " P"]) -> None:
        """Clip by the norm over all processes, update every shard, count."""
        mine = [(p, m) for p, m in zip(self.parts, self.moments, strict=True) if local(p).numel()]
        rows = [
            optimiser.Parts(
                [local(p)[i] for p, _ in mine], [m[i] for _, (m, _) in mine], [v[i] for _, (_, v) in mine],
                [local(p.grad)[i] for p, _ in mine],  # type: ignore
                [run.weight_decay * (p.dim() >= 3) for p, _ in mine],
            )
            for i, run in enumerate(self.runs)
        ]  # fmt: skip
        squares = [get_total_norm(row.gradients).to(self.device).square() for row in rows]
        norm_P = self.summed(torch.stack(squares)).sqrt()
        active = optimiser.adamw_by_part(rows, self.scheduled(), self.step, self.active, norm_P)
        self.count(norm_P, active, loss_P)

    @property
    def _shards(self) -> dict[str, list[Tensor]]:
        """This process's part of every row of the state, parameter by parameter."""
        first, second = (list(moments) for moments in zip(*self.moments, strict=True))
        return {"weights": [local(p) for p in self.parts], "first": first, "second": second}

    @property
    def state(self) -> dict[str, Tensor]:
        """The whole state, gathered from all processes (each must ask): flat rows, as in any pack's checkpoint."""
        return {name: self._gathered(shards) for name, shards in self._shards.items()} | self.counters

    @property
    def weights(self) -> Float[Tensor, "P n"]:
        """All parameters as flat rows, gathered (each process must ask)."""
        return self._gathered(self._shards["weights"])

    def _gathered(self, shards: list[Tensor]) -> Float[Tensor, "P n"]:
        whole = [
            DTensor.from_local(x, self.mesh, p.placements, shape=p.shape, stride=p.stride()).full_tensor()
            for x, p in zip(shards, self.parts, strict=True)
        ]
        return optimiser.in_rows(whole, self.slots, self.width)

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a whole state: every process keeps its shards."""
        for name, tensor in self.counters.items():
            tensor.copy_(state[name])
        for name, shards in self._shards.items():
            for slot, p, shard in zip(self.slots, self.parts, shards, strict=True):
                whole = slot.of(state[name]).to(self.device)
                shard.copy_(local(distribute_tensor(whole, self.mesh, p.placements)))


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Copied(Packed):
    """A pack at work in several processes: each sees its part of a batch, process 0 decides and writes."""

    kind = CopiedStep

    def __init__(self, *parts):
        super().__init__(*parts)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.writes = self.rank == 0

    @classmethod
    def begin(cls, plan: Plan, runs: list[RunConfig], folder: Path, device: torch.device) -> "Copied":
        """Return a pack at step 0: every process draws the same weights."""
        if runs[0].batch_size % (world := dist.get_world_size()):
            raise PlanError(f"batch_size={runs[0].batch_size} must be a multiple of the {world} processes sharing it.")
        return super().begin(plan, runs, folder, device)  # type: ignore

    def agreed(self, choice: bool | Tensor) -> Tensor:
        """Return process 0's choice."""
        said = torch.as_tensor(choice, device=self.device).int()
        dist.broadcast(said, 0)
        return said.bool().cpu()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        super().restore(tensors)
        dist.barrier()  # a checkpoint is deleted when its pack is finished, and others may still read it

    def _targets(self, at: int) -> Tensor:
        whole = super()._targets(at)
        b = whole.shape[1] // self.world
        return whole[:, self.rank * b : (self.rank + 1) * b]


class Sharded(Copied):
    """A pack of which every process keeps a part."""

    kind = ShardedStep

    def __init__(self, *parts):
        super().__init__(*parts)
        self.ended: dict[str, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        self.ended = super().state()
        return self.ended

    def weights_of(self, p: int) -> dict[str, Tensor]:
        """Weights as gathered for the last checkpoint: the loop makes one before process 0 writes results."""
        return {slot.name: slot.of(self.ended["weights"])[p] for slot in self.step.slots}


def main() -> None:
    """Train one pack of a folder's plan as one of torchrun's processes; process 0, or one that fails, prints how."""
    folder, pack_id, kind, until = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    start = {"ddp": Copied, "fsdp": Sharded}[sys.argv[5]].begin
    leave_with_driver()
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")  # it is not changed in place
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    device = f"cuda:{os.environ['LOCAL_RANK']}" if kind == "cuda" else kind
    if kind == "cuda":
        torch.cuda.set_device(device)
    plan, budget = Plan.load(folder), Budget(None if until is None else until - time.time())
    first = dist.get_rank() == 0
    progress = heart(folder, pack_id) if first else lambda tokens: None

    def work() -> Outcome:
        with writing(folder / "packs" / pack_id) if first else contextlib.nullcontext():
            pack = plan.pack(pack_id)
            return train(plan, pack, folder, device=device, budget=budget, progress=progress, begin=start)

    event = ending(work)
    if first or event["event"] in ("memory", "refused"):
        print(json.dumps(event), flush=True)
    gc.collect()  # NCCL does not end while a recorded graph still holds one of its sums
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""One pack on many GPUs, for a model larger than one of them: processes under torchrun share it with FSDP2.

    sweep(plan, "runs/large", engine="fsdp")                                  every GPU of this machine
    torchrun --nproc-per-node 8 -m memscape.training.sharded FOLDER PACK      what that engine starts

Each process holds a part of every parameter and of its moments, cut along an axis behind the pack axis, and trains
on its part of each batch. Gradients are averaged, so the losses are those of one process with the whole batch,
dropout masks included. Process 0 writes checkpoints and results, in the format of any other pack.
"""

import contextlib
import json
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from memscape.errors import PlanError
from memscape.folder import writing
from memscape.models import build
from memscape.models.dropout import Noise
from memscape.models.packed import initialise
from memscape.models.stream import Stream
from memscape.progress import Budget
from memscape.training import optimiser
from memscape.training.config import RunConfig
from memscape.training.plan import Plan
from memscape.training.step import PackedStep, begin, compile_parts, losses_and_gradient
from memscape.training.trainer import Outcome, Packed, largest, prepare, train
from memscape.training.worker import ending, leave_with_driver


class ShardedStep(PackedStep):
    """The packed step with every parameter sharded over a mesh of processes."""

    def __init__(
        self,
        model: Stream,
        runs: list[RunConfig],
        bos: int,
        mesh: DeviceMesh,
        *,
        bf16: bool = False,
        compiled: bool = False,
    ):
        self.mesh, self.rank, self.world = mesh, dist.get_rank(), dist.get_world_size()
        if compiled:
            compile_parts(model)
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
        for part in (*model.blocks, model):
            fully_shard(part, mesh=mesh, mp_policy=policy, shard_placement_fn=self._placement)
        self.prepare(model, runs, bos)
        self.slots, self.width = optimiser.lay_out(model)
        self.parts = [p for p in model.parameters() if isinstance(p, DTensor)]
        self.moments = [(torch.zeros_like(local(p)), torch.zeros_like(local(p))) for p in self.parts]
        self.captures = False

    def _placement(self, parameter: Tensor) -> Shard:
        """Cut the first axis behind the pack axis that divides evenly; what has none stays with process 0."""
        for axis in range(1, parameter.dim()):
            if parameter.shape[axis] % self.world == 0:
                return Shard(axis)
        return Shard(0)

    def __call__(self, targets_PBT: Int[Tensor, "P B T"]) -> None:
        """Train one step on this process's part of the batch."""
        b = targets_PBT.shape[1]
        seeds, rates = self.members.seed_P, self.members.rate_P
        noise = Noise.draw(seeds, self.step, rates, self.rank * b) if self.members.noisy else None
        logits = self.model(begin(targets_PBT, self.bos), noise)
        with torch.no_grad():
            count_P = self._summed((targets_PBT >= 0).sum((1, 2)))
            loss_P, d_logits = losses_and_gradient(logits.detach(), targets_PBT, self.members.z_loss_P, count_P)
        torch.autograd.backward(
            logits, d_logits * self.world
        )  # FSDP averages over processes; the loss is a sum over them
        with torch.no_grad():
            self._move(self._summed(loss_P))
        self.model.zero_grad(set_to_none=True)

    def _move(self, loss_P: Float[Tensor, " P"]) -> None:
        """Clip by the norm over all processes, update every shard, count."""
        run, P = self.run, len(loss_P)
        gradients = [local(p.grad).reshape(P if local(p).numel() else 0, -1) for p in self.parts]  # type: ignore
        squares = [g.float().square().sum(1) if len(g) else torch.zeros(P, device=self.device) for g in gradients]
        norm_P = self._summed(torch.stack(squares).sum(0)).sqrt()
        factor = optimiser.schedule(self.step, run.steps, run.warmup, run.final_rate, run.schedule)
        rates = self.rates._replace(learning_rate_P=self.rates.learning_rate_P * factor)
        active = self.active & torch.isfinite(norm_P)
        for p, g, (first, second) in zip(self.parts, gradients, self.moments, strict=True):
            if len(g):
                weights, m, v = (x.view(P, -1) for x in (local(p), first, second))
                decay = 1.0 if p.dim() >= 3 else 0.0
                optimiser.adamw(weights, m, v, g, rates, decay, self.step, run.clip, self.active, norm_P)
        self.count(norm_P, active, loss_P)

    def _summed(self, x: Tensor) -> Tensor:
        dist.all_reduce(x)
        return x

    @property
    def state(self) -> dict[str, Tensor]:
        """The whole state, gathered from all processes (each must ask): flat rows, as in any pack's checkpoint."""
        moments = zip(*self.moments, strict=True)
        kinds = zip(("weights", "first", "second"), ([local(p) for p in self.parts], *moments), strict=True)
        return {name: self._gathered(list(shards)) for name, shards in kinds} | self.counters

    def _gathered(self, shards: list[Tensor]) -> Float[Tensor, "P n"]:
        whole = [
            DTensor.from_local(x, self.mesh, p.placements, shape=p.shape, stride=p.stride()).full_tensor()
            for x, p in zip(shards, self.parts, strict=True)
        ]
        return optimiser.gather_gradients(whole, self.slots, self.width)

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a whole state: every process keeps its shards."""
        for name, tensor in self.counters.items():
            tensor.copy_(state[name])
        moments = zip(*self.moments, strict=True)
        kinds = (("weights", [local(p) for p in self.parts]), *zip(("first", "second"), moments, strict=True))
        for name, shards in kinds:
            for slot, p, shard in zip(self.slots, self.parts, shards, strict=True):
                rows = state[name][:, slot.start : slot.start + slot.size].reshape(-1, *slot.shape)
                shard.copy_(local(distribute_tensor(rows.to(self.device), self.mesh, p.placements)))

    @property
    def weights(self) -> Float[Tensor, "P n"]:
        """All parameters as flat rows, gathered (each process must ask)."""
        return self._gathered([local(p) for p in self.parts])


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Sharded(Packed):
    """A pack at work in several processes: each sees its part of a batch, process 0 decides and writes."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.writes = self.rank == 0
        self.ended: dict[str, Tensor] = {}

    @classmethod
    def begin(cls, plan: Plan, runs: list[RunConfig], folder: Path, device: torch.device) -> "Sharded":
        """Return a pack at step 0: every process draws the same weights and keeps its part."""
        if runs[0].batch_size % dist.get_world_size():
            world = dist.get_world_size()
            raise PlanError(
                f"batch_size={runs[0].batch_size} must be a multiple of the {world} processes that share it."
            )
        splits = [prepare(run, folder, largest(plan, run)) for run in runs]
        model = build(runs[0].model, len(runs))
        initialise(model, [run.seed for run in runs])
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        cuda = device.type == "cuda"
        step = ShardedStep(model.to(device), runs, splits[0].tokenizer.bos_id, mesh, bf16=cuda, compiled=cuda)
        return cls(runs, splits, step)

    def agreed(self, choice: bool) -> bool:
        """Return process 0's choice."""
        said = torch.tensor(int(choice), device=self.device)
        dist.broadcast(said, 0)
        return bool(said)

    def _targets(self, at: int) -> Tensor:
        whole = super()._targets(at)
        b = whole.shape[1] // self.world
        return whole[:, self.rank * b : (self.rank + 1) * b]

    def state(self) -> dict[str, Tensor]:
        self.ended = super().state()
        return self.ended

    def weights_of(self, p: int) -> dict[str, Tensor]:
        """Weights as gathered for the last checkpoint: the loop makes one before process 0 writes results."""
        row = self.ended["weights"][p]
        return {s.name: row[s.start : s.start + s.size].view(s.shape) for s in self.step.slots}


def main() -> None:
    """Train one pack of a folder's plan as one of torchrun's processes; process 0 prints how it ended."""
    folder, pack_id, kind, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    leave_with_driver()
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")  # it is not changed in place
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    device = f"cuda:{os.environ['LOCAL_RANK']}" if kind == "cuda" else kind
    if kind == "cuda":
        torch.cuda.set_device(device)
    plan = Plan.load(folder)
    lock = writing(folder / "packs" / pack_id) if dist.get_rank() == 0 else contextlib.nullcontext()

    def work() -> Outcome:
        with lock:
            return train(plan, plan.pack(pack_id), folder, device=device, budget=Budget(seconds), begin=Sharded.begin)

    event = ending(work)
    if dist.get_rank() == 0:
        print(json.dumps(event), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""The training loop, top to bottom: one pack of runs from its first step to its result files.

    outcome = train(plan, pack, folder)

Everything a step needs is a function of (seeds, step), so a pack that is killed and begun again from its checkpoint
ends with the same weights and the same `result.json` files as one that was left alone.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memscape.data import Split, batch_indices, split_corpus
from memscape.errors import FolderError
from memscape.folder import write_json
from memscape.models import build
from memscape.models.packed import initialise
from memscape.progress import Budget, say
from memscape.training import checkpoint
from memscape.training.config import RunConfig
from memscape.training.evaluate import evaluate
from memscape.training.plan import Pack, Plan
from memscape.training.pool import Pool
from memscape.training.results import COLUMNS, Ending, lost, met_floor, n_predictable, write_run
from memscape.training.step import PackedStep

CHUNK = 64
"""Steps whose sequences are looked up at once."""

CHECKPOINT_SECONDS = float(os.environ.get("MEMSCAPE_CHECKPOINT_SECONDS", "20"))
"""At most about this much work is lost to a kill."""


class Outcome(NamedTuple):
    """How a call of `train` ended."""

    finished: bool
    """False: the budget ran out; the checkpoint holds the rest."""
    seconds: float
    tokens: int
    """Tokens this call trained on, all members together."""
    step_seconds: float
    """Of `seconds`, those of steps alone: no data, evaluations, checkpoints, nor the first steps, which compile."""
    step_tokens: int
    """Of `tokens`, those of these steps."""


def train(
    plan: Plan,
    pack: Pack,
    folder: Path,
    *,
    device: str = "cpu",
    budget: Budget | None = None,
    progress: Callable[[int], None] = lambda tokens: None,
    begin: Callable[..., "Packed"] | None = None,
) -> Outcome:
    """Train a pack to its end, or until the budget is spent, and write its runs' folders.

    `progress` hears the tokens trained on so far. `begin` makes the pack at step 0, `Packed.begin` unless several
    processes share it (sharded.py).

    Raises:
        torch.OutOfMemoryError: the pack does not fit; nothing was written.
        CorpusError: the corpus is too short for the plan.
        FolderError: the folder cannot be written.
    """
    start, budget = time.monotonic(), budget or Budget()
    runs = plan.members(pack)
    work = (begin or Packed.begin)(plan, runs, Path(folder), torch.device(device))
    place = Path(folder) / "packs" / pack.pack_id / "checkpoint.safetensors"
    for part in place.parent.glob(".*") if work.writes else ():  # left by a kill while a checkpoint was written
        if part.name != ".lock":
            part.unlink()
    if work.agreed(place.exists()):
        try:
            work.restore(checkpoint.load(place, pack.run_ids))
        except FolderError as problem:
            say(str(problem))
    began, saved, run, stepped = work.at, time.monotonic(), runs[0], (0.0, 0)
    tokens_a_step = len(runs) * run.batch_size * run.model.seq_len

    def outcome(finished: bool) -> Outcome:
        return Outcome(finished, time.monotonic() - start, (work.at - began) * tokens_a_step, *stepped)

    while work.at < run.steps and work.step.active.any():
        progress(work.at * tokens_a_step)
        due = min(step for step in evaluation_steps(run) if step > work.at)
        at, now = work.at, time.monotonic()
        work.advance(min(due, (at // CHUNK + 1) * CHUNK))
        work.step.active.any().item()  # a GPU's clock is read when its work is done
        if at > began:
            stepped = stepped[0] + time.monotonic() - now, stepped[1] + (work.at - at) * tokens_a_step
        if work.at == due:
            work.evaluate()
        spent = bool(work.agreed(budget.spent))
        if spent or work.agreed(time.monotonic() - saved > CHECKPOINT_SECONDS):
            keep(work, place, pack, needed=spent)
            saved = time.monotonic()
        if spent and work.at < run.steps:
            return outcome(False)
    if not (work.history and int(work.history[-1][0, 0]) == work.at):
        work.evaluate()
    keep(work, place, pack, needed=True)
    done = outcome(True)
    if work.writes:
        work.finish(Path(folder))
        write_json(place.parent / "timing.json", {**done._asdict(), "device": str(device), "steps": work.at})
        place.unlink(missing_ok=True)
    return done


def evaluation_steps(run: RunConfig) -> list[int]:
    """Return the steps after which a run is evaluated: each 1.5 times the one before, the last at the end.

    Small sets are memorised early, and the best held-out loss comes before: even spacing would miss it.
    """
    return sorted({round(run.steps / 1.5**i) for i in range(run.evaluations)} - {0})


def keep(work: "Packed", place: Path, pack: Pack, needed: bool) -> None:
    """Write a checkpoint; a full disk stops only work that cannot go on without it."""
    state = work.state()
    if not work.writes:
        return
    try:
        checkpoint.save(place, state, pack.run_ids)
    except FolderError as problem:
        if needed:
            raise
        say(f"{problem} Training goes on without a checkpoint.")


def prepare(plan: Plan, run: RunConfig, folder: Path) -> Split:
    """Return the split a run trains on, made once in the sweep's folder and mapped from there by every worker.

    It holds the most unique tokens that any run of the plan asks of the same split.
    """
    name = f"{run.tokenizer}-T{run.model.seq_len}-s{run.data_seed}".replace("/", "_").replace(":", "_")
    n_tokens = max(other.n_tokens for other in plan.runs if other.data == run.data)
    return split_corpus(*run.data, n_tokens, Path(folder) / "tokens" / name)


class Packed:
    """A pack at work: its step, its sequences, its history."""

    writes = True
    """Whether this process writes files: where several share a pack, one does."""
    kind = PackedStep
    """The step that trains it."""

    def __init__(self, runs: list[RunConfig], splits: list[Split], step: PackedStep):
        self.runs, self.splits, self.step = runs, splits, step
        self.device, self.at = step.device, 0
        self.sets = [split.subset(run.n_tokens) for run, split in zip(runs, splits, strict=True)]
        self.floors = [subset.floor() for subset in self.sets]
        self.uniform = [math.log(n_predictable(*pair)) for pair in zip(splits, self.sets, strict=True)]
        # One pool serves all members of one split: their training sets are beginnings of the largest.
        longest = {id(s): max((x for x, y in zip(self.sets, splits, strict=True) if y is s), key=len) for s in splits}
        self.pool = Pool([longest[id(s)] for s in splits], self.device)
        self.offset_P = torch.tensor(self.pool.offsets, device=self.device)
        most = 4 * runs[0].n_evaluated
        self.held_out = [Pool([getattr(s, name)[:most] for s in splits], self.device) for name in ("fresh", "other")]
        self.history: list[Tensor] = []
        self.converged = torch.zeros(len(runs), dtype=torch.bool)
        self._chunk: tuple[int, Tensor, list] | None = None

    @classmethod
    def begin(cls, plan: Plan, runs: list[RunConfig], folder: Path, device: torch.device) -> "Packed":
        """Return a pack at step 0: weights drawn, sequences on the device."""
        made = {run.data: prepare(plan, run, folder) for run in {run.data: run for run in runs}.values()}
        splits = [made[run.data] for run in runs]
        model = build(runs[0].model, len(runs))
        initialise(model, [run.seed for run in runs])
        return cls(runs, splits, cls.stepping(model.to(device), runs, splits[0].tokenizer.bos_id))

    @classmethod
    def stepping(cls, model, runs: list[RunConfig], bos: int) -> PackedStep:
        """Return the step that trains `model`."""
        cuda = next(model.parameters()).is_cuda
        return cls.kind(model, runs, bos, bf16=cuda, compiled=cuda)

    def agreed(self, choice: bool | Tensor) -> bool | Tensor:
        """Return the choice, or choices, that all processes of the pack follow: here there is one."""
        return choice

    def advance(self, until: int) -> None:
        """Train up to step `until`."""
        while self.at < until:
            self.step(self._targets(self.at))
            self.at += 1

    def _targets(self, at: int) -> Tensor:
        """The sequences of one step, (P, B, T)."""
        chunk, place = divmod(at, CHUNK)
        if self._chunk is None or self._chunk[0] != chunk:
            walks = zip(self.sets, self.runs, strict=True)
            rows = np.stack([batch_indices(len(s), CHUNK * r.batch_size, chunk, r.seed) for s, r in walks])
            rows = torch.from_numpy(rows).to(self.device) + self.offset_P[:, None]
            rows = rows.view(len(self.runs), CHUNK, -1).transpose(0, 1)
            self._chunk = (chunk, rows, [] if self.pool.resident else self.pool.ahead(rows))
        _, rows, read = self._chunk
        return read[place].result().to(self.device, non_blocking=True) if read else self.pool[rows[place]]

    def evaluate(self) -> None:
        """Append one row of history a member, and apply the stop rules."""
        run = self.runs[0]
        # Compiled parts run as written here: evaluations are few and of other shapes, each would be compiled anew.
        with torch.compiler.set_stance("force_eager") if self.step.captures else contextlib.nullcontext():
            row = self._measured(run.n_evaluated * (4 if self.at >= run.steps else 1))
        self.history.append(row)
        losses = row[:, COLUMNS.index("train_loss")].tolist()
        met = torch.tensor([met_floor(*x) for x in zip(self.runs, losses, self.floors, strict=True)])
        gone = torch.tensor([lost(*x) for x in zip(losses, self.uniform, strict=True)])
        met, gone = self.agreed(torch.stack([met, gone]))  # type: ignore
        self.converged |= met & self.step.active.cpu()
        self.step.halt((met | gone).to(self.device))

    def _measured(self, most: int) -> Tensor:
        """One row of `COLUMNS` a member, from at most that many sequences of each set, the training set's spread."""

        def spread(n: int) -> Tensor:
            k = min(n, most)
            return torch.arange(k, device=self.device) * n // k

        rows = [spread(len(s)) + o for s, o in zip(self.sets, self.pool.offsets, strict=True)]
        measured = [evaluate(self.step.model, self.pool, rows, self.step.bos)]
        for pool, name in zip(self.held_out, ("fresh", "other"), strict=True):
            sizes = [min(most, len(getattr(s, name))) for s in self.splits]
            rows = [torch.arange(n, device=self.device) + o for n, o in zip(sizes, pool.offsets, strict=True)]
            measured.append(evaluate(self.step.model, pool, rows, self.step.bos))
        seen = len(self.history) and int(self.history[-1][0, 0])
        running = self.step.loss_sum_P / max(1, self.at - seen)
        self.step.loss_sum_P.zero_()
        columns = [torch.full_like(running, self.at), running, self.step.norm_P]
        for e in measured:
            columns += [e.loss_P, e.sem_P, e.extracted_P, e.n_P.float()]
        return torch.stack(columns, dim=1).cpu()

    def state(self) -> dict[str, Tensor]:
        """Return everything that decides the future, and the history."""
        empty = torch.zeros(0, len(self.runs), len(COLUMNS))
        history = torch.stack(self.history) if self.history else empty
        return self.step.state | {"history": history, "converged": self.converged}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the state that `state` returned."""
        self.step.restore(tensors)
        self.history, self.converged = list(tensors["history"]), tensors["converged"]
        self.at = int(tensors["step"])

    def finish(self, folder: Path) -> None:
        """Write the folder of every member; a member's result.json comes last."""
        history = torch.stack(self.history).numpy()
        for p, run in enumerate(self.runs):
            if (folder / "runs" / run.run_id / "result.json").exists():
                continue  # written before a kill that came between two members
            steps, met = int(self.step.taken_P[p]), bool(self.converged[p])
            end = Ending(
                run, self.splits[p], self.sets[p], self.floors[p], history[:, p], steps, met, self.weights_of(p)
            )
            write_run(folder / "runs" / run.run_id, end)

    def weights_of(self, p: int) -> dict[str, Tensor]:
        """Return member p's parameters by name, without the pack axis."""
        return {slot.name: slot.of(self.step.weights)[p] for slot in self.step.slots}

"""What a plan will cost, before it starts: tokens, FLOPs, memory, and time measured on this machine.

The calibration trains the first steps of one pack of each shape on made-up tokens, a second or less a shape, and
multiplies. On a CPU what would take longer is measured on fewer members and sequences.
"""

import time
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from memscape.data import Sequences
from memscape.models import build
from memscape.models.packed import initialise
from memscape.models.sizing import parameters
from memscape.training import engines
from memscape.training.config import RunConfig
from memscape.training.evaluate import evaluate
from memscape.training.plan import Plan
from memscape.training.pool import Pool
from memscape.training.step import PackedStep
from memscape.training.trainer import evaluation_steps

START_SECONDS = {"cpu": 4.0, "cuda": 20.0}
"""What a worker needs before its first step: imports, and on a GPU compilation (for each shape)."""


CALIBRATED = 5e9
"""FLOPs of the largest step that a calibration takes on a CPU."""


class Price(BaseModel):
    """A plan's cost."""

    model_config = ConfigDict(frozen=True)

    plan: str
    """Name of the plan."""
    runs: int
    packs: int
    tokens: int
    """Tokens trained on, all runs together."""
    flops: float
    """FLOPs of training, all runs together."""
    memory_bytes: int
    """Largest memory of one worker."""
    workers: int
    """Workers on this machine."""
    seconds: float
    """Expected time from start to end with these workers."""
    tokens_per_second: float
    """All workers together."""
    device: str
    """Where the calibration ran."""

    def __str__(self) -> str:
        s = self.seconds
        clock = f"{s:.0f} s" if s < 120 else f"{s / 60:.1f} min" if s < 7200 else f"{s / 3600:,.1f} h"
        return (
            f"{self.plan}: {self.runs} runs in {self.packs} packs, {self.tokens:,} tokens, {self.flops:.3g} FLOPs; "
            f"about {clock} with {self.workers} workers ({self.device}), {self.tokens_per_second:,.0f} tokens/s, "
            f"up to {self.memory_bytes / 2**20:,.0f} MiB each"
        )


def price(plan: Plan, *, device: str | None = None) -> Price:
    """Return what a plan will cost on this machine, from a calibration of a second or less a shape."""
    places = engines.devices(device)[: len(plan.packs)]
    place = places[0].split(":")[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(engines.threads_for(len(plan.packs), place))
    try:
        speeds: dict[tuple, tuple[float, float]] = {}
        packs = []
        for pack in plan.packs:
            members = plan.members(pack)
            key = (members[0].model, members[0].batch_size, len(members))
            if key not in speeds:
                speeds[key] = _calibrate(members, place)
            step, check = speeds[key]
            packs.append(members[0].steps * step + evaluated(members) * check)
    finally:
        torch.set_num_threads(threads)
    # Workers on one GPU share its time; what they do not share is compiling, a shape at a time.
    compiled = len(speeds) / len(places) if place == "cuda" else 1
    side_by_side = len(places) if place == "cpu" else len(set(places))
    seconds = START_SECONDS[place] * compiled + max(sum(packs) / side_by_side, max(packs))
    tokens = sum(run.tokens_seen for run in plan.runs)
    return Price(
        plan=plan.name, runs=len(plan.runs), packs=len(plan.packs), tokens=tokens,
        flops=sum(r.flops for r in plan.runs),
        memory_bytes=max(memory(plan.members(pack), place) for pack in plan.packs), workers=len(places),
        seconds=seconds, tokens_per_second=tokens / seconds, device=place,
    )  # fmt: skip


def memory(members: list[RunConfig], device: str) -> int:
    """Return the bytes one pack needs: weights, gradients, two moments, activations kept for backward, logits."""
    run = members[0]
    model, P = run.model, len(members)
    tokens = P * run.batch_size * model.seq_len
    state = P * parameters(model).total * 4 * (5 if device == "cpu" else 6)
    width = sum(8 * model.d_model + 3 * layer.d_ff + 3 * layer.n_heads * layer.d_head for layer in model.layers)
    activations = tokens * (width + 3 * model.vocab_size) * (4 if device == "cpu" else 2)
    base = 400 * 2**20 if device == "cpu" else 1500 * 2**20
    return int(base + state + activations)


def _calibrate(members: list[RunConfig], device: str) -> tuple[float, float]:
    """Return seconds a training step, and seconds an evaluated sequence of every member, for a pack of this shape."""
    run, n, whole = members[0], len(members), members[0].batch_size
    if device == "cpu":
        share = min(1.0, CALIBRATED / (n * run.flops / run.steps))
        members = members[: max(1, round(share * n))]
        run = run.model_copy(update={"batch_size": max(1, round(run.batch_size * min(1.0, share * n / len(members))))})
    more = n / len(members)
    model = build(run.model, len(members))
    initialise(model, [m.seed for m in members])
    step = PackedStep(model.to(device), members, bos=0, bf16=device == "cuda")
    step.captures = device == "cuda"  # near a compiled step, and sooner than compiling
    targets = torch.randint(0, run.model.vocab_size, (len(members), run.batch_size, run.model.seq_len), device=device)
    step(targets)
    seconds = _timed(lambda: step(targets), device) * more * whole / run.batch_size
    tokens = targets[0].cpu().numpy()
    pool = Pool([Sequences(tokens, np.arange(len(tokens)))] * len(members), step.device)
    rows = [torch.arange(len(tokens), device=device) for _ in members]
    check = _timed(lambda: evaluate(step.model, pool, rows, 0), device) * more / len(tokens)
    return seconds, check


def evaluated(members: list[RunConfig]) -> int:
    """Return how many sequences of each member are evaluated in all, the held-out sets taken to be full."""
    run, n_train = members[0], max(m.n_tokens for m in members) // members[0].model.seq_len

    def once(most: int) -> int:
        return min(most, n_train) + 2 * most

    return (len(evaluation_steps(run)) - 1) * once(run.n_evaluated) + once(4 * run.n_evaluated)


def _timed(work: Any, device: str, least: float = 0.1) -> float:
    """Return seconds a call: the quicker half of as many calls as fit in `least` seconds, at least two."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < least:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    quick = sorted(times)[: (len(times) + 1) // 2]
    return sum(quick) / len(quick)

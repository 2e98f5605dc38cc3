"""Packs on a CPU: tokens a second and peak memory against width and pack size, beside a plain PyTorch loop.

    python benchmarks/cpu_packing.py [--widths 16 32 64 128] [--packs 1 2 4 8 16] [--seconds 2]

One thread each, because a sweep runs one worker a core, and seconds are the process's own CPU time, so that a busy
machine disturbs little. Every cell is a fresh process: its peak memory is its own. The plain loop is the same GPT-2 in
the usual modules with torch.optim.AdamW and clip_grad_norm_. Ratios are printed last: a pack of one beside the plain
loop in one process, median of 7 interleaved pairs, and the best pack beside it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

B, T, V, PAIRS = 8, 64, 264, 7


def stepping(width: int, pack: int) -> Callable[[], object]:
    """Return what trains one step: of a pack, or for pack 0 of the plain loop."""
    from plain_gpt import PlainGPT, PlainTraining

    from memscape.models import build, scaled
    from memscape.models.packed import initialise
    from memscape.training.config import RunConfig
    from memscape.training.step import PackedStep, begin

    config, members = scaled(width, V, T), max(1, pack)
    model = build(config, members)
    initialise(model, list(range(members)))
    targets = torch.randint(0, 256, (members, B, T))
    if pack:
        runs = [
            RunConfig(run_id=str(i), model=config, n_tokens=1, steps=10**6, batch_size=B, seed=i, learning_rate=1e-3)
            for i in range(members)
        ]
        step = PackedStep(model, runs, bos=256)
        return lambda: step(targets)
    weights = {name: p[0].detach() for name, p in model.named_parameters()}
    plain = PlainTraining(PlainGPT(config).take(weights), 1e-3, compiled=False, graph=False, bf16=False)
    inputs = begin(targets[0], 256)
    return lambda: plain(inputs, targets[0])


def seconds_a_step(work: Callable[[], object], seconds: float) -> float:
    """Return the median CPU seconds of a call, over calls that take `seconds` in all."""
    times, start = [], time.process_time()
    while time.process_time() - start < seconds:
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


def cell(width: int, pack: int, seconds: float) -> dict:
    """Return tokens/s and peak memory of one width and pack size; of the plain loop for pack 0."""
    work = stepping(width, pack)
    for _ in range(3):
        work()
    once = seconds_a_step(work, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens_per_s": max(1, pack) * B * T / once, "mib": peak}


def single(width: int, seconds: float) -> dict:
    """Return how many times as quick as the plain loop a pack of one is."""
    plain, packed = stepping(width, 0), stepping(width, 1)
    pairs = [[seconds_a_step(work, seconds / PAIRS) for work in (plain, packed)] for _ in range(PAIRS + 1)]
    return {"ratio": statistics.median(a / b for a, b in pairs[1:])}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    options.add_argument("--packs", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--alone", type=int, nargs="+", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.alone:  # the process of one cell (width, pack), or of one ratio (width)
        torch.set_num_threads(1)
        print(json.dumps((cell if len(chosen.alone) == 2 else single)(*chosen.alone, chosen.seconds)))
        return

    def alone(*which: int) -> dict:
        command = [sys.executable, __file__, "--seconds", str(chosen.seconds), "--alone", *map(str, which)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    best = {}
    print(f"B = {B}, T = {T}, V = {V}, one thread; tokens/s (peak MiB)")
    print("width  " + "".join(f"{name:>18}" for name in ["plain loop", *(f"pack of {p}" for p in chosen.packs)]))
    for width in chosen.widths:
        cells = {pack: alone(width, pack) for pack in [0, *chosen.packs]}
        print(
            f"{width:5}  " + "".join(f"{c['tokens_per_s']:11,.0f} ({c['mib']:4.0f})" for c in cells.values()),
            flush=True,
        )
        pack = max(chosen.packs, key=lambda p: cells[p]["tokens_per_s"])
        best[width] = cells[pack]["tokens_per_s"] / cells[0]["tokens_per_s"], pack
    print("\nwidth  pack of 1 / plain loop    best pack / plain loop")
    for width, (ratio, pack) in best.items():
        print(f"{width:5}  {alone(width)['ratio']:22.2f}    {ratio:12.2f} (pack of {pack})")


if __name__ == "__main__":
    main()

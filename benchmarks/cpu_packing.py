"""Packs on a CPU: tokens a second and peak memory against width and pack size, beside a plain PyTorch loop.

    python benchmarks/cpu_packing.py [--widths 16 32 64 128] [--packs 1 2 4 8 16] [--seconds 2]

One thread each, because a sweep runs one worker a core. Every cell is a fresh process, so that peak memory is its
own. The plain loop is the same GPT-2 in the usual modules with torch.optim.AdamW and clip_grad_norm_. Ratios are
printed last.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

B, T, V = 8, 64, 264


def measure(width: int, pack: int, seconds: float) -> dict:
    """Return tokens/s and peak memory of one cell; pack 0 is the plain loop."""
    from plain_gpt import PlainGPT, PlainTraining

    from memscape.models import build, scaled
    from memscape.models.packed import initialise
    from memscape.training.config import RunConfig
    from memscape.training.step import PackedStep, begin

    torch.set_num_threads(1)
    config, members = scaled(width, V, T), max(1, pack)
    runs = [
        RunConfig(run_id=str(i), model=config, n_tokens=1, steps=10**6, batch_size=B, seed=i, learning_rate=1e-3)
        for i in range(members)
    ]
    model = build(config, members)
    initialise(model, list(range(members)))
    targets = torch.randint(0, 256, (members, B, T))
    if pack:
        step = PackedStep(model, runs, bos=256)
        work = lambda: step(targets)  # noqa: E731
    else:
        weights = {name: p[0].detach() for name, p in model.named_parameters()}
        plain = PlainTraining(PlainGPT(config).take(weights), 1e-3, compiled=False, graph=False, bf16=False)
        inputs = begin(targets[0], 256)
        work = lambda: plain(inputs, targets[0])  # noqa: E731
    for _ in range(3):
        work()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    once = sorted(times)[len(times) // 2]
    return {"tokens_per_s": members * B * T / once, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    options.add_argument("--packs", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--cell", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.cell:
        print(json.dumps(measure(*chosen.cell, chosen.seconds)))
        return
    rows = {}
    print(f"B = {B}, T = {T}, V = {V}, one thread; tokens/s (peak MiB)")
    print("width  " + "".join(f"{name:>18}" for name in ["plain loop", *(f"pack of {p}" for p in chosen.packs)]))
    for width in chosen.widths:
        for pack in [0, *chosen.packs]:
            cell = [sys.executable, __file__, "--seconds", str(chosen.seconds), "--cell", str(width), str(pack)]
            rows[width, pack] = json.loads(subprocess.run(cell, capture_output=True, text=True, check=True).stdout)
        cells = [rows[width, pack] for pack in [0, *chosen.packs]]
        print(f"{width:5}  " + "".join(f"{c['tokens_per_s']:11,.0f} ({c['mib']:4.0f})" for c in cells), flush=True)
    print("\nwidth  pack of 1 / plain loop    best pack / plain loop")
    for width in chosen.widths:
        plain = rows[width, 0]["tokens_per_s"]
        best = max(chosen.packs, key=lambda p: rows[width, p]["tokens_per_s"])
        one = rows[width, 1]["tokens_per_s"] / plain if 1 in chosen.packs else float("nan")
        print(f"{width:5}  {one:22.2f}    {rows[width, best]['tokens_per_s'] / plain:12.2f} (pack of {best})")


if __name__ == "__main__":
    main()

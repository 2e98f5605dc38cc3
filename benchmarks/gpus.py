"""How much faster are all GPUs of a machine than one, at a sweep of packs and at one GPT-2 of 124 M parameters?

    python benchmarks/gpus.py [--steps 200]

The sweep has two packs a GPU (engine `local`); the single model is trained by engine `fsdp` on one GPU and on all,
the batch growing with them. Rates are those after a pack's first steps; how many times less time everything took,
start and compilation included, stands beside them. The ratios are printed last; they need two GPUs or more.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from memscape.models import ModelConfig, scaled
from memscape.training import Plan, RunConfig, sweep


def rates(plan: Plan, engine: str, device: str | None) -> tuple[float, float]:
    """Return tokens/s of carrying out a plan on its workers, without and with the start of every pack."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(plan, folder, engine=engine, device=device)
        times = [json.loads(p.read_text()) for p in Path(folder).glob("packs/*/timing.json")]
    workers = 1 if engine == "fsdp" or device else torch.cuda.device_count()
    total = {key: sum(t[key] for t in times) for key in ("tokens", "seconds", "start_tokens", "start_seconds")}
    steady = (total["tokens"] - total["start_tokens"]) / (total["seconds"] - total["start_seconds"])
    return workers * steady, workers * total["tokens"] / total["seconds"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=200)
    steps = options.parse_args().steps
    n = torch.cuda.device_count()
    if n < 2:
        raise SystemExit(f"benchmarks/gpus.py needs two GPUs or more, torch sees {n}.")
    grid = Plan.grid(
        "gpus", [scaled(128, vocab_size=264)], [65_536], [1e-3, 2e-3, 4e-3], seeds=range(2 * n * 8),
        steps=lambda model, n_tokens: 10 * steps, batch_size=64, evaluations=1, pack_size=24,
    )  # fmt: skip
    config = ModelConfig(vocab_size=50_304, seq_len=1024, d_model=768, n_layers=12, n_heads=12)

    def single(world: int) -> Plan:
        run = RunConfig(
            run_id="gpt2", model=config, n_tokens=500_000, steps=steps, batch_size=32 * world, evaluations=1,
            n_evaluated=16,
        )  # fmt: skip
        return Plan.of([run], name="gpt2")

    print(f"{torch.cuda.get_device_name()} x {n}")
    for name, engine, first, second in (("sweep", "local", grid, grid), ("GPT-2 124M", "fsdp", single(1), single(n))):
        (one, begun), (every, ended) = rates(first, engine, "cuda:0"), rates(second, engine, None)
        told = f"{every / one:.2f} x   ({ended / begun:.2f} x with starts)"
        print(f"{name:10} {one:12,.0f} -> {every:12,.0f} tokens/s   {told}", flush=True)


if __name__ == "__main__":
    main()

"""How much faster are all GPUs of a machine than one, at a sweep of packs and at one GPT-2 of 124 M parameters?

    python benchmarks/gpus.py [--steps 200]

The sweep has two packs a GPU (engine `local`); the single model is trained by engine `fsdp` on one GPU and on all,
the batch growing with them. Both include start and compilation. The ratios are printed last; they need two GPUs or
more.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from memscape.models import ModelConfig, scaled
from memscape.training import Plan, RunConfig, sweep


def rate(plan: Plan, engine: str, device: str | None) -> float:
    """Return tokens/s of carrying out a plan: all tokens over the longest time that one worker was at work."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(plan, folder, engine=engine, device=device)
        times = [json.loads(p.read_text()) for p in Path(folder).glob("packs/*/timing.json")]
    workers = 1 if engine == "fsdp" or device else torch.cuda.device_count()
    return sum(t["tokens"] for t in times) / (sum(t["seconds"] for t in times) / workers)


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
            run_id="gpt2", model=config, n_tokens=1_000_000, steps=steps, batch_size=32 * world, evaluations=1,
            n_evaluated=16,
        )  # fmt: skip
        return Plan.of([run], name="gpt2")

    one, every = rate(grid, "local", "cuda:0"), rate(grid, "local", None)
    alone, shared = rate(single(1), "fsdp", "cuda:0"), rate(single(n), "fsdp", None)
    print(f"{torch.cuda.get_device_name()} x {n}")
    print(f"sweep      {one:12,.0f} -> {every:12,.0f} tokens/s   {every / one:.2f} x")
    print(f"GPT-2 124M {alone:12,.0f} -> {shared:12,.0f} tokens/s   {shared / alone:.2f} x")


if __name__ == "__main__":
    main()

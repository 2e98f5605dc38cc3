"""How much faster are all GPUs of a machine than one, at a sweep of packs and at one GPT-2 of 124 M parameters?

    python benchmarks/gpus.py [--steps 200] [--only sweep]

The sweep has two packs a GPU (engine `local`). The single model is trained on one GPU, then on all with a part of each
batch on each, the batch growing with them: a whole copy on each (`ddp`), and a part on each (`fsdp`), which is for
models that do not fit. Rates are those of steps alone; those of everything, compilation, evaluations and checkpoints
included, stand beside them. The ratios are printed last; they need two GPUs or more.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from memscape.models import ModelConfig, scaled
from memscape.training import Plan, RunConfig, sweep


def rates(plan: Plan, engine: str, device: str | None) -> tuple[float, float]:
    """Return tokens/s of carrying out a plan on its workers: of steps alone, and of everything."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(plan, folder, engine=engine, device=device)
        times = [json.loads(p.read_text()) for p in Path(folder).glob("packs/*/timing.json")]
    workers = 1 if engine != "local" or device else torch.cuda.device_count()
    total = {key: sum(t[key] for t in times) for key in ("tokens", "seconds", "step_tokens", "step_seconds")}
    return workers * total["step_tokens"] / total["step_seconds"], workers * total["tokens"] / total["seconds"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--only", choices=("sweep", "single"))
    asked = options.parse_args()
    steps = asked.steps
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
            run_id="gpt2", model=config, n_tokens=500_000, steps=steps, batch_size=64 * world, evaluations=1,
            n_evaluated=16,
        )  # fmt: skip
        return Plan.of([run], name="gpt2")

    print(f"{torch.cuda.get_device_name()} x {n}")
    for kind, name, plans, engines in (
        ("sweep", "sweep", (grid, grid), ("local",)), ("single", "GPT-2 124M", (single(1), single(n)), ("ddp", "fsdp")),
    ):  # fmt: skip
        if asked.only not in (None, kind):
            continue
        one, slow = rates(plans[0], "local", "cuda:0")
        for engine in engines:
            every, whole = rates(plans[1], engine, None)
            told = f"{every / one:.2f} x   (everything: {slow:,.0f} -> {whole:,.0f}, {whole / slow:.2f} x)"
            print(f"{name} {engine:5} {one:12,.0f} -> {every:12,.0f} tokens/s   {told}", flush=True)


if __name__ == "__main__":
    main()

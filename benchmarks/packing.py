"""Many tiny GPT-2s at once against the same models one after another, on one GPU.

    python benchmarks/packing.py [--widths 64 128 256] [--members 128] [--json FILE]

Three ways to train the same models on the same sequences, all in bf16 with clipping and AdamW: one after another
under `torch.compile`; one after another, the whole step in a CUDA graph; and packed. V = 512, T = 64, B = 64; L = 2,
4, 6 for the three widths. The losses of one member are compared step by step. Ratios are printed last.
"""

import argparse
import json
import statistics
import time

import torch
from plain_gpt import PlainGPT, PlainTraining, seconds_a_call

from memscape.models import build, flops, scaled
from memscape.models.packed import initialise
from memscape.training.config import RunConfig
from memscape.training.step import PackedStep, begin

DEPTH = {64: 2, 128: 4, 256: 6}
V, T, B, CHECKED = 512, 64, 64, 50


def measure(width: int, members: int) -> dict:
    """Return tokens/s of the three ways, and how far the losses of member 0 lie apart."""
    config = scaled(width, V, T, n_layers=DEPTH.get(width, 2))
    runs = [
        RunConfig(
            run_id=str(i), model=config, n_tokens=1, steps=10**6, batch_size=B, seed=i,
            learning_rate=3e-4 * (1 + i / members), schedule="constant", warmup=1,
        )
        for i in range(members)
    ]  # fmt: skip
    generator = torch.Generator("cuda").manual_seed(0)
    # Zipf-like tokens, so that the loss has something to fall to.
    chance = 1 / torch.arange(1, V, device="cuda").float()
    data = torch.multinomial(chance, 8 * B * T * members, replacement=True, generator=generator)
    data = data.view(8, members, B, T)

    start = time.perf_counter()
    model = build(config, members)
    initialise(model, [run.seed for run in runs])
    first = {name: p[0].detach().clone() for name, p in model.named_parameters()}
    step = PackedStep(model.cuda(), runs, bos=0, bf16=True, compiled=True)
    packed_losses = []
    for i in range(CHECKED):
        step(data[i % 8])
        packed_losses.append(step.loss_P[0].clone())
    ready = time.perf_counter() - start
    packed = members * B * T / seconds_a_call(lambda: step(data[0]), 20)
    memory = torch.cuda.max_memory_allocated()

    rates, losses = {}, {}
    for name, graph in (("compiled", False), ("graphed", True)):
        torch._dynamo.reset()
        plain = PlainTraining(
            PlainGPT(config).take(first).cuda(), runs[0].learning_rate, compiled=True, graph=graph, bf16=True
        )
        losses[name] = []
        for i in range(CHECKED):
            targets = data[i % 8, 0]
            plain(begin(targets, 0), targets)
            losses[name].append(plain.loss.clone())
        targets = data[0, 0]
        inputs = begin(targets, 0)
        rates[name] = B * T / seconds_a_call(lambda p=plain, x=inputs, y=targets: p(x, y), 100)
    curves = {name: torch.stack(x).tolist() for name, x in (("packed", packed_losses), *losses.items())}
    return {
        "width": width, "layers": config.n_layers, "members": members, "device": torch.cuda.get_device_name(),
        "packed_tokens_per_s": packed, "compiled_tokens_per_s": rates["compiled"],
        "graphed_tokens_per_s": rates["graphed"], "packed_tflops": packed * flops(config).train / 1e12,
        "first_step_s": ready, "memory_gib": memory / 2**30, "losses": curves,
        **{f"loss_gap_{n}": gaps(curves["packed"], curves[n]) for n in losses},
    }  # fmt: skip


def gaps(one: list[float], other: list[float]) -> tuple[float, float]:
    """Return the median and the largest difference of two curves: one step may be a spike that rounding decides."""
    apart = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return statistics.median(apart), max(apart)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    options.add_argument("--members", type=int, default=128)
    options.add_argument("--json")
    chosen = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/packing.py needs a GPU; benchmarks/cpu_packing.py is the one for CPUs.")
    rows = []
    for width in chosen.widths:
        rows.append(measure(width, chosen.members))
        print(json.dumps({name: value for name, value in rows[-1].items() if name != "losses"}), flush=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(rows, file, indent=1)
    print(f"\n{rows[0]['device']}, {chosen.members} members, V = {V}, T = {T}, B = {B}")
    print(
        "width  layers  packed tok/s  TFLOP/s  compiled tok/s  graphed tok/s  loss gap, median and largest  "
        "x compiled  x graphed"
    )
    for r in rows:
        packed, compiled, graphed = (r[f"{n}_tokens_per_s"] for n in ("packed", "compiled", "graphed"))
        print(
            f"{r['width']:5}  {r['layers']:6}  {packed:12,.0f}  {r['packed_tflops']:7.1f}  {compiled:14,.0f}  "
            f"{graphed:13,.0f}  {max(r['loss_gap_compiled'][0], r['loss_gap_graphed'][0]):19.4f}, "
            f"{max(r['loss_gap_compiled'][1], r['loss_gap_graphed'][1]):7.4f}  "
            f"{packed / compiled:10.1f}  {packed / graphed:9.2f}"
        )


if __name__ == "__main__":
    main()

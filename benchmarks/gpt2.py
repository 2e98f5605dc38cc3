"""One GPT-2 of 124 M parameters on one GPU: tokens a second, against plain blocks under autocast and `torch.compile`.

    python benchmarks/gpt2.py [--batch 64] [--steps 200] [--tokens TOKENS.npy] [--attention cudnn] [--json FILE]

Both keep single-precision master weights and AdamW moments and compute in bf16. Both train the same sequences from
the same weights; the loss after `--steps` steps is compared. FLOPs per token are 6 N + 12 L H K T with the head
(0.857 GFLOP); MFU is against the 989 TFLOP/s of an H100's data sheet. The ratio is printed last.
"""

import argparse
import contextlib
import json

import numpy as np
import torch
from plain_gpt import PlainGPT, PlainTraining, seconds_a_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from memscape.data import split_corpus
from memscape.models import ModelConfig, build, flops, parameters
from memscape.models.packed import initialise
from memscape.training.config import RunConfig
from memscape.training.step import PackedStep, begin

T, PEAK = 1024, 989e12
RATE = 2e-4
"""Without warm-up 6e-4 makes spikes, and after a spike two runs of the same code differ by 0.05."""


def sequences(path: str | None) -> torch.Tensor:
    """Return real text as rows of T tokens: a file of token ids, else the shipped sample in bytes."""
    tokens = np.load(path) if path else np.asarray(split_corpus("sample", "bytes", T).train.tokens).ravel()
    n = len(tokens) // T
    return torch.from_numpy(tokens[: n * T].astype(np.int64)).view(n, T)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--tokens")
    options.add_argument("--attention", choices=["cudnn"], help="cuDNN's attention for both; else PyTorch's choice")
    options.add_argument("--json")
    chosen = options.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpt2.py needs a GPU.")
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION) if chosen.attention else contextlib.nullcontext():
        compare(chosen)


def compare(chosen: argparse.Namespace) -> None:
    """Train both, print and keep what came out."""
    config = ModelConfig(vocab_size=50_304, seq_len=T, d_model=768, n_layers=12, n_heads=12)
    run = RunConfig(
        run_id="gpt2", model=config, n_tokens=1, steps=10**6, batch_size=chosen.batch, learning_rate=RATE,
        schedule="constant", warmup=1,
    )  # fmt: skip
    rows = sequences(chosen.tokens).cuda()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).cuda()
    at = torch.arange(chosen.steps * chosen.batch, device="cuda").view(chosen.steps, chosen.batch) % len(rows)
    batches = [rows[order[i]] for i in at]

    model = build(config)
    initialise(model, [0])
    first = {name: p[0].detach().clone() for name, p in model.named_parameters()}
    per_token, results = flops(config).train, {}

    def run_through(name: str, advance, loss_of) -> None:
        """Train all batches, then time the step; print and keep what came out."""
        losses = []
        for batch in batches:
            advance(batch)
            losses.append(loss_of().clone())
        rate = chosen.batch * T / seconds_a_call(lambda: advance(batches[0]), 5, windows=3)
        curve = torch.stack(losses).tolist()
        last = sum(curve[-20:]) / 20
        results[name] = {"tokens_per_s": rate, "mfu": rate * per_token / PEAK, "loss": last, "losses": curve}
        print(f"{name:9} {rate:9,.0f} tokens/s  MFU {rate * per_token / PEAK:.1%}  last 20 losses {last:.4f}",
              flush=True)  # fmt: skip

    step = PackedStep(model.cuda(), [run], bos=50_256, bf16=True, compiled=True)
    run_through("memscape", lambda batch: step(batch[None]), lambda: step.loss_P[0])
    step = model = None
    torch.cuda.empty_cache()
    plain = PlainTraining(PlainGPT(config).take(first).cuda(), RATE, compiled=True, graph=False, bf16=True)
    run_through("plain", lambda batch: plain(begin(batch, 50_256), batch), lambda: plain.loss)

    device = torch.cuda.get_device_name()
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(results | {"device": device, "batch": chosen.batch, "n_params": parameters(config).total}, file)
    ours, theirs = results["memscape"], results["plain"]
    gap = ours["loss"] - theirs["loss"]
    print(f"loss after {chosen.steps} steps differs by {gap:+.4f} nats/token; {device}, batch {chosen.batch}")
    print(f"memscape / plain: {ours['tokens_per_s'] / theirs['tokens_per_s']:.3f}")


if __name__ == "__main__":
    main()

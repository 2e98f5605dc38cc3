"""How fast is a text memorised, by initial scale of the weights and learning rate, at three widths?

    python benchmarks/initial_weights.py [--steps 800]

Prints the share of the data's bits that is memorised, for 0.02 (GPT-2's scale at any width) and 0.02 sqrt(768 /
d_model) (memscape's), at rates of 0.5, 1, 2 and 4 times 0.005 sqrt(64 / d_model). Some ten minutes on two CPU cores.
"""

import argparse
import math
import tempfile
from pathlib import Path

import torch

from memscape.models import build, scaled
from memscape.models.packed import initialise
from memscape.training import Plan
from memscape.training.results import COLUMNS
from memscape.training.step import PackedStep
from memscape.training.trainer import Packed, evaluation_steps, prepare

CASES = ((16, 4_096), (32, 8_192), (64, 16_384))


def shares(width: int, n_tokens: int, steps: int, scale: float, folder: Path) -> list[float]:
    """Return the memorised share at each of four rates, all weights multiplied by `scale` at the start."""
    rates = [0.005 * math.sqrt(64 / width) * factor for factor in (0.5, 1, 2, 4)]
    plan = Plan.grid(
        "initial", [scaled(width, vocab_size=264)], [n_tokens], rates, steps=lambda model, n: steps,
        batch_size=8, evaluations=8, n_evaluated=64,
    )  # fmt: skip
    runs = list(plan.runs)
    split = prepare(runs[0], folder, n_tokens)
    model = build(runs[0].model, len(runs))
    initialise(model, [run.seed for run in runs])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter *= scale
    work = Packed(runs, [split] * len(runs), PackedStep(model, runs, split.tokenizer.bos_id))
    for step in evaluation_steps(runs[0]):
        work.advance(step)
        work.evaluate()
    history = torch.stack(work.history)
    found = []
    for p in range(len(runs)):
        reference = history[:, p, COLUMNS.index("fresh_loss")].min().item()
        train = history[-1, p, COLUMNS.index("train_loss")].item()
        found.append((reference - train) / (reference - work.floors[p]))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=800)
    chosen = options.parse_args()
    print("width       D   0.02: x 0.5, 1, 2, 4            0.02 sqrt(768 / d): x 0.5, 1, 2, 4")
    with tempfile.TemporaryDirectory() as folder:
        for width, n_tokens in CASES:
            cells = []
            for scale in (1 / math.sqrt(768 / width), 1.0):
                cells.append(", ".join(f"{s:.2f}" for s in shares(width, n_tokens, chosen.steps, scale, Path(folder))))
            print(f"{width:5}  {n_tokens:6}   {cells[0]:28}    {cells[1]}", flush=True)


if __name__ == "__main__":
    main()

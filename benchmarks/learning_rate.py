"""Is the default learning rate right at three widths, and does it depend on the initial scale of the weights?

    python benchmarks/learning_rate.py [--steps 800] [--widths 16 32 64]

Prints the share of the bits of 256 d_model tokens that is memorised at 1/4, 1/2, 1, 2 and 4 times the rule of
`recipes.rates`, for memscape's initial weights, 0.02 sqrt(768 / d_model), and for GPT-2's 0.02 at any width; the best
of each row has a star. The recipes try half, once and twice the rule: the star should stand there. Some five minutes
on two CPU cores.
"""

import argparse
import math
import tempfile
from pathlib import Path

import torch

from memscape.models import build, scaled
from memscape.models.packed import initialise
from memscape.training import Plan
from memscape.training.recipes import rates
from memscape.training.results import COLUMNS
from memscape.training.step import PackedStep
from memscape.training.trainer import Packed, evaluation_steps, prepare

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def shares(width: int, steps: int, scale: float, folder: Path) -> list[float]:
    """Return the memorised share at each factor of the rule, all weights multiplied by `scale` at the start."""
    plan = Plan.grid(
        "rates", [scaled(width, vocab_size=264)], [256 * width], lambda model: rates(model, FACTORS),
        steps=steps, batch_size=8, evaluations=8, n_evaluated=64,
    )  # fmt: skip
    runs = list(plan.runs)
    split = prepare(plan, runs[0], folder)
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
    best_fresh_P = history[:, :, COLUMNS.index("fresh_loss")].amin(0)
    train_P = history[-1, :, COLUMNS.index("train_loss")]
    return ((best_fresh_P - train_P) / (best_fresh_P - torch.tensor(work.floors))).tolist()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=800)
    options.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    chosen = options.parse_args()
    print("share memorised at these multiples of the rule")
    print("width       D    rate  initial weights       " + "".join(f"{factor:>8g}" for factor in FACTORS))
    with tempfile.TemporaryDirectory() as folder:
        for width in chosen.widths:
            (rule,) = rates(scaled(width, 264), (1.0,))
            for name, scale in (("0.02 sqrt(768 / d)", 1.0), ("0.02", 1 / math.sqrt(768 / width))):
                found = shares(width, chosen.steps, scale, Path(folder) / str(width))
                cells = "".join(f"{share:7.2f}{'*' if share == max(found) else ' '}" for share in found)
                print(f"{width:5}  {256 * width:6}  {rule:.4f}  {name:20}  {cells}", flush=True)


if __name__ == "__main__":
    main()

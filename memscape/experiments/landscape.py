"""Landscape: has the training loss, followed over data size at a fixed model, the minimum that Proposition 4 predicts?

The paper's L = u + e^-u, u = ln(D / D_opt), has the value 1 at its minimum and rises on both sides: by 0.193 at twice
and 0.307 at half the data. The alternative is monotone: from the floor ln d / T of a set that fits, up to what a model
that stores nothing has, as its capacity fills. Here one shape is trained on two decades of D, on random tokens and on
text. An illustration without verdict goes to surface.json: the loss around one trained model in weight space, along a
random direction, the direction of largest curvature, and the line to the model of another seed.
"""

import math
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch.nn.attention import SDPBackend, sdpa_kernel

from memscape.data import split_corpus
from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over
from memscape.folder import write_json
from memscape.models import scaled
from memscape.models.pretrained import load
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates
from memscape.training.step import begin, token_losses

V = 64

DECADES = 2

CRITERIA = (
    Criterion(
        name="interior", claim="C20", quantity="training loss at the least data minus the lowest, random tokens",
        low=0.1, fewest=2, sentence="The loss rises towards less data, as ln Z + 1/Z does on one side of its minimum.",
    ),
    Criterion(
        name="interior-text", claim="C20", quantity="the same on text", low=0.1, fewest=2,
        sentence="So it does on text.",
    ),
    Criterion(
        name="lowest", claim="C21", quantity="lowest training loss over all data sizes, random tokens", low=1.0,
        fewest=2, sentence="It stays above 1.",
    ),
    Criterion(
        name="predicts", quantity="error of u + e^-u minus error of a filling memory, on the data size left out",
        high=0.0, fewest=2, sentence="u + e^-u says what a size left out will show, better than a memory that fills.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return one shape on data sizes over two decades, of random tokens and of text."""
    width, length, first, points, steps, batch, n_seeds = {
        "smoke": (16, 16, 128, 5, 150, 16, 2),
        "laptop": (32, 32, 640, 9, 1_500, 16, 3),
        "gpu": (128, 64, 20_480, 9, 5_000, 64, 3),
        "paper": (768, 1_024, 10_240_000, 9, 50_000, 64, 5),
    }[setting.scale]
    grid = np.geomspace(first, first * 10**DECADES, points)
    sizes = [round(float(n) / length) * length for n in grid]
    runs = []
    for (arm, corpus, tokenizer, vocabulary), n_tokens, seed in product(
        (("random", f"random:{V}", "ids", V + 1), ("text", setting.corpus, "bytes", 264)), sizes, setting.seeds(n_seeds)
    ):
        model = scaled(width, vocabulary, length)
        runs.append(
            RunConfig(
                run_id=f"{arm}-D{n_tokens}-s{seed}", model=model, corpus=corpus, tokenizer=tokenizer, n_tokens=n_tokens,
                data_seed=setting.seed, seed=seed, steps=steps, batch_size=batch, warmup=20, evaluations=5,
                learning_rate=rates(model, (1.0,))[0], n_evaluated=64 if setting.scale == "smoke" else 256,
            )
        )  # fmt: skip
    return Plan.of(runs, name="landscape", pack_size=1 if setting.scale == "paper" else 10)


def measure(work: Work) -> dict[str, Finding]:
    """Return where the loss over D is lowest, and which of the two formulas says what was left out."""
    arms = {arm: _by_seed(work.arm(arm)) for arm in ("random", "text")}
    rises = {arm: over([c[0]["train_loss"] - _least(c) for c in curves], "nats/token") for arm, curves in arms.items()}
    lowest = over([_least(c) for c in arms["random"]], "nats/token")
    paper = over([left_out(c, proposition_4) for c in arms["random"]], "nats/token")
    filling = over([left_out(c, memory) for c in arms["random"]], "nats/token")
    worse = over([left_out(c, proposition_4) - left_out(c, memory) for c in arms["random"]], "nats/token")
    write_json(work.out / "surface.json", surface(work))
    shown = {
        arm: ", ".join(
            f"{np.mean([r['train_loss'] for r in rows]):.2f} at {rows[0]['n_tokens']:,}"
            for rows in zip(*curves, strict=True)
        )
        for arm, curves in arms.items()
    }
    return {
        "interior": Finding(
            rises["random"],
            f"Training loss of one shape on random tokens: {shown['random']}; its floor goes from "
            f"{arms['random'][0][0]['floor']:.2f} to {arms['random'][0][-1]['floor']:.2f}.",
        ),
        "interior-text": Finding(rises["text"], f"On text: {shown['text']}."),
        "lowest": Finding(lowest, f"The lowest is {lowest.value:.3f} nats/token."),
        "predicts": Finding(
            worse,
            f"Sizes left out are missed by {paper.value:.2f} nats/token with u + e^-u, by {filling.value:.2f} with a "
            "memory that fills, one free constant each.",
        ),
    }


def _by_seed(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return one curve a seed, by growing D."""
    seeds = sorted({row["seed"] for row in rows})
    return [sorted((r for r in rows if r["seed"] == s), key=lambda r: r["n_tokens"]) for s in seeds]


def _least(curve: list[dict[str, Any]]) -> float:
    return min(row["train_loss"] for row in curve)


def proposition_4(row: dict[str, Any], ln_d: float) -> float:
    """Return u + e^-u with u = ln(D / D_opt), nats/token (Niu et al., Prop. 4)."""
    u = math.log(row["n_tokens"]) - ln_d
    return u + math.exp(min(-u, 50.0))


def memory(row: dict[str, Any], ln_c: float) -> float:
    """Return ln V - M / D where M = (b^-2 + C^-2)^-1/2 nats fill a memory of C nats, b = D (ln V - floor)."""
    most = row["uniform_loss"] - row["floor"]
    held = (row["n_tokens"] * most) ** -2 + math.exp(-2 * ln_c)
    return row["uniform_loss"] - held**-0.5 / row["n_tokens"]


def left_out(curve: list[dict[str, Any]], formula: Any) -> float:
    """Return the rms error on each data size of a formula whose one constant was fitted to all others."""
    errors = []
    for i, row in enumerate(curve):
        rest = [r for r in curve if r is not curve[i]]

        def cost(x: float, rest: list = rest) -> float:
            return sum((formula(r, x) - r["train_loss"]) ** 2 for r in rest)

        starts = np.linspace(0, 25, 101)
        best = float(starts[int(np.argmin([cost(float(x)) for x in starts]))])
        found: Any = minimize_scalar(cost, bounds=(best - 0.5, best + 0.5), method="bounded")
        errors.append(formula(row, float(found.x)) - row["train_loss"])
    return float(np.sqrt(np.mean(np.square(errors))))


def surface(work: Work, points: int = 21) -> dict[str, Any]:
    """Return the training loss around one run in weight space along three directions, nats/token.

    `random`: filter by filter as long as the weights (Li et al., arXiv 1712.09913); `curvature`: the top eigenvector of
    the Hessian by power iteration, as long; `interpolation`: 0 is this run, 1 the run of another seed.
    """
    middle = _by_seed(work.arm("random"))
    row, other = (curve[len(curve) // 2] for curve in middle[:2])
    split = split_corpus(row["corpus"], "ids", row["seq_len"], row["data_seed"], row["n_tokens"])
    targets = torch.from_numpy(np.asarray(split.train.tokens[:64], dtype=np.int64)).to(work.device)
    model, there = (load(str(work.out / "runs" / r["run_id"]), device=work.device).model for r in (row, other))
    weights = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in weights]
    inputs = begin(targets, split.tokenizer.bos_id)

    def loss() -> torch.Tensor:
        return token_losses(model(inputs).logits[None], targets[None]).mean()

    def along(direction: list[torch.Tensor], ends: tuple[float, float]) -> dict[str, list[float]]:
        x, y = np.linspace(*ends, points).tolist(), []
        with torch.no_grad():
            for a in x:
                for p, here, d in zip(weights, start, direction, strict=True):
                    p.copy_(here + a * d)
                y.append(float(loss()))
            for p, here in zip(weights, start, strict=True):
                p.copy_(here)
        return {"x": x, "loss": y}

    generator = torch.Generator().manual_seed(work.setting.seed)
    drawn = [torch.randn(p.shape, generator=generator).to(p) for p in weights]
    chance = [
        d * p.norm(dim=-1, keepdim=True) / d.norm(dim=-1, keepdim=True) for d, p in zip(drawn, start, strict=True)
    ]
    value, top = curvature(loss, weights, drawn)
    length = math.sqrt(sum(float(p.square().sum()) for p in start))
    return {
        "run": row["run_id"], "largest_curvature": value, "random": along(chance, (-1.0, 1.0)),
        "curvature": along([d * length for d in top], (-0.1, 0.1)),
        "interpolation": along([q.detach() - p for p, q in zip(start, there.parameters(), strict=True)], (-0.25, 1.25)),
    }  # fmt: skip


def curvature(loss: Any, weights: list[torch.Tensor], start: list[torch.Tensor], steps: int = 20) -> tuple[float, list]:
    """Return the largest eigenvalue of the Hessian in magnitude and its unit eigenvector, by power iteration."""
    direction, value = start, 0.0
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        for _ in range(steps):
            norm = math.sqrt(sum(float(d.square().sum()) for d in direction))
            direction = [d / norm for d in direction]
            first = torch.autograd.grad(loss(), weights, create_graph=True)
            slope = torch.stack([(g * d).sum() for g, d in zip(first, direction, strict=True)]).sum()
            turned = [g.detach() for g in torch.autograd.grad(slope, weights)]
            value = float(sum((g * d).sum() for g, d in zip(turned, direction, strict=True)))
            if not any(bool(g.any()) for g in turned):
                break
            direction = turned
    norm = math.sqrt(sum(float(d.square().sum()) for d in direction))
    return value, [d / norm for d in direction]


EXPERIMENT = Experiment(
    name="landscape",
    question="Has the training loss over data size the interior minimum of Proposition 4?",
    criteria=CRITERIA,
    minutes={"smoke": 0.2, "laptop": 5, "gpu": 3},
    plan=plan,
    measure=measure,
)

"""z-loss: does a penalty on the output layer's normaliser move the floor of the cross-entropy?

The paper's Remark 2 says that z-loss and normalisation change its bound; it reports no run. Auxiliary loss: λ (ln Z)²,
Z = Σ_v exp(logit_v). Taking ln Z off all logits leaves the cross-entropy where it was and empties the penalty, so the
least of both together is the least cross-entropy (a check of C30 shows it). Here it is trained: a few random sequences
are memorised under several λ, cross-entropy and penalty are read apart, and weight decay is the contrast that does move
the loss. Label smoothing, the other contrast, is not in the trainer.
"""

import math
from itertools import product
from typing import Any

import numpy as np
import torch

from memscape.data import split_corpus
from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over
from memscape.models import scaled
from memscape.models.pretrained import load
from memscape.training import Plan, RunConfig
from memscape.training.step import begin

V = 64

STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2)
"""λ of the runs; 1e-4 is PaLM's."""

DECAY = 30.0
"""Weight decay of the contrast, times the learning rate a step: AdamW then holds weights below about 1 / DECAY."""

MOVED = 0.02
"""A floor that moves by less than this, nats/token, has not moved."""

CRITERIA = (
    Criterion(
        name="moved", claim="C30", quantity="largest change of the training loss by any λ", low=MOVED,
        sentence="z-loss changes how low the training loss can go.",
    ),
    Criterion(
        name="active", quantity="rms of ln Z under the largest λ, over the same without", high=0.5,
        sentence="The penalty acts: it takes away half of ln Z or more.",
    ),
    Criterion(
        name="decay", quantity="change of the training loss by weight decay", low=MOVED,
        sentence="The contrast moves the loss, so a move would have been seen.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return runs that differ in λ, and the contrast in weight decay, on one small set of random sequences."""
    width, length, n, steps, n_seeds = {
        "smoke": (24, 16, 16, 150, 3),
        "laptop": (48, 32, 64, 500, 3),
        "gpu": (128, 64, 64, 2_000, 8),
        "paper": (768, 256, 512, 20_000, 8),
    }[setting.scale]
    arms: list[tuple[str, dict[str, Any]]] = [(f"z{strength:g}", {"z_loss": strength}) for strength in STRENGTHS]
    arms.append(("decay", {"weight_decay": DECAY}))
    return Plan.of(
        (
            RunConfig(
                run_id=f"{name}-s{seed}", model=scaled(width, vocab_size=V + 1, seq_len=length), corpus=f"random:{V}",
                tokenizer="ids", n_tokens=n * length, data_seed=setting.seed, seed=seed, steps=steps,
                batch_size=n, learning_rate=0.01 * math.sqrt(24 / width), warmup=20, evaluations=4, n_evaluated=64,
                **arm,
            )
            for (name, arm), seed in product(arms, setting.seeds(n_seeds))
        ),
        name="z-loss",
        pack_size=1 if setting.scale == "paper" else 10,
    )  # fmt: skip


def measure(work: Work) -> dict[str, Finding]:
    """Return by how much λ and weight decay move the training loss of the same seed, and how far ln Z shrinks."""
    arms = {name: {r["seed"]: r for r in work.arm(name)} for name in [*(f"z{s:g}" for s in STRENGTHS), "decay"]}
    plain, most = arms["z0"], f"z{max(STRENGTHS):g}"

    def change(name: str) -> list[float]:
        return [row["train_loss"] - plain[s]["train_loss"] for s, row in arms[name].items() if s in plain]

    changes = {name: over(map(abs, change(name)), "nats/token") for name in arms if name not in ("z0", "decay")}
    largest = max(changes.values(), key=lambda m: m.value)
    shrunk = over(
        [normaliser(work, row) / normaliser(work, plain[s]) for s, row in arms[most].items() if s in plain], "1"
    )
    decayed = over(change("decay"), "nats/token")
    base, floor = over([r["train_loss"] for r in plain.values()], "nats/token"), next(iter(plain.values()))["floor"]
    each = ", ".join(f"{m.value:.2g} at λ = {name[1:]}" for name, m in changes.items())
    rows = [row for name, runs in arms.items() if name != "decay" for row in runs.values()]
    return {
        "moved": Finding(
            largest,
            f"Without z-loss the training loss ends at {base.value:.4f} nats/token over a floor of {floor:.4f}; "
            f"it changes by {each}.",
            work.unsettled(rows, "train_loss", MOVED / 4),
        ),
        "active": Finding(
            shrunk, f"At λ = {max(STRENGTHS):g} the rms of ln Z is {shrunk.value:.2g} times that without the penalty."
        ),
        "decay": Finding(decayed, f"Weight decay {DECAY:g} moves the loss by {decayed.value:.2g} nats/token."),
    }


@torch.no_grad()
def normaliser(work: Work, row: dict) -> float:
    """Return the root mean square of ln Z over the training tokens of a run, in nats."""
    model = load(str(work.out / "runs" / row["run_id"]), device=work.device).model
    split = split_corpus(row["corpus"], "ids", row["seq_len"], row["data_seed"], row["n_tokens"])
    tokens = torch.from_numpy(np.asarray(split.train.tokens, dtype=np.int64)).to(work.device)
    logits = model(begin(tokens, split.tokenizer.bos_id)).logits
    return float(logits.float().logsumexp(-1).square().mean().sqrt())


EXPERIMENT = Experiment(
    name="z-loss",
    question="Does z-loss move the floor of the cross-entropy?",
    criteria=CRITERIA,
    minutes={"smoke": 0.2, "laptop": 4, "gpu": 1},
    plan=plan,
    measure=measure,
)

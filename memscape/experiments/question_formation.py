"""Question-Formation: is the loss at which the paper's transformers settle a bound of all losses, or this language's?

The paper trains vanilla transformers (width 512, 6 and 10 layers, 2M tokens, the settings of Murty et al.,
arXiv 2305.18741) and sees training losses "stabilize around L = 1, as predicted in Proposition 4" (a figure only). The
grammar's own entropy is 0.9953 nats/token (`theory.grammar`). Here the same runs at 2 to 10 layers stand beside two
that tell the explanations apart: `stream` never sees a line twice, so it can only learn the language, and `few` repeats
so few lines that it can memorise them. At gpu scale there are three of the depths and three passes over the lines.
Murty's epsilon of 1e-7 is 1e-8 here, their linear decay a cosine, and their training lines are drawn anew from the
real mix of templates.
"""

from collections.abc import Iterator
from itertools import product

from memscape.claims.loss import shipped_floor
from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over
from memscape.models import ModelConfig
from memscape.training import Plan, RunConfig

LINE = 23.4
"""Tokens a line, its end included."""

LONGEST = 36
"""Tokens of the longest line the grammar has."""

CRITERIA = (
    Criterion(
        name="below-one", claim="C27", quantity="training loss of models that repeat few lines", low=1.0, fewest=2,
        sentence="No training loss goes under 1, as Proposition 4 says.",
    ),
    Criterion(
        name="near-one", quantity="training loss of the paper's runs", low=0.93, high=1.07, fewest=2,
        sentence="The paper's observation repeats: on its 100,000 lines the training loss settles near 1.",
    ),
    Criterion(
        name="entropy", quantity="held-out loss where no line is repeated, minus the source's entropy", low=-0.03,
        high=0.05, fewest=2, sentence="A model that has memorised nothing settles at the entropy of the grammar.",
    ),
    Criterion(
        name="depth", quantity="training loss of the deepest minus the shallowest model", low=-0.05, high=0.05,
        fewest=2, sentence="Where the loss settles does not depend on depth, as an entropy does not.",
    ),
    Criterion(
        name="stored", claim="C9", quantity="share of the paper's lines that its runs hold", low=0.5, fewest=2,
        sentence="Training stores the samples: at least half of their bits.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return the arms `paper` (its lines, several depths), `stream` (no line twice) and `few` (few lines, often)."""
    gpu = setting.scale in ("gpu", "paper")
    murty = {"width": 512, "depths": (2, 4, 6, 8, 10), "lines": 100_000, "steps": 62_500, "batch": 8, "rate": 1e-4}
    murty["warmup"] = 10_000
    shape = {
        "smoke": {"width": 32, "depths": (1, 2), "lines": 2_500, "steps": 40, "batch": 64, "rate": 8e-3, "warmup": 10},
        "laptop": {
            "width": 96, "depths": (2, 4), "lines": 60_000, "steps": 1_200, "batch": 64, "rate": 2e-3, "warmup": 100,
        },
        "gpu": murty | {"depths": (2, 6, 10), "steps": 37_500},
        "paper": murty,
    }[setting.scale]  # fmt: skip
    few = {"smoke": (48, 64, 140), "laptop": (64, 512, 600)}.get(setting.scale, (128, 1_024, 4_000))
    looks = {"evaluations": 4, "n_evaluated": 32} if setting.scale == "smoke" else {"evaluations": 12}

    def model(width: int, depth: int) -> ModelConfig:
        return ModelConfig(
            family="vanilla", vocab_size=69, seq_len=LONGEST, d_model=width, n_layers=depth, n_heads=4, tied=True
        )  # fmt: skip

    def runs() -> Iterator[RunConfig]:
        common = {
            "corpus": "question-formation", "tokenizer": "words",  "final_rate": 0.02,
            **looks,
        }  # fmt: skip
        depths, steps, batch = shape["depths"], shape["steps"], shape["batch"]
        arms = [("paper", depth, shape["lines"]) for depth in depths]
        arms.append(("stream", depths[len(depths) // 2], steps * batch))
        seeds = setting.seeds(3 if gpu else 2)
        for (arm, depth, lines), seed in product(arms, seeds):
            yield RunConfig(
                run_id=f"{arm}-l{depth}-s{seed}", model=model(shape["width"], depth), n_tokens=int(lines * LINE),
                data_seed=2 * setting.seed + (arm == "stream"), seed=seed, steps=steps, batch_size=batch,
                learning_rate=shape["rate"], warmup=shape["warmup"], **common,
            )  # fmt: skip
        width, lines, steps = few
        for seed in seeds:
            yield RunConfig(
                run_id=f"few-l2-s{seed}", model=model(width, 2), n_tokens=int(lines * LINE), seed=seed,
                data_seed=2 * setting.seed, steps=steps, batch_size=64, learning_rate=4e-3, warmup=30, **common,
            )  # fmt: skip

    return Plan.of(runs(), name="question-formation", pack_size=6 if gpu else 4)


def measure(work: Work) -> dict[str, Finding]:
    """Return where each arm's loss ends, beside the entropy of the grammar and the floor of its own lines."""
    entropy = shipped_floor().sample
    paper, stream, few = work.arm("paper"), work.arm("stream"), work.arm("few")
    depths = sorted({row["n_layers"] for row in paper})
    by_depth = {d: {r["seed"]: r["train_loss"] for r in paper if r["n_layers"] == d} for d in depths}
    floor = over([r["floor"] for r in few], "nats/token")
    settles = work.unsettled(paper, "train_loss")
    settled = over([r["train_loss"] for r in paper], "nats/token", "runs")
    low = over([r["train_loss"] for r in few], "nats/token")
    gap = over([r["fresh_loss"] - entropy for r in stream], "nats/token")
    change = over(
        [by_depth[depths[-1]][s] - loss for s, loss in by_depth[depths[0]].items() if s in by_depth[depths[-1]]],
        "nats/token",
    )
    share = over([r["memorised_share"] for r in paper], "1", "runs")
    return {
        "below-one": Finding(
            low,
            f"{few[0]['n_sequences']:,} lines repeated {few[0]['epochs']:.0f} times are memorised down to "
            f"{low.value:.3f} nats/token over a floor ln d / T of {floor.value:.3f}; their held-out loss is "
            f"{few[0]['fresh_loss']:.2f}.",
        ),
        "near-one": Finding(
            settled,
            f"On {paper[0]['n_sequences']:,} lines, seen {paper[0]['epochs']:.1f} times, {depths[0]} to {depths[-1]} "
            f"layers end at {settled.value:.3f} nats/token; the grammar's entropy is {entropy:.4f}, the "
            f"floor of these lines {paper[0]['floor']:.3f}.",
            settles,
        ),
        "entropy": Finding(
            gap,
            f"Where {stream[0]['n_sequences']:,} lines are seen once the held-out loss ends "
            f"{gap.value:+.2g} nats/token from the entropy {entropy:.4f} of the source, with nothing memorised.",
            work.unsettled(stream),
        ),
        "depth": Finding(
            change,
            f"From {depths[0]} to {depths[-1]} layers the training loss moves by {change.value:+.2g} nats/token.",
            settles,
        ),
        "stored": Finding(
            share,
            f"At its Question-Formation plateau a model holds {share.value:.1%} of the bits of its lines; the control "
            f"that repeats few lines holds {few[0]['memorised_share']:.0%}.",
            settles,
        ),
    }


EXPERIMENT = Experiment(
    name="question-formation",
    question="Is the loss of 1 on Question-Formation a universal bound, or the entropy of that grammar?",
    criteria=CRITERIA,
    minutes={"smoke": 0.3, "laptop": 8, "gpu": 6},
    plan=plan,
    measure=measure,
)

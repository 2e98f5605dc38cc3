"""OpenELM: which exponent γ in N ∝ D*^γ do models on books show, by the paper's criterion and by ours?

The paper trains three OpenELM models (39.95M, 60.26M, 80.20M parameters, 8 layers, GPT-2's tokenizer) on eight shares
of 180M words of SPGC, one seed, and reads D* = min{D : MSE(train, best validation) < 0.04}: N/D*² is nearly constant
(`theory.table3` refits it: 1.90, 1.42 to 2.43 within the grid of D). Here six widths span a factor of 35 in N, two of
them at three depths, with three seeds and eight data sizes each (0.3M to 13M tokens, a step of 1.4). As in the paper
all data sizes of a model are trained on equally many tokens, here 25 times its smallest, and D* is read where the loss
on `fresh` chunks of the training documents is lowest, interpolated; its threshold is swept. Ours is the share of the
bits memorised. Left out: dropout, grouped queries, and a search for the learning rate: the rule of `training.recipes`
gives it, which beat half and twice of it at all six widths on 1M tokens (`results/gpu_grid.csv`, means over seeds).
Feed-forward widths are 1.25 d to the nearest 16. At gpu scale some 67 MB of books are needed.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, vocabulary
from memscape.laws import Fit, fit
from memscape.laws.crossing import CRITERIA as RULES
from memscape.laws.crossing import crossings
from memscape.laws.table import RunTable
from memscape.models import ModelConfig, parameters, scaled
from memscape.theory import table3
from memscape.theory.measure import Measured
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates

HALF = 0.3
"""An interval of γ with a larger half-width decides nothing."""

CRITERIA = (
    Criterion(
        name="gap", claim="C28", quantity="γ by the paper's criterion, D* interpolated", low=2 - HALF, high=2 + HALF,
        widest=HALF, sentence="N grows as the square of D*.",
    ),
    Criterion(
        name="share", quantity="γ where half of the bits are memorised", low=1 - HALF, high=1 + HALF, widest=HALF,
        sentence="The size that memorises half of the data grows in proportion to the data.",
    ),
)  # fmt: skip


class Grid(NamedTuple):
    """The grid of one scale."""

    widths: tuple[int, ...]
    depth: int
    length: int
    """Tokens a sequence."""
    batch: int
    first: int
    """Smallest data size of the smallest model."""
    ratio: float
    """From one data size to the next."""
    n_sizes: int
    passes: int
    """Every run of a model is trained on so many times its smallest data size."""
    n_seeds: int
    tokenizer: str = "bytes"


GRIDS = {
    "smoke": Grid((16, 24, 32), 2, 32, 16, 2_048, 2.0, 3, 30, 1),
    "laptop": Grid((16, 32, 48, 64), 2, 64, 8, 4_096, 2.0, 5, 100, 3),
    "gpu": Grid((48, 64, 96, 160, 224, 288), 4, 128, 16, 300_000, 1.4, 8, 25, 3, "bpe:4096"),
}

GROWTH = 0.4
"""At gpu scale the data sizes of a model of N parameters begin at N to this power: slower than any D* may grow."""


def plan(setting: Setting) -> Plan:
    """Return the runs of `main` (widths), `depth` (other depths at two widths) and `gpt2` (the other tokenizer)."""
    if setting.scale == "paper":
        return Plan.of(_paper(setting), name="openelm", pack_size=1)
    return Plan.of(_runs(setting, GRIDS[setting.scale]), name="openelm", pack_size=24)


def _shape(width: int, depth: int, vocabulary: int, length: int) -> ModelConfig:
    f = 16 * round(1.25 * width / 16)
    return scaled(width, vocabulary, length, "openelm", n_layers=depth, d_ff=f)


def _runs(setting: Setting, grid: Grid) -> Iterator[RunConfig]:
    gpu, smoke = setting.scale == "gpu", setting.scale == "smoke"
    shapes = [("main", width, grid.depth, grid.tokenizer, grid.n_seeds) for width in grid.widths]
    if gpu:
        shapes += [("depth", width, depth, grid.tokenizer, grid.n_seeds) for width in (64, 160) for depth in (2, 8)]
        shapes.append(("gpt2", 96, grid.depth, setting.tokenizer, 1))
    smallest = parameters(_shape(grid.widths[0], grid.depth, 264, grid.length)).n_params
    for arm, width, depth, tokenizer, n_seeds in shapes:
        model = _shape(width, depth, vocabulary(tokenizer), grid.length)
        growth = max(1.0, parameters(model).n_params / smallest) ** GROWTH if gpu else 1.0
        sizes = [int(grid.first * growth * grid.ratio**k) // grid.length * grid.length for k in range(grid.n_sizes)]
        for n_tokens, seed in product(sizes, setting.seeds(n_seeds)):
            yield RunConfig(
                run_id=f"{arm}-d{width}l{depth}-D{n_tokens}-s{seed}", model=model, corpus=setting.corpus,
                tokenizer=tokenizer, n_tokens=n_tokens, data_seed=setting.seed, seed=seed, batch_size=grid.batch,
                steps=round(grid.passes * sizes[0] / (grid.batch * grid.length)), warmup=100 if gpu else 20,
                learning_rate=rates(model, (1.0,))[0], evaluations=8, n_evaluated=48 if smoke else 256,
            )  # fmt: skip


def _paper(setting: Setting) -> Iterator[RunConfig]:
    for model, n_tokens in product(table3.TABLE, table3.GRID):
        heads = tuple(2 * n for n in model.kv_heads)
        shape = ModelConfig(
            family="openelm", vocab_size=50_304, seq_len=table3.SEQ_LEN, d_model=model.d_model, d_head=64,
            n_layers=table3.N_LAYERS, n_heads=heads, n_kv_heads=model.kv_heads,
        )  # fmt: skip
        yield RunConfig(
            run_id=f"main-d{model.d_model}-D{round(n_tokens)}", model=shape, corpus=setting.corpus, seed=setting.seed,
            tokenizer=setting.tokenizer, n_tokens=round(n_tokens), steps=12_000, batch_size=480, dropout=0.1,
        )  # fmt: skip


def measure(work: Work) -> dict[str, Finding]:
    """Return γ by the paper's criterion, interpolated between data sizes, and by memorised bits."""
    rows = [row for arm in ("main", "depth") for row in work.arm(arm)]
    gap, share = fit(rows, "frontier:gap"), fit(rows, "frontier")
    swept = ", ".join(
        f"{v.gamma.value:.2f} at {v.what.removeprefix('threshold ')}" for v in gap.sensitivity
        if v.gamma is not None and v.what.startswith("threshold")
    )  # fmt: skip
    told = f"By other thresholds in nats²: {swept}." if swept else "Other thresholds give no exponent."
    told += "".join(
        f" With embeddings counted in N it is {v.gamma}."
        for v in gap.sensitivity if v.gamma is not None and v.what.endswith("n_params_total")
    )  # fmt: skip
    sizes = len({row["n_params"] for row in rows})
    floor = min(row["train_loss"] - row["floor"] for row in rows)
    early = sum(row["best_fresh_epochs"] < 0.99 * row["epochs"] for row in rows)
    return {
        "gap": Finding(
            _gamma(gap),
            f"{len(rows)} runs of {sizes} sizes, threshold {RULES['gap'].threshold} nats² on the squared gap at the "
            f"lowest held-out loss, which {early} runs had before their end: {gap.verdict} {told}{_other(work, rows)}",
        ),
        "share": Finding(
            _gamma(share), f"{share.verdict} The training loss comes as near as {floor:.2f} nats/token to its floor."
        ),
    }


def _other(work: Work, rows: list[dict[str, Any]]) -> str:
    """What GPT-2's tokenizer makes of the same width, in a sentence."""
    other = work.arm("gpt2")
    if not other:
        return ""
    same = [row for row in rows if row["d_model"] == other[0]["d_model"] and row["n_layers"] == other[0]["n_layers"]]
    return f" At width {other[0]['d_model']} D* is {_d_star(same)}, with GPT-2's tokenizer {_d_star(other)}."


def _d_star(rows: list[dict[str, Any]]) -> str:
    """D* of one size by the paper's criterion, in words."""
    found = crossings(RunTable.read(rows), RULES["gap"], RULES["gap"].threshold)[0]
    return f"{found.d_star:,.0f} tokens" if found.censored == "no" else found.censored


def _gamma(found: Fit) -> Measured:
    """Return the exponent; without one n is the number of sizes that cross. An end that is no number is open."""
    gamma = found.params.get("gamma", Measured(value=0.0, unit="1", n=min(found.n, 2)))
    ends = [end if end is not None and math.isfinite(end) else None for end in (gamma.low, gamma.high)]
    return gamma.model_copy(update={"low": ends[0], "high": ends[1]})


EXPERIMENT = Experiment(
    name="openelm",
    question="Does N grow as the square of the data at which overfitting ends?",
    criteria=CRITERIA,
    minutes={"smoke": 0.2, "laptop": 5, "gpu": 20},
    plan=plan,
    measure=measure,
)

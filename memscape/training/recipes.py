"""Recipes: a run is a named function that returns a whole plan; its docstring tells command, time, what to expect."""

from collections.abc import Callable

from memscape.errors import unknown
from memscape.models.config import ModelConfig
from memscape.models.sizing import scaled
from memscape.training.plan import Plan


def laptop(corpus: str = "sample", *, tokenizer: str = "bytes", seeds: tuple[int, ...] = (0,)) -> Plan:
    """Return 60 runs for two CPU cores: 4 sizes (N = 7k to 100k) x 5 data sizes (D = 4k to 64k tokens) x 3 rates.

    memscape sweep laptop --corpus book.txt --out runs/book

    The smallest sets are memorised close to their floor by the larger models, the largest are not.
    """
    return Plan.grid(
        "laptop",
        [scaled(width, vocab_size=264, seq_len=64) for width in (16, 24, 40, 64)],
        n_tokens=(4_096, 8_192, 16_384, 32_768, 65_536),
        learning_rates=rates,
        seeds=seeds,
        steps=lambda model, n_tokens: round(300 * (n_tokens / 4_096) ** 0.5),
        corpus=corpus, tokenizer=tokenizer, batch_size=16, n_evaluated=256, pack_size=3 * len(seeds),
    )  # fmt: skip


def smoke(corpus: str = "sample", *, tokenizer: str = "bytes", seed: int = 0) -> Plan:
    """Return 18 runs of a few seconds: 3 sizes, 3 data sizes, 2 rates; any UTF-8 text of 50 kB will do.

    memscape sweep smoke --out runs/smoke
    """
    return Plan.grid(
        "smoke",
        [scaled(width, vocab_size=264, seq_len=32) for width in (16, 24, 32)],
        n_tokens=(2_048, 4_096, 8_192),
        learning_rates=(5e-3, 1e-2),
        seeds=(seed,),
        steps=lambda model, n_tokens: 120,
        corpus=corpus, tokenizer=tokenizer, data_seed=seed, batch_size=16, warmup=20, evaluations=4, n_evaluated=64,
        pack_size=6,
    )  # fmt: skip


def rates(model: ModelConfig, factors: tuple[float, ...] = (0.5, 1.0, 2.0)) -> list[float]:
    """Return peak learning rates around the rule η = 0.005 sqrt(64 / d_model), which a frontier takes the best of.

    The rule was checked at three widths (benchmarks/learning_rate.py); the best rate lies inside the factors.
    """
    return [float(f"{0.005 * (64 / model.d_model) ** 0.5 * factor:.3g}") for factor in factors]


RECIPES: dict[str, Callable[..., Plan]] = {"laptop": laptop, "smoke": smoke}
"""Name -> recipe."""


def named(name: str) -> Callable[..., Plan]:
    """Return the recipe of that name; an unknown one lists the known."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]

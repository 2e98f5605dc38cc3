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


def gpu(corpus: str = "sample", *, tokenizer: str = "bytes", seeds: tuple[int, ...] = (0, 1)) -> Plan:
    """Return 288 runs for one GPU: 6 widths (N = 150k to 1.6M) x 8 data sizes (64k to 8M) x 3 rates x 2 seeds.

    memscape sweep gpu --corpus books.jsonl --out runs/books      about 20 MB of text; minutes on an H100

    Each run sees ten epochs or 8 M tokens, whichever is more (the smallest sets 24 M), unless it comes within 5 % of its
    floor before. Narrow models are deep: a text of 64k bytes holds some 180 kbit, which no smaller N could memorise.
    """
    depth = {32: 12, 48: 8, 64: 6, 96: 4, 160: 2, 256: 2}
    sizes = [2**k * 1_000 for k in range(6, 14)]

    def tokens(n_tokens: int) -> int:
        return max(10 * n_tokens, 24_000_000 if n_tokens <= 64_000 else 8_000_000)

    def batch(n_tokens: int) -> int:
        return 64 if n_tokens <= 512_000 else 128 if n_tokens <= 1_024_000 else 256

    plans = [
        Plan.grid(
            "gpu",
            [scaled(width, vocab_size=264, n_layers=n_layers) for width, n_layers in depth.items()],
            n_tokens=[n],
            learning_rates=rates,
            seeds=seeds,
            steps=lambda model, n_tokens: -(-tokens(n_tokens) // (batch(n_tokens) * model.seq_len)),
            corpus=corpus, tokenizer=tokenizer, batch_size=batch(n), stop_within=0.05, evaluations=12,
            n_evaluated=1024, warmup=100,
        )
        for n in sizes
    ]  # fmt: skip
    return Plan.join(plans, pack_size=24)


def rates(model: ModelConfig, factors: tuple[float, ...] = (0.5, 1.0, 2.0)) -> list[float]:
    """Return peak learning rates around the rule η = 0.005 sqrt(64 / d_model), which a frontier takes the best of.

    The rule was checked at three widths (benchmarks/learning_rate.py); the best rate lies inside the factors.
    """
    return [float(f"{0.005 * (64 / model.d_model) ** 0.5 * factor:.3g}") for factor in factors]


RECIPES: dict[str, Callable[..., Plan]] = {"gpu": gpu, "laptop": laptop, "smoke": smoke}
"""Name -> recipe."""


def named(name: str) -> Callable[..., Plan]:
    """Return the recipe of that name; an unknown one lists the known."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]

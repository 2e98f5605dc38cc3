"""Recipes: a run is a named function that returns a whole plan; its docstring tells command, time, what to expect."""

from collections.abc import Callable

from memscape.errors import unknown
from memscape.models.config import ModelConfig
from memscape.models.sizing import scaled
from memscape.training.plan import Plan


def laptop(
    corpus: str = "sample", *, tokenizer: str = "bytes", seeds: tuple[int, ...] = (0,), data_seed: int = 0
) -> Plan:
    """Return 60 runs for two CPU cores: 4 sizes (N = 7k to 100k) x 5 data sizes (D = 4k to 64k tokens) x 3 rates.

    memscape sweep laptop --corpus book.txt --out runs/book      about three minutes

    Every model memorises the smallest set close to its floor but the smallest model; none memorises the largest.
    """
    return Plan.grid(
        "laptop",
        [scaled(width, vocab_size=264, seq_len=64) for width in (16, 32, 48, 64)],
        n_tokens=(4_096, 8_192, 16_384, 32_768, 65_536),
        learning_rates=rates,
        seeds=seeds,
        steps=lambda model, n_tokens: round(350 * (n_tokens / 4_096) ** 0.5),
        corpus=corpus, tokenizer=tokenizer, data_seed=data_seed,
        batch_size=8, evaluations=7, n_evaluated=128, pack_size=3 * len(seeds),
    )  # fmt: skip


def smoke(corpus: str = "sample", *, tokenizer: str = "bytes", seed: int = 0) -> Plan:
    """Return 18 runs of a few seconds: 3 sizes, 3 data sizes, 2 rates; any UTF-8 text of 50 kB will do.

    memscape sweep smoke --out runs/smoke
    """
    return Plan.grid(
        "smoke",
        [scaled(width, vocab_size=264, seq_len=32) for width in (16, 24, 32)],
        n_tokens=(2_048, 4_096, 8_192),
        learning_rates=(1e-2, 2e-2),
        seeds=(seed,),
        steps=lambda model, n_tokens: 120,
        corpus=corpus, tokenizer=tokenizer, data_seed=seed, batch_size=16, warmup=20, evaluations=4, n_evaluated=64,
        pack_size=6,
    )  # fmt: skip


def gpu(
    corpus: str = "sample", *, tokenizer: str = "bytes", seeds: tuple[int, ...] = (0, 1), data_seed: int = 0
) -> Plan:
    """Return 288 runs for one GPU: 6 widths (N = 0.2M to 1.6M) x 8 data sizes (64k to 8M) x 3 rates x 2 seeds.

    memscape sweep gpu --corpus books.jsonl --out runs/books --device cuda:0,cuda:0,cuda:0      minutes on an H100

    Wants some 12 MB of text. Each run sees ten epochs or 8 M tokens, whichever is more, and those on the smallest set
    24 M (48 M below width 96), unless it comes within 5 % of its floor before. Narrow models are deep, because 64 kB of
    prose hold some 180 kbit, which a shallow model of width 32 cannot memorise.
    """
    depth = {32: 16, 48: 8, 64: 6, 96: 4, 160: 2, 256: 2}
    sizes = (64_000, 96_000, 128_000, 256_000, 512_000, 1_000_000, 2_000_000, 8_000_000)

    def batch(model: ModelConfig, n_tokens: int) -> int:
        return 64 if n_tokens <= 1_000_000 else 256

    def steps(model: ModelConfig, n_tokens: int) -> int:
        smallest = 24_000_000 if model.d_model >= 96 else 48_000_000
        seen = smallest if n_tokens == sizes[0] else max(8_000_000, 10 * n_tokens)
        return -(-seen // (batch(model, n_tokens) * model.seq_len))

    return Plan.grid(
        "gpu",
        [scaled(width, vocab_size=264, n_layers=n_layers) for width, n_layers in depth.items()],
        n_tokens=sizes,
        learning_rates=rates,
        seeds=seeds,
        steps=steps, batch_size=batch,
        corpus=corpus, tokenizer=tokenizer, data_seed=data_seed,
        stop_within=0.05, evaluations=8, n_evaluated=512, warmup=100, pack_size=24,
    )  # fmt: skip


def rates(model: ModelConfig, factors: tuple[float, ...] = (0.5, 1.0, 2.0)) -> list[float]:
    """Return peak learning rates around the rule η = 0.0075 (64 / d_model)^0.7, which a frontier takes the best of.

    The rule was fitted at widths 16, 32 and 64 (docs/training.md has the losses); the factors enclose the best rate.
    """
    return [float(f"{0.0075 * (64 / model.d_model) ** 0.7 * factor:.3g}") for factor in factors]


RECIPES: dict[str, Callable[..., Plan]] = {"gpu": gpu, "laptop": laptop, "smoke": smoke}
"""Name -> recipe."""


def named(name: str) -> Callable[..., Plan]:
    """Return the recipe of that name; an unknown one lists the known."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]

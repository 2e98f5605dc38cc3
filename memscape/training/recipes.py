"""Recipes: a run is a named function that returns a whole plan. Its docstring tells command, time and what to expect."""

from collections.abc import Callable

from memscape.errors import unknown
from memscape.models.sizing import scaled
from memscape.training.plan import Plan


def smoke(corpus: str = "sample", *, tokenizer: str = "bytes", seed: int = 0) -> Plan:
    """Return 8 runs of a few seconds: 2 sizes, 2 data sizes, 2 rates; any UTF-8 text of 50 kB will do.

    memscape sweep smoke --out runs/smoke
    """
    return Plan.grid(
        "smoke",
        [scaled(width, vocab_size=264, seq_len=32) for width in (16, 32)],
        n_tokens=(2_048, 8_192),
        learning_rates=(3e-3, 1e-2),
        seeds=(seed,),
        steps=lambda model, n_tokens: 150,
        corpus=corpus, tokenizer=tokenizer, data_seed=seed, batch_size=8, warmup=20, evaluations=3, n_evaluated=64,
        pack_size=4,
    )  # fmt: skip


RECIPES: dict[str, Callable[..., Plan]] = {"smoke": smoke}
"""Name -> recipe."""


def named(name: str) -> Callable[..., Plan]:
    """Return the recipe of that name; an unknown one lists the known."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]

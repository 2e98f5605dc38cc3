"""Correlation: are stored patterns well separated, as Assumption 3 has it, when data are correlated and repeated?

The paper assumes disjoint balls of radius sqrt(n / 2πe) around the embedded samples and measures no separation. Three
parts: patterns ρ = sqrt(c) centre + sqrt(1 - c) noise, whose separation shrinks with the correlation c and whose β must
grow to store them; text in which documents are repeated; and the states of a real model on that text as it is, with
copies of half of its documents, and with copies left out, against untrained weights and a Gaussian of the same moments.
At gpu scale that model is trained here, on some 67 MB of text seen once.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import bisect
from torch import Tensor

from memscape.data.corpus import Corpus, open_corpus
from memscape.data.documents import Document
from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over, slope, vocabulary
from memscape.instruments.profile import Compared
from memscape.memory.separation import separation, stored, to_others
from memscape.models import scaled
from memscape.models.pretrained import DEFAULT
from memscape.theory import floors
from memscape.theory.measure import Measured
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates

CORRELATIONS = (0.5, 0.75, 0.9, 0.95, 0.99)

CRITERIA = (
    Criterion(
        name="embedding", claim="C11", quantity="states after the embedding whose ball of the paper's radius is alone",
        low=0.95, sentence="Embedding makes the patterns well separated.",
    ),
    Criterion(
        name="final", claim="C11", quantity="states after the final norm whose ball of the paper's radius is alone",
        low=0.95, sentence="At the end of the model they are.",
    ),
    Criterion(
        name="repeated", quantity="states alone after the final norm where half of the documents have a copy",
        low=0.95, sentence="They are in text with repetitions too.",
    ),
    Criterion(
        name="copies", quantity="separation in that text with copies left out, over that of the plain text", low=0.9,
        high=1.1, fewest=1, sentence="Leaving out copies gives the separation back.",
    ),
    Criterion(
        name="learnt", quantity="separation after the final norm, trained minus untrained", low=0.0,
        sentence="Training drives patterns apart.",
    ),
    Criterion(
        name="beta", quantity="exponent of the β that stores correlated patterns in 1 - c", low=-1.1, high=-0.9,
        sentence="Correlation costs inverse temperature: β grows as 1 / (1 - c).",
    ),
    Criterion(
        name="floor", quantity="floor of text with copies minus that of the multiplicity formula", low=-1e-9, high=1e-9,
        sentence="Copies lower the floor of the loss as the multiplicity formula says.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan | None:
    """Return None, or at gpu scale one GPT-2 shape on the corpus; elsewhere models are looked into, not trained."""
    if setting.scale in ("smoke", "laptop"):
        return None
    gpu = setting.scale == "gpu"
    width, n_tokens, tokenizer = (768, 15_000_000, "bpe:4096") if gpu else (1_600, 9_000_000_000, setting.tokenizer)
    return Plan.of(
        (
            RunConfig(
                run_id=f"d{width}-s{seed}", model=scaled(width, vocabulary(tokenizer), 256),
                corpus=setting.corpus, tokenizer=tokenizer, n_tokens=n_tokens, data_seed=setting.seed, seed=seed,
                steps=round(1.1 * n_tokens / (64 * 256)), batch_size=64,
                learning_rate=rates(scaled(width, 264), (0.5,))[0], evaluations=4, n_evaluated=64,
            )
            for seed in setting.seeds(1)
        ),
        name="correlation",
    )  # fmt: skip


def measure(work: Work) -> dict[str, Finding]:
    """Return separations of a model's states in three kinds of text, and of patterns that are correlated by design."""
    small = work.setting.scale == "smoke"
    own = [row["run_id"] for row in work.runs]
    model = own[-1] if own else work.setting.model or ("stories260K" if small else DEFAULT)
    size, each, length = (1_536, 12, 32) if small else (12_288, 64, 64)
    reading: dict[str, Any] = {
        "instruments": ("separation",), "limit": size, "nulls": size, "queries": 128 if small else 1_024,
        "context": length,
    }  # fmt: skip
    text = openings(open_corpus(work.setting.corpus), each)
    plain = work.probe(model, corpus=text, name=f"{model}-plain", **reading)
    twice = work.probe(model, corpus=repeated(text), name=f"{model}-repeated", **reading)
    first, last, again = plain.layers[0], plain.layers[-1], twice.layers[-1]
    alone = {"embedding": _alone(first.overlap), "final": _alone(last.overlap), "repeated": _alone(again.overlap)}
    untrained, gaussian = _alone(last.overlap, "untrained"), _alone(last.overlap, "inner_gaussian")
    near, fresh, blob = (_of(last.separation, who) for who in ("trained", "untrained", "inner_gaussian"))
    apart, kept = _of(again.separation), _of(again.separation_without_copies)
    wholes = _of(last.separation_without_copies)
    ratio = Measured(
        value=kept.value / wholes.value, unit="1", n=min(kept.n, wholes.n),
        low=(kept.low or 0) / (wholes.high or math.inf), high=(kept.high or math.inf) / (wholes.low or 1),
        interval="ends of both intervals",
    )  # fmt: skip
    learnt = Measured(
        value=near.value - fresh.value, unit=near.unit, n=min(near.n, fresh.n), interval="ends of both intervals",
        low=None if near.low is None or fresh.high is None else near.low - fresh.high,
        high=None if near.high is None or fresh.low is None else near.high - fresh.low,
    )  # fmt: skip
    drawn = [needed(seed) for seed in work.setting.seeds(4)]
    grows = over([_exponent(betas) for betas in drawn], "1", "draws")
    shrinks = {c: d for c, (_, d) in drawn[0].items()}
    floors_of = [copied_floor(seed) for seed in work.setting.seeds(4)]
    found, said = floors_of[0]
    certified = _of(last.well_separated)
    return {
        "embedding": Finding(
            alone["embedding"],
            f"{plain.model['name']}: {alone['embedding'].value:.0%} of the states after the embedding have a ball of "
            "radius sqrt(n / 2πe) to themselves: equal tokens are equal patterns there.",
        ),
        "final": Finding(
            alone["final"],
            f"After the final norm {alone['final'].value:.0%} have, untrained {untrained.value:.0%}, Gaussian "
            f"{gaussian.value:.0%}; at β = 1 {certified.value:.0%} certainly hold a ball of any radius.",
        ),
        "repeated": Finding(
            alone["repeated"],
            f"With a copy of half of the documents {alone['repeated'].value:.0%} have one, and the separation falls "
            f"from {near.value:.2f} to {apart.value:.2f}.",
        ),
        "copies": Finding(
            ratio, f"Copies left out it is {kept.value:.2f} against {wholes.value:.2f} in the plain text."
        ),
        "learnt": Finding(
            learnt,
            f"In units of sqrt(2 spread) the separation is {near.value:.2f}, untrained {fresh.value:.2f}, Gaussian "
            f"{blob.value:.2f}.",
        ),
        "beta": Finding(
            grows,
            f"From c = {CORRELATIONS[0]:g} to {CORRELATIONS[-1]:g} the separation falls from "
            f"{shrinks[CORRELATIONS[0]]:.2f} to {shrinks[CORRELATIONS[-1]]:.2f} and the β that stores half of the "
            f"patterns grows as (1 - c) to the {grows.value:.2f}.",
        ),
        "floor": Finding(
            over([real - formula for real, formula in floors_of], "nats/token", "draws"),
            f"Sequences of which half have a copy: floor {found:.4f} nats/token, by formula {said:.4f}.",
        ),
    }


def openings(text: Corpus, n: int) -> Corpus:
    """Return the first 4,000 characters of the first n documents: little enough that copies are read beside them."""
    documents = tuple(Document(d.title, d.text[:4_000], d.author) for d in text.documents[:n])
    return Corpus(f"{text.name}, openings", documents, text.kind)


def repeated(text: Corpus) -> Corpus:
    """Return the corpus with a copy of every second document, as a document of its own."""
    copies = [Document(f"{d.title} (copy)", d.text, d.author) for d in text.documents[::2]]
    return Corpus(f"{text.name}, half of it twice", (*text.documents, *copies), text.kind)


def needed(seed: int, dim: int = 64, clusters: int = 16, each: int = 16) -> dict[float, tuple[float, float]]:
    """Return correlation -> (β that certainly stores half of the patterns at r = δ/8, their median separation).

    ρ = sqrt(c) centre + sqrt(1 - c) noise, both standard normal of dimension `dim`.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clusters, 1, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(clusters, each, dim, generator=generator, dtype=torch.float64)
    found = {}
    for c in CORRELATIONS:
        patterns = (math.sqrt(c) * centres + math.sqrt(1 - c) * noise).flatten(0, 1)
        away, delta = to_others(patterns), float(separation(patterns).median())

        def lacking(log_beta: float, away: Tensor = away, delta: float = delta) -> float:
            return 0.5 - float(stored(away, delta / 8, math.exp(log_beta)).double().mean())

        beta: Any = bisect(lacking, math.log(1e-3 / delta**2), math.log(1e3 / delta**2), xtol=1e-4)
        found[c] = math.exp(beta), delta
    return found


def _exponent(betas: dict[float, tuple[float, float]]) -> float:
    return slope([math.log(1 - c) for c in betas], [math.log(beta) for beta, _ in betas.values()]).value


def copied_floor(seed: int, n: int = 64, length: int = 16) -> tuple[float, float]:
    """Return the floor of n random sequences of which half occur twice, measured and by (ln d - Σ m ln m / d) / T."""
    rows = np.random.default_rng(seed).integers(0, 1_000, (n, length))
    rows = np.concatenate([rows, rows[: n // 2]])
    d = len(rows)
    return floors.token_floor(rows), (math.log(d) - n / 2 * 2 * math.log(2) / d) / length


def _of(field: Compared | None, who: str = "trained") -> Measured:
    found = None if field is None else getattr(field, who)
    return Measured(value=0.0, unit="1", n=0) if found is None else found


def _alone(overlap: Compared | None, who: str = "trained") -> Measured:
    """Return the share of states whose ball meets no other, from the share whose ball does."""
    m = _of(overlap, who)
    low, high = (None if end is None else 1 - end for end in (m.high, m.low))
    return m.model_copy(update={"value": 1 - m.value, "low": low, "high": high})


EXPERIMENT = Experiment(
    name="correlation",
    question="Are patterns well separated in correlated and repeated data?",
    criteria=CRITERIA,
    minutes={"smoke": 0.2, "laptop": 4, "gpu": 3},
    plan=plan,
    measure=measure,
)

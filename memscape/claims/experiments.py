"""What is known, without a run, about the claims that only experiments decide? Nulls and published tables.

>>> round(gaussian_null().figures["claimed_ratio"], 5)
0.48394
"""

import math
from collections.abc import Callable

import numpy as np

from memscape.claims.evidence import Evidence
from memscape.claims.loss import memorised_loss, shipped_floor
from memscape.theory import bits, table3


# C9
def plateau_memory(plateau: float = 1.0) -> Evidence:
    """Assumption 1: training stores the samples; at the paper's own Question-Formation plateau nothing is stored."""
    found = shipped_floor()
    held = bits.share(
        bits.memorised_bits(1, found.sample, plateau), bits.data_bits(1, found.sample, memorised_loss(found))
    )
    return Evidence(
        sentence=f"At the paper's Question-Formation plateau of {plateau:.2f} nats/token a model holds {held:.0%} of "
        f"its lines: the source alone has {found.sample:.4f}.",
        figures={"memorised_share_at_plateau": held, "source_entropy": found.sample},
    )


def nearest_distance(n: int, m: int, rng: np.random.Generator) -> float:
    """Mean nearest-neighbour distance among m standard Gaussian vectors of dimension n, over up to 500 of them."""
    x = rng.standard_normal((m, n))
    norms = (x * x).sum(1)
    squared = norms[:500, None] + norms[None, :] - 2 * x[:500] @ x.T
    squared[np.arange(500), np.arange(500)] = np.inf
    return float(np.sqrt(squared.min(1)).mean())


# C26
def gaussian_null(
    seed: int = 0, widths: tuple[int, ...] = (256, 512, 1024), m: int = 4000, distance: Callable = nearest_distance
) -> Evidence:
    """The radius of GPT-2 activations is about sqrt(n / 2πe): independent Gaussian vectors follow the same law."""
    rng = np.random.default_rng(seed)
    found = [distance(n, m, rng) for n in widths]
    predicted = [math.sqrt(2 * n) * math.sqrt(1 - math.sqrt(3 * math.log(m) / n)) for n in widths]
    ratios = [d / math.sqrt(n) for d, n in zip(found, widths, strict=True)]
    return Evidence(
        sentence=f"{m} Gaussian vectors of deviation 1 have nearest neighbours at "
        + ", ".join(f"{ratio:.2f} sqrt(n)" for ratio in ratios)
        + f" for n = {', '.join(map(str, widths))}: a square-root law with nothing stored; the paper's ratio is "
        f"{2 / math.sqrt(2 * math.pi * math.e):.4f}.",
        figures={
            "ratios": ratios,
            "over_formula": [d / p for d, p in zip(found, predicted, strict=True)],
            "claimed_ratio": 2 / math.sqrt(2 * math.pi * math.e),
        },
    )


# C28
def table_three_exponent(refit: Callable = table3.refit) -> Evidence:
    """N/D*² is constant over the three OpenELM models: the exponent that the table supports."""
    fit = refit()
    low, high = fit.grid_range
    loose = refit(tuple(table3.data_star(model, 0.045) for model in table3.TABLE))
    return Evidence(
        sentence=f"Table 3 alone: exponent {fit.exponent:.3f} ± {fit.half_width:.2f} (three points), {low:.3f} to "
        f"{high:.3f} within the grid of D, {loose.exponent:.3f} at σ² = 0.045.",
        figures={
            "exponent": fit.exponent,
            "half_width": fit.half_width,
            "grid_low": low,
            "grid_high": high,
            "exponent_threshold_0.045": loose.exponent,
        },
    )


# C32
def gate_geometry(seed: int = 0, gate: float = 0.65, dim: int = 1024, n_keys: int = 10_000) -> Evidence:
    """NeuralDB fires where cos(k, k_j) > γ: the caps of two keys are disjoint only if their cosine is below 2γ² - 1."""
    needed = 2 * gate**2 - 1
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((n_keys, dim), dtype=np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    overlap = float((keys[:200] @ keys.T > needed).mean())
    return Evidence(
        sentence=f"Gate {gate}: an angle under {math.degrees(math.acos(gate)):.3f}°; two keys' caps are disjoint only "
        f"below cosine {needed:.3f}, so even of independent keys {overlap:.0%} of pairs overlap, the nearest decides.",
        figures={"cosine_needed": needed, "overlapping_pairs": overlap},
    )

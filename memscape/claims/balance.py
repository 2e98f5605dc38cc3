"""Does model size have to grow with the square of data size? Claims on Proposition 5 and Table 3.

>>> round(balance_optimum().figures["dimension"], 4)
146.353
"""

import math
from collections.abc import Callable

import numpy as np

from memscape.claims.evidence import Evidence
from memscape.models import ModelConfig, parameters
from memscape.theory import balance, partition, table3

PATTERNS = (1e3, 1e5, 1e8)
PAPER = table3.TABLE[0].geometry
"""The smallest model of Table 3: l = 8, T_max = 1024, d_emb = 954, A = 5.49."""


# C23
def balance_optimum(
    dimension: Callable = balance.dimension, exponent: Callable = balance.exponent, n_patterns: float = 1e5
) -> Evidence:
    """Prop. 5: the optimal size is N = O(D²), because Z = 1: the exact root of Z = 1 is no square."""
    n = dimension(n_patterns, "exact squared")
    log_z = math.log(n_patterns) + partition.log_ball_integral(n, partition.paper_radius(n))
    slope = exponent(n_patterns, "exact squared")
    loose = n_patterns**2 / math.pi
    bounded = all(dimension(d, r) <= d**2 / math.pi for d in PATTERNS for r in balance.READINGS[1:])
    return Evidence(
        premises=abs(log_z) < 1e-8,
        conclusion=abs(slope - 2) < 0.1,
        corrected=bounded,
        sentence=f"At d = {n_patterns:.0e} patterns Z = 1 (ln Z = {log_z:.0e}) needs n = {n:.3f} and local exponent "
        f"{slope:.4f}; the loose bound gives n ≤ d²/π = {loose:.2e}, exponent 2, which all exact roots meet.",
        figures={"dimension": n, "exponent": slope, "loose_dimension": loose},
    )


# C24
def width_scaling(n_params: Callable = balance.n_params) -> Evidence:
    """N ∝ D² under width scaling: with n = T_max d_emb growing through the width, the same argument gives D⁴."""
    tokens = np.geomspace(1e8, 1e11, 13)

    def slope(reading: str) -> float:
        sizes = [n_params(float(d), PAPER, reading, "width") for d in tokens]
        return float(np.polyfit(np.log(tokens), np.log(sizes), 1)[0])

    loose, squared, unsquared = (slope(reading) for reading in balance.READINGS)
    d = float(tokens[0]) / PAPER.seq_len
    filled = math.log(d) - math.log(math.pi * balance.dimension(d, "upper bound")) / 2
    return Evidence(
        premises=abs(filled) < 1e-9,
        conclusion=abs(loose - 2) < 0.1,
        corrected=abs(loose - 4) < 1e-3 and squared < 0.5 and unsquared < 1,
        sentence=f"Exponents fitted to generated (N, D): {loose:.2f} from the volume bound, {squared:.3f} and "
        f"{unsquared:.3f} from the exact integrals.",
        figures={"exponent_upper_bound": loose, "exponent_exact": squared, "exponent_unsquared": unsquared},
    )


# C25
def table_three(prefactor: Callable = table3.prefactor, tolerance: float = 2.0) -> Evidence:
    """Table 3 corroborates Prop. 5: with the theory's own prefactor A l d_emb / (π T³), N/D² should agree."""
    rows = [prefactor(model, d) for model, d in zip(table3.TABLE, table3.PRINTED_D_STAR, strict=True)]
    off = [row.ratio_factor for row in rows]
    data = [row.data_factor for row in rows]
    return Evidence(
        printed=all(1 / tolerance <= factor <= tolerance for factor in off),
        sentence="Predicted N/D² exceeds the reported by "
        + ", ".join(f"×{factor:.3g}" for factor in off)
        + "; the reported D* is "
        + ", ".join(f"×{factor:.0f}" for factor in data)
        + " the predicted D.",
        figures={"least_factor": min(off), "largest_factor": max(off), "factors": off, "data_factors": data},
    )


# C31
def params_constant(count: Callable = parameters, printed: float = 10.0) -> Evidence:
    """A ≈ 10 in N ≈ A l d_emb² for GPT-2: counted, it is 12; 10 needs a feed-forward of three times the width."""

    def const(multiplier: int) -> float:
        config = ModelConfig(
            family="gpt2", vocab_size=50257, seq_len=1024, d_model=1024, n_layers=24, n_heads=16, d_ff=multiplier * 1024
        )
        return count(config).n_params / (24 * 1024**2)

    real, narrow = const(4), const(3)
    return Evidence(
        printed=abs(real - printed) < 0.25,
        amended=abs(real - balance.block_params(1)) < 0.05 and abs(narrow - printed) < 0.05,
        sentence=f"GPT-2 medium (24 layers, width 1024) has A = {real:.3f} with its d_FF = 4 d; d_FF = 3 d would give "
        f"{narrow:.3f}.",
        figures={"A": real, "A_three_times_width": narrow},
    )

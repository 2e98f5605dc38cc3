"""The paper's size-data balance: which model size N does it call for at data size D, in each of its readings?

Niu et al. (arXiv 2405.08707, Prop. 5) conclude N = O(D²) from Z = 1, the minimum of ln Z + 1/Z, and a bound on Z. That
bound gives an upper bound on N and no optimum. The same condition solved exactly, or with width as what grows, gives
other exponents; `reading` and `scaling` name them, and none is the default.

>>> round(dimension(1e5, reading="exact squared"), 3)
146.353
"""

import math

from pydantic import BaseModel, ConfigDict, PositiveFloat
from scipy.optimize import root_scalar

from memscape.errors import PlanError, unknown
from memscape.theory.partition import log_ball_integral, paper_radius

READINGS = ("upper bound", "exact squared", "exact unsquared")
"""How Z = 1 is solved: from the volume bound V ≈ 1/sqrt(πn), or exactly with the squared or unsquared distance."""

SCALINGS = ("frozen", "width")
"""What grows with n = T_max d_emb: nothing (A, l, d_emb, T_max frozen, as the paper has it), or the width d_emb."""


class Geometry(BaseModel):
    """What the paper's N ≈ A l d_emb² and D ≈ T_max d hold fixed."""

    model_config = ConfigDict(frozen=True)

    n_layers: int
    """l"""
    seq_len: int
    """T_max, tokens per sequence."""
    d_model: float = 512
    """d_emb; enters only when it is frozen."""
    params_const: PositiveFloat = 12.0
    """A: 12 for GPT-2 (attention 4, feed-forward of four times the width 8); the paper's ≈ 10 uses three times."""


def log_patterns(n: float, reading: str) -> float:
    """Return ln d, d the number of patterns of dimension n for which Z = d I(r) = 1 at r = sqrt(n / 2πe).

    upper bound: d = sqrt(πn), because Z ≤ d V and V ≈ 1/sqrt(πn). exact squared: ln d ≈ ½ ln(πn) + n/2πe - 0.1245.
    exact unsquared: ln d ≈ ½ ln(πn) + sqrt(n/2πe).
    """
    if reading == "upper bound":
        return math.log(math.pi * n) / 2
    if reading not in READINGS:
        raise unknown("reading", reading, READINGS)
    return -log_ball_integral(n, paper_radius(n), squared=reading == "exact squared")


def dimension(n_patterns: float, reading: str) -> float:
    """Return the dimension n at which d patterns give Z = 1: d²/π, Θ(log d) or Θ(log² d)."""
    if n_patterns < 2:
        raise PlanError(f"expected at least 2 patterns, got {n_patterns:.3g}; give more tokens or a shorter sequence.")
    target = math.log(n_patterns)
    low, high = math.log(0.1), max(3.0, 2 * target)
    found = root_scalar(lambda u: log_patterns(math.exp(u), reading) - target, bracket=(low, high), xtol=1e-13)
    return math.exp(found.root)


def exponent(n_patterns: float, reading: str) -> float:
    """Return the local exponent d ln n / d ln d: 2, or to leading order 1/(½ + n/2πe), 1/(½ + ½ sqrt(n/2πe))."""
    step = 1e-4
    up, down = (dimension(n_patterns * math.exp(s), reading) for s in (step, -step))
    return math.log(up / down) / (2 * step)


def n_params(n_tokens: float, geometry: Geometry, reading: str, scaling: str = "frozen") -> float:
    """Return N for D = T_max d training tokens: (A l d_emb / T_max) n if frozen, (A l / T_max²) n² if the width grows.

    upper bound: N ≤ (A l d_emb / π T³) D², or (A l / π² T⁶) D⁴. exact: O(log D) to O(log⁴ D). An upper bound or a
    condition for Z = 1; in no reading an optimum.
    """
    n = dimension(n_tokens / geometry.seq_len, reading)
    share = geometry.params_const * geometry.n_layers / geometry.seq_len
    if scaling == "frozen":
        return share * geometry.d_model * n
    if scaling == "width":
        return share * n * n / geometry.seq_len
    raise unknown("scaling", scaling, SCALINGS)


def n_params_exponent(n_tokens: float, geometry: Geometry, reading: str, scaling: str = "frozen") -> float:
    """Return the local exponent d ln N / d ln D, from N at two neighbouring D."""
    up, down = (n_params(n_tokens * math.exp(s), geometry, reading, scaling) for s in (1e-4, -1e-4))
    return math.log(up / down) / 2e-4


def block_params(d_model: int, ff_multiplier: float = 4.0) -> float:
    """Return attention and feed-forward weights of one plain layer, (4 + 2 d_FF/d) d²: A d² with A = 12 for GPT-2."""
    return (4 + 2 * ff_multiplier) * d_model**2

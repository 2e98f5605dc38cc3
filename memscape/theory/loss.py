"""The paper's cross-entropy: what do its definitions of the layer energy give, and where does its 1 come from?

Niu et al. (arXiv 2405.08707, Prop. 4) state L ≈ ln Z + 1/Z ≥ 1. The exact loss of a density exp(-E)/∫exp(-E) on its
own patterns ρ is L = ln ∫_Ω exp(-E) + E(ρ). One definition of E throughout gives reading I or II below, and nothing
bounds either; the printed formula takes E(ρ) from one and the integral from the other. What does bound a training loss
is in `floors`.

>>> printed_formula(0.0), round(consistent(n=1024, n_patterns=100_000, r=7.743063), 4)
(1.0, -52.3561)
"""

import math

from scipy.integrate import quad

from memscape.theory.partition import Bounds, log_ball_integral, log_ball_volume


def printed_formula(log_z: float) -> float:
    """Return ln Z + 1/Z (Prop. 4), from ln Z: at least 1, at Z = 1, whatever Z is the loss of.

    For comparison only: no single model has this loss. `notice` is what to print beside it.
    """
    return log_z + _inverse(log_z)


def consistent(n: float, n_patterns: float, r: float, beta: float = 1.0) -> float:
    """Return reading I, E = g throughout: L = ln Z, Z = d I_sq(r), in nats per pattern. Any real number.

    Separated patterns: r ≤ δ/2.
    """
    return math.log(n_patterns) + log_ball_integral(n, r, beta)


def printed_definition(n: float, n_patterns: float, r: float) -> float:
    """Return reading II, E = e^{-g}/Z throughout (as printed before eq. 6), in nats per pattern.

    L = ln ∫_Ω exp(-e^{-g}/Z) + 1/Z; the integral over a ball is V_n(r) ∫_0^1 exp(-e^{-r² v^{2/n}}/Z) dv.
    """
    inverse = _inverse(consistent(n, n_patterns, r))
    if math.isinf(inverse):
        return math.inf
    edge = math.exp(-r * r)

    def weight(s: float) -> float:
        # v = 1 - e^{-s}: where Z is small all the weight lies within Z of the surface, at any scale of s
        rise = math.expm1(-r * r * math.expm1(2 / n * math.log1p(-math.exp(-s))))
        return math.exp(-s - edge * inverse * rise)

    mean, _ = quad(weight, 1e-15, 120 + math.log1p(inverse), epsabs=0, epsrel=1e-11, limit=500)
    return math.log(n_patterns) + log_ball_volume(n, r) + math.log(mean) + (1 - edge) * inverse


def printed_definition_range(n: float, n_patterns: float, r: float) -> Bounds:
    """Return [ln |Ω|, ln |Ω| + 1/Z], where reading II must lie."""
    volume = math.log(n_patterns) + log_ball_volume(n, r)
    return volume, volume + _inverse(consistent(n, n_patterns, r))


def notice(floor: float, tokenizer: str) -> str:
    """Return the sentence to print wherever ln Z + 1/Z is shown beside a loss; `floor` in nats/token."""
    return (
        "ln Z + 1/Z ≥ 1 is a property of a formula in Niu et al. (arXiv 2405.08707, Prop. 4) that combines two "
        "different definitions of the layer energy. It is reported for comparison only. The valid floor for the "
        f"training loss on this dataset is {floor:.4f} nats/token (empirical entropy, tokenizer {tokenizer}). "
        "The floor for held-out loss is the entropy of the source, which is unknown."
    )


def _inverse(log_z: float) -> float:
    """1/Z, infinite where float64 has no number for it."""
    return math.exp(-log_z) if log_z > -700 else math.inf

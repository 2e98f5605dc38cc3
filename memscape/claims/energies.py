"""Does what the paper says about its energies hold? Claims on Propositions 1 to 3, convexity and attention.

Every formula a check relies on is one of its keyword arguments, so that a planted one is seen to change the verdict.

>>> nearest_bracket(n=800).printed
True
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from memscape.claims.draws import draws
from memscape.claims.evidence import Evidence
from memscape.memory import energies

MANY, SOME = 20_000, 5_000
"""Random memories per statement."""


def _sq_norm(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def _mchn_level(x: Tensor, patterns: Tensor, beta: float, mchn=energies.mchn_energy) -> Tensor:
    """2 E_MCHN at inverse temperature 2β, the paper's 2 E_MCHN^{β=2} at β = 1."""
    return 2 * mchn(x, patterns, 2 * beta)


# C1
def nearest_bracket(
    seed: int = 0,
    n: int = MANY,
    energy: Callable = energies.distance_energy,
    lower: Callable = lambda g, m, beta: g - math.log(m) / beta,
    upper: Callable = lambda g, m, beta: g,
) -> Evidence:
    """Proposition 1: g - log d ≤ E ≤ g, at β = 1 as printed and at any β."""
    printed = general = touching = 0
    for draw in draws(n, seed):
        ordered = energies.squared_distances(draw.states, draw.patterns).sort(-1).values
        g = ordered[:, 0]
        for beta in (1.0, draw.beta):
            E = energy(draw.states, draw.patterns, beta)
            low, high = lower(g, draw.n_patterns, beta), upper(g, draw.n_patterns, beta)
            wrong = int(((low > E + draw.tolerance) | (high < E - draw.tolerance)).sum())
            printed, general = (printed + wrong, general) if beta == 1 else (printed, general + wrong)
            if draw.n_patterns > 1:  # strict, where float64 can tell: the second pattern's share is above 1e-4
                seen = beta * (ordered[:, 1] - g) < 9
                touching += int((seen & (high - 1e-6 / beta <= E)).sum())
    ring = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    centre = torch.zeros(2, dtype=torch.float64)
    slack = float(energy(centre, ring, 1.0) - lower(energies.nn_energy(centre, ring), 4, 1.0))
    return Evidence(
        printed=printed == 0,
        corrected=general == 0 and touching == 0 and abs(slack) < 1e-12,
        sentence=f"{printed} / {n} violations at β = 1, {general} / {n} at random β; the right side is strict, the "
        "left an equality at equal distances.",
        figures={"violations": printed, "violations_any_beta": general, "draws": n, "slack_equal_distances": slack},
    )


# C2
def mchn_bracket(
    seed: int = 0,
    n: int = MANY,
    mchn: Callable = energies.mchn_energy,
    lower: Callable = lambda gap: torch.zeros_like(gap),
    upper: Callable = lambda gap: gap,
) -> Evidence:
    """Proposition 2: |E - (2 E_MCHN - log d)| ≤ Δ; in truth 0 ≤ (2 E_MCHN - log(d)/β) - E ≤ Δ."""
    printed = general = 0
    equal = 0.0
    for draw in draws(n, seed):
        gap = draw.norm_gap
        for beta in (1.0, draw.beta):
            E = energies.distance_energy(draw.states, draw.patterns, beta)
            excess = _mchn_level(draw.states, draw.patterns, beta, mchn) - math.log(draw.n_patterns) / beta - E
            if beta == 1:
                printed += int((excess.abs() > gap + draw.tolerance).sum())
            general += int(((excess < lower(gap) - draw.tolerance) | (excess > upper(gap) + draw.tolerance)).sum())
            if draw.geometry == "sphere":
                equal = max(equal, float((excess.abs() / (draw.tolerance * 1e9)).max()))
    return Evidence(
        printed=printed == 0,
        corrected=general == 0 and equal < 1e-8,
        sentence=f"{printed} / {n} violations; one-sided at any β: {general} / {2 * n}; equal norms: equality to "
        f"{equal:.0e}.",
        figures={"violations": printed, "violations_one_sided": general, "equal_norms_error": equal, "draws": n},
    )


# C3
def nearest_mchn_bracket(
    seed: int = 0,
    n: int = MANY,
    mchn: Callable = energies.mchn_energy,
    printed: Callable = lambda gap, m: (-gap, gap + math.log(m)),
    corrected: Callable = lambda gap, m, beta: (torch.zeros_like(gap), gap + math.log(m) / beta),
) -> Evidence:
    """Proposition 3: -Δ ≤ g - 2 E_MCHN ≤ Δ + log d, printed with its sides the wrong way round."""

    def outside(value: Tensor, bounds: tuple[Tensor, Tensor], tolerance: Tensor) -> Tensor:
        return (value < bounds[0] - tolerance) | (value > bounds[1] + tolerance)

    fails = fails_equal_norms = general = 0
    clouds = []
    for draw in draws(n, seed):
        g, gap, m = energies.nn_energy(draw.states, draw.patterns), draw.norm_gap, draw.n_patterns
        wrong = outside(g - _mchn_level(draw.states, draw.patterns, 1.0, mchn), printed(gap, m), draw.tolerance)
        fails += int(wrong.sum())
        fails_equal_norms += int(wrong.sum()) if draw.geometry == "sphere" else 0
        clouds += wrong.tolist() if draw.geometry == "cloud" else []
        rest = _mchn_level(draw.states, draw.patterns, draw.beta, mchn) - g
        general += int(outside(rest, corrected(gap, m, draw.beta), draw.tolerance).sum())
    two = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    level = float(_mchn_level(two[1], two, 1.0, mchn))
    share = float(np.mean(clouds))
    return Evidence(
        printed=fails == 0 and -level >= 0,
        amended=fails_equal_norms == 0,
        corrected=general == 0,
        sentence=f"ρ = ±1, x = 1: Δ = 0 and g - 2 E_MCHN = {-level:.6f} < 0; the printed form fails in {share:.0%} of "
        f"Gaussian draws, 0 ≤ 2 E_MCHN - g ≤ Δ + log(d)/β in {general} / {n}.",
        figures={"mchn_level": level, "share_failing": share, "violations_corrected": general, "draws": n},
    )


# C4
def convexity(seed: int = 0, mchn: Callable = energies.mchn_energy) -> Evidence:
    """The regularisers of the continuous Hopfield energy make it convex: second derivatives by autograd."""

    def second(energy: Callable, x: Tensor, patterns: Tensor, beta: float) -> float:
        curvature = torch.autograd.functional.hessian(lambda y: energy(y, patterns, beta), x)
        return float(torch.linalg.eigvalsh(curvature).min())

    two = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    at_zero = second(mchn, torch.zeros(1, dtype=torch.float64), two, 2.0)
    lowest = at_zero
    for draw in draws(40, seed):
        lowest = min(lowest, second(mchn, draw.states[0], draw.patterns[0], 2 * draw.beta))
    as_told = True  # two patterns δ apart: E_β is non-convex between them iff δ > sqrt(2/β)
    for beta in (0.5, 1.0, 4.0):
        for factor in (0.5, 0.99, 1.01, 2.0):
            half = factor * math.sqrt(2 / beta) / 2
            curve = second(energies.distance_energy, torch.zeros(1, dtype=torch.float64), half * two, beta)
            as_told &= (curve < 0) == (factor > 1)
    return Evidence(
        printed=lowest > -1e-9,
        corrected=as_told,
        sentence=f"ρ = ±1, β = 2: second derivative at 0 is {at_zero:.3f}; E_β of two patterns is non-convex exactly "
        "beyond distance sqrt(2/β).",
        figures={"second_derivative_at_zero": at_zero, "lowest_curvature_in_draws": lowest},
    )


# C5
def hidden_regulariser(
    seed: int = 0,
    n: int = SOME,
    quadratic: Callable = _sq_norm,
) -> Evidence:
    """E needs no regularisation term: E_β = |x|² - 1/β log Σ exp(2β ρ·x - β|ρ|²) has one inside."""
    with_term = without = 0.0
    for draw in draws(n, seed):
        x, rho, beta = draw.states, draw.patterns, draw.beta
        pull = (2 * beta * energies.overlaps(x, rho) - beta * _sq_norm(rho)).logsumexp(-1) / beta
        E, size = energies.distance_energy(x, rho, beta), draw.tolerance * 1e9
        with_term = max(with_term, float(((quadratic(x) - pull - E).abs() / size).max()))
        without = max(without, float(((-pull - E).abs() / size).max()))
    return Evidence(
        printed=without < 1e-9,
        amended=with_term < 1e-9,
        sentence=f"E equals |x|² plus a concave term to {with_term:.0e} of its size; without |x|² the two differ by up "
        f"to {without:.2f} of it.",
        figures={"identity_error": with_term, "error_without_the_term": without, "draws": n},
    )


# C6
def attention_search(
    seed: int = 0,
    n: int = SOME,
    scores: Callable = lambda x, rho, beta: 2 * beta * energies.overlaps(x, rho) - beta * _sq_norm(rho),
) -> Evidence:
    """Attention is approximate nearest-neighbour search: at 2β, with a key-norm bias, exact only as β grows."""

    def finds(scores: Tensor, d2: Tensor, tolerance: Tensor) -> int:
        picked = d2.gather(-1, scores.argmax(-1, keepdim=True)).squeeze(-1)
        return int((picked <= d2.amin(-1) + tolerance).sum())

    plain = biased = 0
    identity = 0.0
    mass = {beta: [] for beta in (0.1, 1.0, 10.0, 1000.0)}
    for draw in draws(n, seed):
        x, rho = draw.states, draw.patterns
        d2 = energies.squared_distances(x, rho)
        plain += finds(energies.overlaps(x, rho), d2, draw.tolerance)
        biased += finds(scores(x, rho, draw.beta), d2, draw.tolerance)
        shares = energies.responsibilities(x, rho, draw.beta)
        identity = max(identity, float((scores(x, rho, draw.beta).softmax(-1) - shares).abs().max()))
        if draw.geometry == "cloud":
            for beta, found in mass.items():
                found.append(float(scores(x, rho, beta / float(d2.mean())).softmax(-1).amax(-1).mean()))
    rising = [float(np.mean(found)) for found in mass.values()]
    return Evidence(
        printed=plain == n,
        amended=biased == n and identity < 1e-8 and all(np.diff(rising) > 0),
        sentence=f"Plain attention picks the nearest pattern in {plain / n:.1%} of {n} draws, with key-norm bias in "
        f"{biased / n:.1%} (softmax identity to {identity:.0e}); the mass on it grows with β from {rising[0]:.2f} to "
        f"{rising[-1]:.2f}.",
        figures={"agreement_plain": plain / n, "agreement_bias": biased / n, "identity_error": identity},
    )

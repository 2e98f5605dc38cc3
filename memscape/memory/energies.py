"""What is the energy of a state among stored patterns, and which way does it fall?

Each energy is a plain function of state and patterns; its gradient, written by hand, stands below it. All of them hold
the whole table of B x M overlaps or B x M x D differences: for millions of patterns use `neighbours.search`, which
streams. Patterns may carry the same leading axes as the states, one bank a state. Sources: Niu et al. 2024
(arXiv 2405.08707, eqs. 3 and 4); Ramsauer et al. 2020 (2008.02217); Krotov & Hopfield 2016 (1606.01164); Demircigil et
al. 2017 (1702.01929); Saha et al. 2023 (2306.03209) for general beta.

>>> patterns = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
>>> round(distance_energy(patterns[1], patterns, beta=1.0).item(), 9)
-0.018149928
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def squared_distances(state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"]) -> Float[Tensor, "*B M"]:
    """Return |x - rho_i|^2 from the differences, so that near neighbours lose no digits."""
    return (state.unsqueeze(-2) - patterns).square().sum(-1)


def overlaps(state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"]) -> Float[Tensor, "*B M"]:
    """Return rho_i . x, the overlap with each pattern (not divided by D)."""
    return (patterns @ state.unsqueeze(-1)).squeeze(-1)


def nn_energy(state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"]) -> Float[Tensor, "*B"]:
    """Return the nearest-neighbour energy g(x) = min_i |x - rho_i|^2, in squared distance (2405.08707, eq. 3)."""
    return squared_distances(state, patterns).amin(-1)


def distance_energy(
    state: Float[Tensor, "*#B D"],
    patterns: Float[Tensor, "*#B M D"],
    beta: float = 1.0,
    weights: Float[Tensor, "*#B M"] | None = None,
) -> Float[Tensor, "*B"]:
    """Return E_beta(x) = -1/beta log sum_i w_i exp(-beta |x - rho_i|^2), in squared distance.

    beta is an inverse squared distance; weights w_i > 0 default to 1. With beta = 1 and w = 1 this is the paper's E
    (2405.08707, eq. 4); g - log(M)/beta <= E_beta <= g. It is not convex: two patterns further apart than
    sqrt(2/beta) make two minima.
    """
    return -_log_terms(state, patterns, beta, weights).logsumexp(-1) / beta


def responsibilities(
    state: Float[Tensor, "*#B D"],
    patterns: Float[Tensor, "*#B M D"],
    beta: float = 1.0,
    weights: Float[Tensor, "*#B M"] | None = None,
) -> Float[Tensor, "*B M"]:
    """Return p = softmax_i(log w_i - beta |x - rho_i|^2), the share each pattern has in the energy.

    It equals the attention softmax(2 beta rho_i . x - beta |rho_i|^2 + log w_i): inverse temperature 2 beta and a
    key-norm bias.
    """
    return _log_terms(state, patterns, beta, weights).softmax(-1)


def entropy(shares: Float[Tensor, "*B M"]) -> Float[Tensor, "*B"]:
    """Return H(p) = -sum_i p_i log p_i in nats; exp H(p) is the effective number of patterns."""
    return torch.special.entr(shares).sum(-1)


def distance_gradient(
    state: Float[Tensor, "*#B D"],
    patterns: Float[Tensor, "*#B M D"],
    beta: float = 1.0,
    weights: Float[Tensor, "*#B M"] | None = None,
) -> Float[Tensor, "*B D"]:
    """Return grad E_beta = 2 (x - m), m = sum_i p_i rho_i: zero where the state is its own mean shift."""
    shares = responsibilities(state, patterns, beta, weights)
    return 2 * (state - _mix(shares, patterns))


def mchn_energy(
    state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"], beta: float = 1.0
) -> Float[Tensor, "*B"]:
    """Return -1/beta log sum_i exp(beta rho_i . x) + |x|^2/2 + log(M)/beta + max_i |rho_i|^2/2 (2008.02217, eq. 2).

    In squared norm; beta is an inverse squared norm. It is never negative, and at 2 beta it is tied to the distance
    energy by 0 <= 2 E_MCHN - log(M)/beta - E_beta <= max|rho|^2 - min|rho|^2. It is not convex either.
    """
    pull = (beta * overlaps(state, patterns)).logsumexp(-1) / beta
    level = math.log(patterns.shape[-2]) / beta + patterns.square().sum(-1).amax(-1) / 2
    return -pull + state.square().sum(-1) / 2 + level


def mchn_gradient(
    state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"], beta: float = 1.0
) -> Float[Tensor, "*B D"]:
    """Return x - sum_i q_i rho_i, q = softmax(beta rho_i . x): the attention update is one unit step down it."""
    return state - _mix((beta * overlaps(state, patterns)).softmax(-1), patterns)


def classical_energy(
    state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"], field: Float[Tensor, "*#B D"] | None = None
) -> Float[Tensor, "*B"]:
    """Return -x.W x/2 - b.x with W = 1/D sum_i rho_i rho_i^T, zero diagonal, for states and patterns of +1 and -1."""
    n = state.shape[-1]
    self_terms = (state * patterns.square().sum(-2) * state).sum(-1)
    energy = -(overlaps(state, patterns).square().sum(-1) - self_terms) / (2 * n)
    return energy if field is None else energy - (field * state).sum(-1)


def classical_gradient(
    state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"], field: Float[Tensor, "*#B D"] | None = None
) -> Float[Tensor, "*B D"]:
    """Return -W x - b, the negative local field at each neuron."""
    n = state.shape[-1]
    gradient = -(_mix(overlaps(state, patterns), patterns) - patterns.square().sum(-2) * state) / n
    return gradient if field is None else gradient - field


def power(overlap: Float[Tensor, "*B"], degree: int, rectified: bool = False) -> Float[Tensor, "*B"]:
    """Return F(z) = z^degree, or max(z, 0)^degree: the pull of a dense memory's overlap (1606.01164)."""
    return (overlap.clamp_min(0) if rectified else overlap) ** degree


def dense_energy(
    state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"], degree: int = 3, rectified: bool = False
) -> Float[Tensor, "*B"]:
    """Return -sum_i F(rho_i . x), F(z) = z^degree, or max(z, 0)^degree when rectified (1606.01164, eq. 5).

    The sum runs over patterns; the self terms stay in.
    """
    return -power(overlaps(state, patterns), degree, rectified).sum(-1)


def dense_gradient(
    state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"], degree: int = 3, rectified: bool = False
) -> Float[Tensor, "*B D"]:
    """Return -degree sum_i F'(rho_i . x)/degree rho_i, F' the power one lower."""
    return -degree * _mix(power(overlaps(state, patterns), degree - 1, rectified), patterns)


def exponential_energy(state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"]) -> Float[Tensor, "*B"]:
    """Return -log sum_i exp(rho_i . x), in nats (1702.01929).

    The paper prints -sum_i exp(rho_i . x) = -exp(-this); both fall together, but that one overflows at D = 710.
    """
    return -overlaps(state, patterns).logsumexp(-1)


def exponential_gradient(state: Float[Tensor, "*#B D"], patterns: Float[Tensor, "*#B M D"]) -> Float[Tensor, "*B D"]:
    """Return -sum_i softmax(rho . x)_i rho_i."""
    return -_mix(overlaps(state, patterns).softmax(-1), patterns)


def _log_terms(state: Tensor, patterns: Tensor, beta: float, weights: Tensor | None) -> Tensor:
    terms = -beta * squared_distances(state, patterns)
    return terms if weights is None else terms + weights.log()


def _mix(shares: Tensor, patterns: Tensor) -> Tensor:
    return (shares.unsqueeze(-2) @ patterns).squeeze(-2)

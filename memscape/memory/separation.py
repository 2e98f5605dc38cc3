"""How far apart do stored patterns lie, and how close to one must a state be to come back to it?

The bounds are sufficient, never necessary. Those of the distance energy take the distances delta_ij from a pattern to
all others; the one of attention takes Ramsauer's separation Delta_i (2008.02217, definition 2).

>>> patterns = torch.eye(3, dtype=torch.float64)
>>> separation(patterns)
tensor([1.4142, 1.4142, 1.4142], dtype=torch.float64)
>>> stored(to_others(patterns), radius=0.2, beta=4.0)
tensor([True, True, True])
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from memscape.memory.neighbours import search
from memscape.memory.shards import Shards


def separation(patterns: Float[Tensor, "M D"] | Shards) -> Float[Tensor, " M"]:
    """Return delta_i = min_j |rho_i - rho_j| over j != i, a distance; zero for duplicates, infinite for a lone one."""
    blocks = [(0, patterns)] if isinstance(patterns, Tensor) else patterns
    parts = [search(b, patterns, self_index=start + torch.arange(len(b), device=b.device)) for start, b in blocks]
    return torch.cat([p.distance[:, 0] for p in parts]).sqrt()


def to_others(patterns: Float[Tensor, "M D"]) -> Float[Tensor, "M N"]:
    """Return delta_ij = |rho_i - rho_j| for all j != i, N = M - 1 of them."""
    away = torch.cdist(patterns, patterns, compute_mode="donot_use_mm_for_euclid_dist")
    n = len(away)
    return away[~torch.eye(n, dtype=torch.bool, device=away.device)].view(n, n - 1)


def step_bound(
    distances: Float[Tensor, "*B N"], radius: float | Float[Tensor, "*B"], beta: float
) -> Float[Tensor, "*B"]:
    """Return how far from rho_i one mean shift can end that began within `radius` of it, a distance.

    sum_{j != i} delta_ij exp(-beta (delta_ij^2 - 2 r delta_ij)); it holds for r < delta_i / 2.
    """
    return (distances * _weights(distances, radius, beta)).sum(-1)


def stored(distances: Float[Tensor, "*B N"], radius: float | Float[Tensor, "*B"], beta: float) -> Bool[Tensor, "*B"]:
    """Return which patterns are certainly stored: the ball of `radius` falls into itself and contracts to one point.

    step_bound <= r, 2 beta sum_{j != i} delta_ij^2 exp(-beta (delta_ij^2 - 2 r delta_ij)) < 1 and r < delta_i / 2.
    """
    contracts = 2 * beta * (distances.square() * _weights(distances, radius, beta)).sum(-1) < 1
    return (step_bound(distances, radius, beta) <= radius) & contracts & (distances.amin(-1) > 2 * radius)


def replacement_bound(
    distances: Float[Tensor, "*B N"], radius: float | Float[Tensor, "*B"], beta: float
) -> Float[Tensor, "*B"]:
    """Return a bound of g - E_beta on the ball of `radius` <= delta_i / 2 around each pattern, in squared distance.

    1/beta log(1 + sum_{j != i} exp(-beta (delta_ij^2 - 2 r delta_ij))).
    """
    return _weights(distances, radius, beta).sum(-1).log1p() / beta


def _weights(distances: Tensor, radius: float | Tensor, beta: float) -> Tensor:
    radius = radius.unsqueeze(-1) if isinstance(radius, Tensor) else radius
    return (-beta * (distances.square() - 2 * radius * distances)).exp()


def dot_separation(patterns: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """Return Delta_i = min_j (rho_i.rho_i - rho_i.rho_j) over j != i, a squared norm (2008.02217, definition 2)."""
    gram = patterns @ patterns.mT
    own = gram.diagonal().clone()
    return own - gram.fill_diagonal_(-math.inf).amax(1)


def attention_bound(patterns: Float[Tensor, "M D"], radius: float, beta: float) -> Float[Tensor, " M"]:
    """Return how far from rho_i one attention update can end that began within `radius`, a distance, any patterns.

    2 R (M - 1) exp(-beta (Delta_i - 2 R r)), R the largest norm.
    """
    largest = patterns.norm(dim=1).amax()
    return 2 * largest * (len(patterns) - 1) * torch.exp(-beta * (dot_separation(patterns) - 2 * largest * radius))

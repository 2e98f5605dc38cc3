"""How far apart do stored patterns lie, and how close to one must a state be to come back to it?

The bounds are sufficient, never necessary. Sources: ours for the distance energy; Ramsauer et al. 2020 (2008.02217,
theorems 4 and 5) for attention.

>>> patterns = torch.eye(3, dtype=torch.float64)
>>> separation(patterns)
tensor([1.4142, 1.4142, 1.4142], dtype=torch.float64)
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from memscape.memory.neighbours import search
from memscape.memory.shards import Shards


def separation(patterns: Float[Tensor, "M D"] | Shards) -> Float[Tensor, " M"]:
    """Return delta_i = min_j |rho_i - rho_j| over j != i, a distance; zero for duplicates, infinite for a lone one."""
    if isinstance(patterns, Shards):
        parts = [search(b, patterns, self_index=start + torch.arange(len(b))) for start, b in patterns]
        return torch.cat([p.distance[:, 0] for p in parts]).sqrt()
    return (
        search(patterns, patterns, self_index=torch.arange(len(patterns), device=patterns.device)).distance[:, 0].sqrt()
    )


def dot_separation(patterns: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """Return Delta_i = min_j (rho_i.rho_i - rho_i.rho_j) over j != i, a squared norm (2008.02217, definition 2)."""
    gram = patterns @ patterns.mT
    own = gram.diagonal().clone()
    return own - gram.fill_diagonal_(-math.inf).amax(1)


def step_bound(patterns: Float[Tensor, "M D"], radius: float, beta: float) -> Float[Tensor, " M"]:
    """Return how far from rho_i one mean shift can end that began within `radius` of it, a distance.

    sum_{j != i} delta_ij exp(-beta (delta_ij^2 - 2 r delta_ij)); it holds for r < delta_i / 2.
    """
    away, weight = _others(patterns, radius, beta)
    return (away * weight).sum(1)


def stored(patterns: Float[Tensor, "M D"], radius: float, beta: float) -> Bool[Tensor, " M"]:
    """Return which patterns are certainly stored: the ball of `radius` falls into itself and contracts to one point.

    step_bound <= r, 2 beta sum_{j != i} delta_ij^2 exp(-beta (delta_ij^2 - 2 r delta_ij)) < 1 and r < delta_i / 2.
    """
    away, weight = _others(patterns, radius, beta)
    inside = (away * weight).sum(1) <= radius
    contracts = 2 * beta * (away.square() * weight).sum(1) < 1
    apart = away.fill_diagonal_(math.inf).amin(1) > 2 * radius
    return inside & contracts & apart


def replacement_bound(patterns: Float[Tensor, "M D"], radius: float, beta: float) -> Float[Tensor, " M"]:
    """Return a bound of g - E_beta on the ball of `radius` <= delta_i / 2 around each pattern, in squared distance.

    1/beta log(1 + sum_{j != i} exp(-beta (delta_ij^2 - 2 r delta_ij))).
    """
    return torch.log1p(_others(patterns, radius, beta)[1].sum(1)) / beta


def attention_bound(patterns: Float[Tensor, "M D"], radius: float, beta: float) -> Float[Tensor, " M"]:
    """Return how far from rho_i one attention update can end that began within `radius`, a distance, any patterns.

    2 R (M - 1) exp(-beta (Delta_i - 2 R r)), R the largest norm.
    """
    largest = patterns.norm(dim=1).amax()
    return 2 * largest * (len(patterns) - 1) * torch.exp(-beta * (dot_separation(patterns) - 2 * largest * radius))


def attention_retrieves(patterns: Float[Tensor, "M D"], beta: float) -> tuple[Bool[Tensor, " M"], float]:
    """Return which patterns Ramsauer et al. guarantee, and the radius 1/(beta M R) they guarantee it for.

    Delta_i >= 2/(beta M) + 1/beta ln(2 (M - 1) M beta R^2), R the largest norm (2008.02217, theorem 5).
    """
    n, largest = len(patterns), patterns.norm(dim=1).amax().item()
    least = 2 / (beta * n) + math.log(2 * max(n - 1, 1) * n * beta * largest**2) / beta
    return dot_separation(patterns) >= least, 1 / (beta * n * largest)


def _others(patterns: Tensor, radius: float, beta: float) -> tuple[Tensor, Tensor]:
    """Return delta_ij and exp(-beta (delta_ij^2 - 2 r delta_ij)), the latter zero on the diagonal."""
    away = torch.cdist(patterns, patterns, compute_mode="donot_use_mm_for_euclid_dist")
    return away, torch.exp(-beta * (away.square() - 2 * radius * away)).fill_diagonal_(0)

"""Separation: are the states of a layer well separated, as the theory assumes of stored patterns, and does depth help?

delta_i is the distance from a pattern to its nearest other, Delta_i = rho_i.rho_i - max_j rho_i.rho_j is Ramsauer's
separation (arXiv 2008.02217, definition 2). In a cloud without structure delta_i is near sqrt(2) times the distance to
the middle; much less means that patterns crowd together. Everything is asked across documents, with exact copies and
without them: correlated text, and text whose repetitions were taken out.

Niu et al. (arXiv 2405.08707) assume disjoint balls (assumption 3) and an energy of beta = 1. A pattern is *certified*
when mean shift at that beta provably keeps some ball of radius r < delta_i / 2 around it and contracts there:
sum_j delta_ij exp(-beta (delta_ij^2 - 2 r delta_ij)) <= r and 2 beta sum_j delta_ij^2 exp(...) < 1.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from memscape.instruments.cloud import SAMPLE, Cloud
from memscape.instruments.documents import average, median
from memscape.instruments.radius import finite, predicted
from memscape.theory.measure import Measured

BETA = 1.0
"""Inverse temperature of the paper's energy, 1/distance²."""

RADII = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Radii tried for a certificate, as shares of delta_i / 2: which ball can be proven is not known beforehand."""

BLOCK = 8192
"""Patterns whose overlaps with the queries are held at once."""


def separation(cloud: Cloud) -> Measured:
    """Return the median of delta_i in units of sqrt(2 spread)."""
    return _of_spread(cloud, cloud.distances[:, 0])


def without_copies(cloud: Cloud) -> Measured:
    """Return the median of delta_i among states that are no exact copies, in units of sqrt(2 spread)."""
    return _of_spread(cloud, cloud.apart[:, 0])


def _of_spread(cloud: Cloud, distance: Tensor) -> Measured:
    return median(finite(distance) / math.sqrt(2 * cloud.spread), cloud.documents_Q, "of sqrt(2 spread)")


def dot(cloud: Cloud) -> Measured:
    """Return the median of Delta_i / |rho_i|², of a sample of the queries."""
    few = replace(cloud, queries_Q=cloud.queries_Q[:: max(1, len(cloud.queries_Q) // SAMPLE)])
    return median((dot_separation(few) / few.asked.double().square().sum(1)).numpy(), few.documents_Q, "of |state|²")


def overlap(cloud: Cloud) -> Measured:
    """Return the share of states whose ball of the paper's radius sqrt(n / 2 pi e) meets another's."""
    return average(cloud.distances[:, 0].numpy() < 2 * predicted(cloud.dim), cloud.documents_Q, "share of states")


def well_separated(cloud: Cloud) -> Measured:
    """Return the share of states that are certified at beta = 1."""
    proven = certified(cloud.distances, len(cloud.patterns_MD))
    return average(proven.numpy(), cloud.documents_Q, "share of states")


def dot_separation(cloud: Cloud) -> Float[Tensor, " Q"]:
    """Return Delta_i = rho_i.rho_i - max_j rho_i.rho_j over the patterns of other documents, float64."""
    asked, own = cloud.asked, cloud.documents_M[cloud.queries_Q]
    best = torch.full((len(asked),), -math.inf)
    for start in range(0, len(cloud.patterns_MD), BLOCK):
        rows = slice(start, start + BLOCK)
        overlap = asked @ cloud.patterns_MD[rows].T
        overlap.masked_fill_(own[:, None] == cloud.documents_M[rows], -math.inf)
        best = torch.maximum(best, overlap.amax(1))
    return asked.double().square().sum(1) - best.double()


def certified(distances: Float[Tensor, "Q K"], n_patterns: int, beta: float = BETA) -> Bool[Tensor, " Q"]:
    """Return which patterns provably hold a ball of their own under mean shift at `beta`.

    The sums run over the K nearest; each of the others counts as much as the farthest of these, an upper bound where
    delta exp(-beta (delta² - 2 r delta)) falls with delta, which 2 beta delta (delta - r) > 2 ensures.
    """
    delta = distances.clamp_max(1e150)
    last = delta[:, -1]
    rest = max(0, n_patterns - delta.shape[1])
    found = torch.zeros(len(delta), dtype=torch.bool)
    for share in RADII:
        r = share * delta[:, :1] / 2
        fall = torch.exp(-beta * (delta.square() - 2 * r * delta))
        into = (delta * fall).sum(1) + rest * last * fall[:, -1]
        pull = 2 * beta * ((delta.square() * fall).sum(1) + rest * last.square() * fall[:, -1])
        falling = 2 * beta * last * (last - r[:, 0]) > 2
        found |= (into <= r[:, 0]) & (pull < 1) & falling & (r[:, 0] > 0)
    return found


def beta_needed(cloud: Cloud, share: float = 0.5) -> float | None:
    """Return the smallest beta, in 1/spread, that certifies `share` of the patterns; None where copies forbid it."""
    n = len(cloud.patterns_MD)
    sample = cloud.distances[:: max(1, len(cloud.distances) // SAMPLE)]

    def reached(log_beta: float) -> bool:
        return bool(certified(sample, n, math.exp(log_beta)).double().mean() >= share)

    low, high = -math.log(cloud.spread) - 5, -math.log(cloud.spread) + 25
    if not reached(high):
        return None
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return math.exp(high) * cloud.spread


FIELDS = {
    "separation": separation,
    "separation_without_copies": without_copies,
    "separation_dot": dot,
    "overlap": overlap,
    "well_separated": well_separated,
}
"""What this instrument says of one site."""

"""Radius: how far apart are the states of a layer, and is half that distance the paper's sqrt(n / 2 pi e)?

Half the median distance from a state to the nearest state of another document bounds the radius of disjoint balls
around stored patterns; it is not a basin of attraction. Niu et al. (arXiv 2405.08707, section 5.1) compare it with
sqrt(n / 2 pi e) for n = d_model; in their theory n is the dimension of a whole sequence, T d_model. Any cloud of fixed
deviation grows as sqrt(n) too, which is why the untrained model and the moment-matched Gaussian stand beside it.
"""

import math

import numpy as np
import torch

from memscape.instruments.cloud import COPY, Cloud
from memscape.instruments.documents import average, median
from memscape.theory.measure import Measured

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Parts of the sample at which the radius is measured: it shrinks as more text is stored."""


def predicted(dim: int, tokens: int = 1) -> float:
    """Return sqrt(n / 2 pi e), n = `dim` numbers of each of `tokens` tokens: there a ball has volume (pi n)^(-1/2)."""
    return math.sqrt(dim * tokens / (2 * math.pi * math.e))


def radius(cloud: Cloud) -> Measured:
    """Return half the median nearest-neighbour distance across documents, with its interval over documents."""
    return median(finite(cloud.distances[:, 0]) / 2, cloud.documents_Q, "distance")


def sequence_radius(cloud: Cloud) -> Measured | None:
    """Return half the median distance between whole contexts, each one vector of T d_model numbers, across documents.

    It is the other meaning of n, and the theory's own: a pattern is an embedded sequence. None without two documents.
    """
    rows = cloud.patterns_MD.view(-1, cloud.length * cloud.dim)
    documents = cloud.documents_M[:: cloud.length]
    if len(documents.unique()) < 2:
        return None
    away = (rows - rows.mean(0)).double()
    gram = away @ away.T
    squared = gram.diag()[:, None] + gram.diag() - 2 * gram
    squared.masked_fill_(documents[:, None] == documents, math.inf)
    return median(squared.amin(1).clamp_min(0).sqrt().numpy() / 2, documents.numpy(), "distance")


def duplicates(cloud: Cloud) -> Measured:
    """Return the share of states that have an exact copy in another document (the same token at the embedding)."""
    twin = cloud.nearest.distance[:, 0] <= COPY * cloud.spread
    return average(twin.double().numpy(), cloud.documents_Q, "share of states")


def shrinking(cloud: Cloud, seed: int = 0) -> list[Measured]:
    """Return the radius among a random 25, 50, 75 and 100 % of the patterns, for the same queries.

    The sets are nested: each pattern has a lot, and a share holds the patterns with the lowest. Copies are left out.
    """
    rows = _nested(cloud, seed)
    return [median(row / 2, cloud.documents_Q, "distance") for row in rows if np.isfinite(row).any()]


def growth(cloud: Cloud, seed: int = 0) -> Measured:
    """Return the exponent a of radius ~ (number of patterns)^a over the four sample sizes, copies left out.

    A cloud that fills k dimensions evenly has a = -1/k; near 0 means that more text brings no nearer neighbour.
    """
    x = np.log(SHARES) - np.log(SHARES).mean()
    near = np.log(np.stack(_nested(cloud, seed)))
    slope_Q = (x[:, None] * (near - near.mean(0))).sum(0) / (x**2).sum()
    return average(slope_Q, cloud.documents_Q, "exponent")


def _nested(cloud: Cloud, seed: int) -> list[np.ndarray]:
    """Nearest-neighbour distances within each share; nan where none of the neighbours looked at belongs to it."""
    generator = torch.Generator().manual_seed(seed)
    lot_M = torch.rand(len(cloud.patterns_MD), generator=generator)
    lot = lot_M[cloud.nearest.index.clamp_min(0)]
    copies = cloud.nearest.distance.double() <= COPY * cloud.spread
    found = []
    for share in SHARES:
        inside = cloud.distances.masked_fill((lot > share) | copies, math.inf).amin(1)
        found.append(finite(inside))
    return found


def finite(distance: torch.Tensor) -> np.ndarray:
    """Return distances with nan, which does not count, where there is no neighbour."""
    values = distance.numpy()
    return np.where(np.isfinite(values), values, np.nan)


def outliers(cloud: Cloud) -> Measured:
    """Return the share of states that lie far outside all others."""
    return average(cloud.outlier_M.double().numpy(), cloud.documents_M.numpy(), "share of states")


FIELDS = {"radius": radius, "sequence_radius": sequence_radius, "growth": growth, "duplicates": duplicates}
"""What this instrument says of one site."""

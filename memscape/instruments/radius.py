"""Radius: how far apart are the states of a layer, and is half that distance the paper's sqrt(n / 2 pi e)?

Half the median distance from a state to the nearest state of another document bounds the radius of disjoint balls
around stored patterns; it is not a basin of attraction. Niu et al. (arXiv 2405.08707, section 5.1) compare it with
sqrt(n / 2 pi e) for n = d_model. Any cloud of fixed deviation grows as sqrt(n) too, which is why the untrained model
and the moment-matched Gaussian stand beside it.
"""

import math

import numpy as np

from memscape.instruments.cloud import Cloud
from memscape.theory.measure import Measured

COPY = 1e-6
"""Squared distances below this share of the spread are exact copies: single precision cannot tell them from zero."""


def predicted(dim: int) -> float:
    """Return sqrt(n / 2 pi e) for n = `dim`, the radius at which a ball has volume (pi n)^(-1/2)."""
    return math.sqrt(dim / (2 * math.pi * math.e))


def radius(cloud: Cloud) -> Measured:
    """Return half the median nearest-neighbour distance across documents, with its interval over documents."""
    return cloud.by_document(cloud.nearest.distance[:, 0].sqrt(), lambda d: float(np.nanmedian(d)) / 2, "distance")


def duplicates(cloud: Cloud) -> Measured:
    """Return the share of states that have an exact copy in another document (the same token at the embedding)."""
    twin = cloud.nearest.distance[:, 0] <= COPY * cloud.spread
    return cloud.by_document(twin.double(), lambda d: float(np.nanmean(d)), "share of states")

"""Dimension: how many directions do the states of a layer really use?

Two answers. Locally, TwoNN (Facco et al. 2017, arXiv 1803.06992) reads it from how much farther the second neighbour is
than the first, and the maximum-likelihood estimate (Levina & Bickel 2004; averaged as MacKay & Ghahramani 2005) from
the first 20. Globally, the participation ratio (tr C)² / tr C² counts the directions that share the variance. Copies
have no neighbourhood and are left out; so are, for the variance, the outliers that would be all of it.
"""

import numpy as np
import torch

from memscape.instruments.cloud import Cloud
from memscape.instruments.documents import ratio, resampled
from memscape.theory.measure import Measured

NEIGHBOURS = 20
"""Neighbours of the maximum-likelihood estimate."""


def two_nn(cloud: Cloud) -> Measured:
    """Return the TwoNN dimension 1 / mean ln(r_2 / r_1), the maximum-likelihood form of its Pareto law."""
    near = cloud.apart[:, :2].numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.log(near[:, 1] / near[:, 0])
    return ratio(np.ones(len(step)), np.where(np.isfinite(step), step, np.nan), cloud.documents_Q, "dimensions")


def maximum_likelihood(cloud: Cloud, k: int = NEIGHBOURS) -> Measured:
    """Return the inverse of the mean over states of 1/(k-1) sum_j<k ln(r_k / r_j)."""
    near = cloud.apart[:, :k].numpy()
    if near.shape[1] < 3:
        raise ValueError("expected three neighbours or more")
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.log(near[:, -1:] / near[:, :-1]).sum(1) / (near.shape[1] - 1)
    inverse = np.where(np.isfinite(inverse), inverse, np.nan)
    return ratio(np.ones(len(inverse)), inverse, cloud.documents_Q, "dimensions")


def participation(cloud: Cloud) -> Measured:
    """Return (tr C)² / tr C² of the states' covariance C, free of the bias of few samples.

    tr C² is the mean of (x_i.x_j)² over pairs of states of different documents: pairs within one are kin.
    """
    kept = ~cloud.outlier_M[cloud.queries_Q]
    states = cloud.asked[kept].double()
    documents, owner = np.unique(cloud.documents_Q[kept.numpy()], return_inverse=True)
    away = states - states.mean(0)
    D = len(documents)
    mine = torch.nn.functional.one_hot(torch.from_numpy(owner), D).double()
    size = mine.sum(0)
    variance = (mine.T @ away.square().sum(1)).numpy()
    squares = (mine.T @ (away @ away.T).square() @ mine).fill_diagonal_(0).numpy()
    pairs = torch.outer(size, size).fill_diagonal_(0).numpy()
    size = size.numpy()

    def count(w: np.ndarray) -> np.ndarray:
        trace = (w @ variance) / (w @ size)
        square = np.einsum("rd,de,re->r", w, squares, w) / np.einsum("rd,de,re->r", w, pairs, w)
        return trace**2 / square

    return resampled(count, D, "dimensions")


FIELDS = {"dimension": two_nn, "dimension_ml": maximum_likelihood, "participation": participation}
"""What this instrument says of one site."""

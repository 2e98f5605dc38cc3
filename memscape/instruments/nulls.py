"""What would an instrument read where nothing was learnt? The nulls that stand beside every measurement.

Untrained: the same configuration with fresh weights, on the same text. Gaussian: a cloud with the mean and deviation of
every coordinate. Inner Gaussian: the mean and the whole covariance of the states without the outliers, which are first
positions a hundred times longer than the rest and make the plain Gaussian of a real model far too wide.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from memscape.instruments.cloud import Cloud
from memscape.models.pretrained import Pretrained

QUERIES = 256
"""States of a Gaussian cloud that are asked about."""


def untrained(model: Pretrained, seed: int = 0) -> Any:
    """Return the model with freshly drawn weights.

    A plain `nn.Module` cannot be built again: its weights are put in random order, matrix by matrix, which keeps their
    sizes and takes what they had learnt.
    """
    if hasattr(model.model, "config"):
        return model.untrained(seed)
    generator = torch.Generator().manual_seed(seed)
    fresh: nn.Module = copy.deepcopy(model.model)
    with torch.no_grad():
        for weight in fresh.parameters():
            if weight.dim() > 1:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return fresh.eval()


def gaussian(cloud: Cloud, seed: int = 0) -> Cloud:
    """Return a cloud of the same size, mean and deviation of every coordinate, and no other structure."""
    mean, deviation = cloud.patterns_MD.mean(0), cloud.patterns_MD.std(0, unbiased=False)
    return _asked_less(cloud, mean + _noise(cloud, seed) * deviation)


def inner_gaussian(cloud: Cloud, seed: int = 0) -> Cloud:
    """Return a cloud with the mean and the whole covariance of the states that are no outliers."""
    inner = cloud.patterns_MD[~cloud.outlier_M]
    mean = inner.mean(0)
    away = inner - mean
    values, vectors = torch.linalg.eigh((away.T @ away).double() / len(inner))
    root = (vectors * values.clamp_min(0).sqrt()).float()
    return _asked_less(cloud, mean + _noise(cloud, seed) @ root.T)


def _noise(cloud: Cloud, seed: int) -> Tensor:
    return torch.randn(cloud.patterns_MD.shape, generator=torch.Generator().manual_seed(seed))


def _asked_less(cloud: Cloud, states_MD: Tensor) -> Cloud:
    """A cloud without structure looks alike from everywhere: a few queries say the same as many."""
    few = cloud.queries_Q[:: max(1, len(cloud.queries_Q) // QUERIES)]
    return replace(cloud, patterns_MD=states_MD, queries_Q=few)

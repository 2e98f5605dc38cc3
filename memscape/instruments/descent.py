"""Descent: does the energy of a state fall from layer to layer, as the paper's layered memory would have it?

The bank is the final states of half of the documents. States of the other half, brought to the bank's scale by the
model's own final norm, are followed from the embedding to the last layer. A bank made of last-layer states makes late
descent nearly automatic, so the share of falling steps is printed beside the same share on the straight line from the
first state to the last: only the excess counts.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import kendalltau
from torch import Tensor

from memscape.instruments.cloud import EFFECTIVE, NEAREST, energies
from memscape.memory.neighbours import search, temperature
from memscape.theory.measure import Measured, mean, statistic


def descent(
    site: Callable[[str], Float[Tensor, "C T D"]],
    sites: tuple[str, ...],
    documents_C: np.ndarray,
    norm: Callable[[Tensor], Tensor],
    n_states: int = 512,
) -> dict:
    """Return the energy along depth and the share of falling steps, for the model's path and for the straight line.

    Args:
        site: gives the states of one site (`Activations.site`).
        sites: embedding, layers, final norm, in the order of depth.
        documents_C: the document of each context; even ones are stored, odd ones are followed.
        norm: the model's final norm, which takes every layer's states to the bank's scale.
        n_states: how many states are followed.
    """
    stored, followed = documents_C % 2 == 0, documents_C % 2 == 1
    bank_MD = site(sites[-1])[torch.from_numpy(stored)].flatten(0, 1)
    contexts, length = int(followed.sum()), site(sites[-1]).shape[1]
    rows = torch.linspace(0, contexts * length - 1, min(n_states, contexts * length)).round().long()
    owners = np.repeat(documents_C[followed], length)[rows.numpy()]

    def states(name: str) -> Tensor:
        raw = site(name)[torch.from_numpy(followed)].flatten(0, 1)[rows]
        with torch.no_grad():
            return raw if name == sites[-1] else norm(raw).float()

    path = [states(name) for name in sites[:-1]]
    nearest = search(path[-1], bank_MD, k=min(NEAREST, len(bank_MD)))
    beta = temperature(nearest.distance.double(), EFFECTIVE)

    def along(steps: list[Tensor]) -> np.ndarray:
        return np.stack([energies(search(x, bank_MD, k=1, beta=beta)).numpy() for x in steps], axis=1)

    share = torch.linspace(0, 1, len(path)).tolist()
    straight = along([torch.lerp(path[0], path[-1], s) for s in share])
    model = along(path)
    return {
        "beta": beta,
        "energy": [_median(column, owners) for column in model.T],
        "straight": [_median(column, owners) for column in straight.T],
        "falling": _share(model, owners),
        "falling_straight": _share(straight, owners),
        "kendall_tau": _tau(model, owners),
        "kendall_tau_straight": _tau(straight, owners),
    }


def _groups(values: np.ndarray, owners: np.ndarray) -> list[np.ndarray]:
    return [values[owners == d] for d in np.unique(owners)]


def _median(values: np.ndarray, owners: np.ndarray) -> Measured:
    medians = np.array([np.median(g) for g in _groups(values, owners)])
    return statistic(medians, lambda m: float(np.median(m)), "distance²", resamples=500)


def _share(energy_ST: np.ndarray, owners: np.ndarray) -> Measured:
    falls = (np.diff(energy_ST, axis=1) < 0).mean(1)
    return mean([g.mean() for g in _groups(falls, owners)], "share of steps")


def _tau(energy_ST: np.ndarray, owners: np.ndarray) -> Measured:
    depth = np.arange(energy_ST.shape[1])
    tau = np.array([kendalltau(depth, row)[0] for row in energy_ST])
    return mean([np.nanmean(g) for g in _groups(tau, owners)], "Kendall's tau")

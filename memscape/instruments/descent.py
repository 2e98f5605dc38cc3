"""Descent: does the energy of a state fall from layer to layer, as the paper's layered memory would have it?

The bank is the final states of half of the documents. States of the other half, brought to the bank's scale by the
model's own final norm, are followed from the embedding to the last layer. A bank made of last-layer states makes late
descent nearly automatic, so the share of falling steps is printed beside its nulls: the straight line from the first
state to the last, steps of the same length in random directions, the layers in random order, a bank of shuffled text,
and the distance to the bank's mean in place of the energy. Only the excess over the straight line counts.

The paper lets layer t lower an energy E_t of its own patterns, and all layers one E_global = -log sum_t exp(-E_t)
(arXiv 2405.08707, eq. 6-8). With the states after each layer as its patterns E_global is the energy of all of them
together. For its steps to be majorisation-minimisation E_t must touch E_global where the step begins: `tangency` is how
far above it lies there, in nats, 0 where they touch, and at most log(layers) for the lowest of the layers.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from memscape.errors import ShapeError
from memscape.instruments.cloud import EFFECTIVE, NEAREST, energies
from memscape.instruments.documents import average, median
from memscape.memory.neighbours import beta_for, search, temperature
from memscape.theory.measure import Measured

SOFTER = (1.5, 30.0)
"""Other median effective numbers of patterns at which the falling steps are counted; half the bank is third."""

ORDERS = 20
"""Random orders of the layers."""

OF_A_LAYER = 1024
"""States after a layer that are its patterns."""

FEW = 64
"""States whose energy is asked of every layer: layers times layers searches."""


def descent(
    site: Callable[[str], Float[Tensor, "C T D"]],
    sites: tuple[str, ...],
    documents_C: np.ndarray,
    norm: Callable[[Tensor], Tensor],
    n_states: int = 256,
    shuffled_MD: Float[Tensor, "M D"] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict:
    """Return the energy along depth, the share of falling steps and Kendall's tau, for the model's path and its nulls.

    Args:
        site: gives the states of one site (`Activations.site`).
        sites: embedding, layers, final norm, in the order of depth.
        documents_C: the document of each context; even ones are stored, odd ones are followed.
        norm: the model's final norm, which takes every layer's states to the bank's scale.
        n_states: how many states are followed.
        shuffled_MD: final states of shuffled text, for a bank without order; without it only the straight line is
            measured beside the model.
        seed: of the random steps and orders.
        device: where energies are computed.
    """
    stored, followed = (torch.from_numpy(documents_C % 2 == half) for half in (0, 1))
    bank_MD = site(sites[-1])[stored].flatten(0, 1)
    every = np.repeat(documents_C[followed.numpy()], site(sites[-1]).shape[1])
    rows = torch.linspace(0, len(every) - 1, min(n_states, len(every))).round().long()
    owners, path, banks = every[rows.numpy()], [], []
    for name in sites[:-1]:
        with torch.no_grad():
            scaled = norm(site(name)).float()
        path.append(scaled[followed].flatten(0, 1)[rows])
        banks.append(_some(scaled[stored].flatten(0, 1), OF_A_LAYER))
    near = search(path[-1], bank_MD, k=min(NEAREST, len(bank_MD)), device=device)
    beta = temperature(near.distance.double(), EFFECTIVE)

    def along(steps: list[Tensor], beta: float = beta, bank: Tensor = bank_MD) -> np.ndarray:
        found = energies(search(torch.cat(steps), bank, k=1, beta=beta, device=device))
        return found.view(len(steps), -1).T.numpy()

    line = [torch.lerp(path[0], path[-1], s) for s in torch.linspace(0, 1, len(path)).tolist()]
    model, straight = along(path), along(line)
    found = {
        "beta": beta,
        "energy": [median(column, owners, "distance²") for column in model.T],
        "straight": [median(column, owners, "distance²") for column in straight.T],
        "falling": _share(model, owners),
        "falling_straight": _share(straight, owners),
        "excess": average(_falls(model) - _falls(straight), owners, "share of steps"),
        "kendall_tau": _tau(model, owners),
        "kendall_tau_straight": _tau(straight, owners),
    }
    some, few = _some(torch.from_numpy(owners), FEW).numpy(), [[_some(x, FEW) for x in way] for way in (path, line)]
    of_layers, of_line = (np.stack([along(way, bank=bank) for bank in banks[1:]]) for way in few)
    whole, whole_line = (-np.logaddexp.reduce(-beta * energy, axis=0) / beta for energy in (of_layers, of_line))
    acting = np.stack([of_layers[t, :, t] for t in range(len(banks) - 1)], axis=1)
    above = beta * (acting - whole[:, :-1])
    found |= {
        "global": [median(column, some, "distance²") for column in whole.T],
        "falling_global": _share(whole, some),
        "falling_global_straight": _share(whole_line, some),
        "tangency": median(above.mean(1), some, "nats"),
        "tangent": average((above <= np.log(len(banks) - 1)).mean(1), some, "share of steps"),
    }
    if shuffled_MD is None:
        return found
    random, middle = along(_random_steps(path, seed)), bank_MD.double().mean(0)
    to_mean = np.stack([(x.double() - middle).square().sum(1).numpy() for x in path], axis=1)
    slack = np.log(len(path) - 1) / beta
    found |= {
        "within_log_layers": _mean_share((np.diff(model, axis=1) <= slack).mean(1), owners),
        "falling_random_step": _mean_share((random < model[:, :-1]).mean(1), owners),
        "falling_layers_permuted": _permuted(model, owners, seed),
        "falling_shuffled_bank": _share(along(path, bank=shuffled_MD), owners),
        "falling_to_mean": _share(to_mean, owners),
        "falling_at": [],
    }
    for effective in (*SOFTER, len(bank_MD) / 2):
        try:
            warm = beta_for(path[-1], bank_MD, effective)
        except ShapeError:  # copies: no temperature reaches so few patterns
            continue
        found["falling_at"].append({"effective": effective, "falling": _share(along(path, warm), owners)})
    return found


def _some(rows: Tensor, n: int) -> Tensor:
    return rows[:: max(1, len(rows) // n)]


def _random_steps(path: list[Tensor], seed: int) -> list[Tensor]:
    """Return where each state would be had it gone as far as the model moves it, but in a random direction."""
    generator = torch.Generator().manual_seed(seed)
    ends = []
    for here, there in pairwise(path):
        away = torch.nn.functional.normalize(torch.randn(here.shape, generator=generator), dim=1)
        ends.append(here + away * (there - here).norm(dim=1, keepdim=True))
    return ends


def _permuted(energy_ST: np.ndarray, owners: np.ndarray, seed: int) -> Measured:
    rng = np.random.default_rng(seed)
    orders = [_falls(energy_ST[:, rng.permutation(energy_ST.shape[1])]) for _ in range(ORDERS)]
    return _mean_share(np.mean(orders, axis=0), owners)


def _falls(energy_ST: np.ndarray) -> np.ndarray:
    return (np.diff(energy_ST, axis=1) < 0).mean(1)


def _mean_share(values_S: np.ndarray, owners: np.ndarray) -> Measured:
    return average(values_S, owners, "share of steps")


def _share(energy_ST: np.ndarray, owners: np.ndarray) -> Measured:
    return _mean_share(_falls(energy_ST), owners)


def _tau(energy_ST: np.ndarray, owners: np.ndarray) -> Measured:
    """Kendall's tau of the energy against depth: (rising - falling pairs) / pairs."""
    T = energy_ST.shape[1]
    first, later = np.triu_indices(T, 1)
    tau = np.sign(energy_ST[:, later] - energy_ST[:, first]).mean(1)
    return average(tau, owners, "Kendall's tau")

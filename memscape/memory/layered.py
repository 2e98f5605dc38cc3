"""What is the energy of a stack of layers that each hold a part of the patterns, and do the layers descend it?

With the distance energy at each layer, the global energy of a stack is exactly the energy of the union of its parts,
whatever the order (2405.08707, eqs. 6 to 9, corrected). The paper's surrogate, one layer's energy, touches the global
one nowhere in general; the mixture below does, and its step is the mean shift of the union.

>>> parts = [torch.randn(3, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)]
>>> x = torch.randn(2, dtype=torch.float64)
>>> torch.allclose(global_energy(x, parts), distance_energy(x, torch.cat(parts)))
True
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from memscape.memory.energies import distance_energy, responsibilities
from memscape.memory.neighbours import search
from memscape.memory.shards import Shards


def layer_energies(
    state: Float[Tensor, "*B D"], parts: Sequence[Float[Tensor, "_ D"]], beta: float = 1.0
) -> Float[Tensor, "*B L"]:
    """Return the distance energy of each layer's own patterns, in squared distance."""
    return torch.stack([distance_energy(state, part, beta) for part in parts], -1)


def global_energy(
    state: Float[Tensor, "*B D"],
    parts: Sequence[Float[Tensor, "_ D"]],
    beta: float = 1.0,
    weights: Float[Tensor, " L"] | None = None,
) -> Float[Tensor, "*B"]:
    """Return E_global = -1/beta log sum_t pi_t exp(-beta E_t), in squared distance (2405.08707, eq. 7).

    It is the (weighted) energy of the union of all parts, within log(L)/beta below the lowest layer's energy.
    """
    terms = -beta * layer_energies(state, parts, beta)
    return -(terms if weights is None else terms + weights.log()).logsumexp(-1) / beta


def majorizer(
    state: Float[Tensor, "*B D"], at: Float[Tensor, "*B D"], parts: Sequence[Float[Tensor, "_ D"]], beta: float = 1.0
) -> Float[Tensor, "*B"]:
    """Return Q(x) = sum_t w_t E_t(x) + 1/beta sum_t w_t log w_t with w = softmax(-beta E_t(at)).

    Q is nowhere under E_global and equals it at `at`, with the same gradient: what eq. 6 needs and one layer lacks.
    """
    shares = (-beta * layer_energies(at, parts, beta)).softmax(-1)
    return (shares * layer_energies(state, parts, beta)).sum(-1) - torch.special.entr(shares).sum(-1) / beta


def mixture_step(
    state: Float[Tensor, "*B D"], parts: Sequence[Float[Tensor, "_ D"]], beta: float = 1.0
) -> Float[Tensor, "*B D"]:
    """Return sum_t w_t m_t(x), the layers' mean shifts weighted by responsibility: the mean shift of the union."""
    shares = (-beta * layer_energies(state, parts, beta)).softmax(-1)
    shifts = torch.stack([responsibilities(state, part, beta) @ part for part in parts], -2)
    return (shares.unsqueeze(-1) * shifts).sum(-2)


def nearest_step(state: Float[Tensor, "*B D"], part: Float[Tensor, "M D"], radius: float) -> Float[Tensor, "*B D"]:
    """Return the minimiser of one layer's nearest-neighbour energy within `radius` of the state (2405.08707, eq. 6).

    x + min(1, R / |rho - x|) (rho - x), rho the layer's pattern nearest to x.
    """
    found = search(state.reshape(-1, state.shape[-1]), part).index[:, 0]
    pull = part[found].view(state.shape) - state
    return state + pull * (radius / pull.norm(dim=-1, keepdim=True).clamp_min(radius))


@dataclass(frozen=True)
class Descent:
    """The energy of states as they pass through layers."""

    energy: Float[Tensor, "L1 B"]
    """E_beta after each layer (row 0: before the first), in squared distance."""

    @property
    def falls(self) -> Float[Tensor, " L"]:
        """Share of the states whose energy falls at each layer."""
        return (self.energy[1:] < self.energy[:-1]).double().mean(1)

    def slack(self, beta: float) -> Float[Tensor, " L"]:
        """Mean rise at each layer over log(L)/beta, the most that eq. 8 allows a step of the lowest layer."""
        n_layers = len(self.energy) - 1
        allowed = torch.tensor(float(max(n_layers, 2))).log().item() / beta
        return (self.energy[1:] - self.energy[:-1]).double().mean(1) / allowed

    @property
    def kendall(self) -> Float[Tensor, " B"]:
        """Kendall's tau of energy against depth for each state; -1 is descent at every pair of layers."""
        n = len(self.energy)
        above, below = torch.triu_indices(n, n, 1)
        return (self.energy[below] - self.energy[above]).sign().double().mean(0)


def descent(states: Float[Tensor, "L1 B D"], bank: Float[Tensor, "M D"] | Shards, beta: float) -> Descent:
    """Return the energies of states (before the first layer, then after each) against one bank of patterns."""
    found = search(states.reshape(-1, states.shape[-1]), bank, beta=beta)
    assert found.energy is not None
    return Descent(found.energy.view(states.shape[:2]))

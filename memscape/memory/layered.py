"""What is the energy of a stack of layers that each hold a part of the patterns?

With the distance energy at each layer, the global energy of a stack is exactly the energy of the union of its parts,
whatever the order (2405.08707, eqs. 6 to 9, corrected). The paper's surrogate, one layer's energy, touches the global
one nowhere in general; the mixture below does, and its step is the mean shift of the union. Whether the layers of a
real model descend is measured by `memscape probe`.

>>> parts = [torch.randn(3, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)]
>>> x = torch.randn(2, dtype=torch.float64)
>>> torch.allclose(global_energy(layer_energies(x, parts)), distance_energy(x, torch.cat(parts)))
True
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from memscape.memory.energies import distance_energy, responsibilities, squared_distances


def layer_energies(
    state: Float[Tensor, "*B D"], parts: Sequence[Float[Tensor, "*#B _ D"]], beta: float = 1.0
) -> Float[Tensor, "*B L"]:
    """Return the distance energy of each layer's own patterns, in squared distance."""
    return torch.stack([distance_energy(state, part, beta) for part in parts], -1)


def global_energy(
    layers: Float[Tensor, "*B L"], beta: float = 1.0, weights: Float[Tensor, " L"] | None = None
) -> Float[Tensor, "*B"]:
    """Return E_global = -1/beta log sum_t w_t exp(-beta E_t) of layer energies (2405.08707, eq. 7).

    Of distance energies it is the (weighted) energy of the union of all parts, in squared distance; it lies within
    log(L)/beta below the lowest layer's energy.
    """
    terms = -beta * layers
    return -(terms if weights is None else terms + weights.log()).logsumexp(-1) / beta


def majorizer(layers: Float[Tensor, "*B L"], at: Float[Tensor, "*B L"], beta: float = 1.0) -> Float[Tensor, "*B"]:
    """Return Q(x) = sum_t w_t E_t(x) + 1/beta sum_t w_t log w_t, w = softmax(-beta E_t(x_0)), `at` being E_t(x_0).

    Q is nowhere under E_global and equals it at x_0, with the same gradient: what eq. 6 needs and one layer lacks.
    """
    shares = (-beta * at).softmax(-1)
    return (shares * layers).sum(-1) - torch.special.entr(shares).sum(-1) / beta


def mixture_step(
    state: Float[Tensor, "*B D"], parts: Sequence[Float[Tensor, "_ D"]], beta: float = 1.0
) -> Float[Tensor, "*B D"]:
    """Return sum_t w_t m_t(x), the layers' mean shifts weighted by responsibility: the mean shift of the union."""
    shares = (-beta * layer_energies(state, parts, beta)).softmax(-1)
    shifts = torch.stack([responsibilities(state, part, beta) @ part for part in parts], -2)
    return (shares.unsqueeze(-1) * shifts).sum(-2)


def nearest_step(state: Float[Tensor, "*#B D"], part: Float[Tensor, "*#B M D"], radius: float) -> Float[Tensor, "*B D"]:
    """Return the minimiser of one layer's nearest-neighbour energy within `radius` of the state (2405.08707, eq. 6).

    x + min(1, R / |rho - x|) (rho - x), rho the layer's pattern nearest to x.
    """
    near = squared_distances(state, part).argmin(-1)
    pull = part.take_along_dim(near[..., None, None], -2).squeeze(-2) - state
    return state + pull * (radius / pull.norm(dim=-1, keepdim=True).clamp_min(1e-300)).clamp_max(1)

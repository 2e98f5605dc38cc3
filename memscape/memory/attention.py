"""How is attention one step of retrieval, and what energy does it lower?

`HopfieldAttention` is a drop-in for `torch.nn.MultiheadAttention` whose energy can be read. A head stores the projected
keys; its query is the state. One update of the mchn energy at beta = 1/sqrt(head width) is ordinary attention
(Ramsauer et al. 2020, eq. 3); the distance energy adds the bias -beta |k|^2 on each key, at half that beta
(2405.08707, eq. 4: softmax(-beta |q - k|^2) = softmax(2 beta q.k - beta |k|^2)).

>>> layer = HopfieldAttention(64, 4)
>>> x = torch.randn(2, 10, 64)
>>> layer(x).shape, layer.energy(x).shape
(torch.Size([2, 10, 64]), torch.Size([2, 4, 10]))
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from memscape.errors import ShapeError, unknown
from memscape.memory.energies import distance_energy, mchn_energy


class HopfieldAttention(nn.Module):
    """Multi-head attention as retrieval from a memory of projected keys.

    `steps` > 1 repeats the update on the keys before the values are read.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int = 1,
        *,
        energy: str = "mchn",
        steps: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        if dim % n_heads:
            fits = [h for h in range(1, dim + 1) if dim % h == 0]
            raise ShapeError(f"n_heads={n_heads} must divide dim={dim}; try one of {fits[:8]}.")
        if energy not in ("mchn", "distance"):
            raise unknown("energy", energy, ("mchn", "distance"))
        self.dim, self.n_heads, self.kind, self.steps, self.dropout = dim, n_heads, energy, steps, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim, bias=bias) for _ in range(4))

    @property
    def beta(self) -> float:
        """Inverse temperature of the energy: 1/sqrt(head width), half of it for distances."""
        scale = 1 / math.sqrt(self.dim // self.n_heads)
        return scale if self.kind == "mchn" else scale / 2

    def forward(
        self,
        x: Float[Tensor, "*B T D"],
        memory: Float[Tensor, "*B S D"] | None = None,
        *,
        mask: Bool[Tensor, "*#B T S"] | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "*B T D"]:
        """Return the values read from `memory` (the states themselves by default) after `steps` updates.

        `mask` is True where a query may look, as in scaled_dot_product_attention (nn.MultiheadAttention's is inverted).
        """
        memory = x if memory is None else memory
        q, k, v = self._heads(self.query(x)), self._heads(self.key(memory)), self._heads(self.value(memory))
        bias = self._bias(q, k, mask, is_causal)
        for _ in range(self.steps - 1):
            q = self._read(q, k, k, bias, is_causal)
        dropout = self.dropout if self.training else 0.0
        read = self._read(q, k, v, bias, is_causal, dropout)
        return self.out(read.transpose(-3, -2).flatten(-2))

    def energy(
        self, x: Float[Tensor, "*B T D"], memory: Float[Tensor, "*B S D"] | None = None
    ) -> Float[Tensor, "*B H T"]:
        """Return the energy of every query among its head's keys, before any update (no mask)."""
        return self.trace(x, memory, steps=0)[0]

    def trace(
        self, x: Float[Tensor, "*B T D"], memory: Float[Tensor, "*B S D"] | None = None, steps: int = 50
    ) -> Float[Tensor, "S1 *B H T"]:
        """Return the energies of every query before and after each of `steps` updates on the keys; they never rise."""
        q, k = self._heads(self.query(x)), self._heads(self.key(x if memory is None else memory))
        energy = mchn_energy if self.kind == "mchn" else distance_energy
        keys, bias = k.unsqueeze(-3), self._bias(q, k, None, False)
        levels = [energy(q, keys, self.beta)]
        for _ in range(steps):
            q = self._read(q, k, k, bias, False)
            levels.append(energy(q, keys, self.beta))
        return torch.stack(levels)

    @classmethod
    def from_multihead(cls, other: nn.MultiheadAttention, **options) -> "HopfieldAttention":
        """Return a copy of an nn.MultiheadAttention's weights; raises ShapeError if keys have another width."""
        if other.in_proj_weight is None or other.bias_k is not None or other.add_zero_attn:
            raise ShapeError("expected attention of one width, got kdim, vdim, add_bias_kv or zeros; make it without.")
        options = {"dropout": other.dropout, "bias": other.in_proj_bias is not None, **options}
        made = cls(other.embed_dim, other.num_heads, **options).to(other.in_proj_weight)
        with torch.no_grad():
            for ours, theirs in made._pairs(other):
                ours.copy_(theirs)
        return made

    def to_multihead(self) -> nn.MultiheadAttention:
        """Return the same weights as an nn.MultiheadAttention (batch first); exact for energy='mchn' and steps=1."""
        bias = self.out.bias is not None
        made = nn.MultiheadAttention(self.dim, self.n_heads, self.dropout, bias=bias, batch_first=True)
        made = made.to(self.out.weight)
        with torch.no_grad():
            for ours, theirs in self._pairs(made):
                theirs.copy_(ours)
        return made

    def _pairs(self, other: nn.MultiheadAttention) -> list[tuple[Tensor, Tensor]]:
        """Return which weights correspond: PyTorch keeps those of query, key and value in one tensor."""
        inward = (self.query, self.key, self.value)
        pairs = [(self.out.weight, other.out_proj.weight)]
        pairs += zip((layer.weight for layer in inward), other.in_proj_weight.chunk(3), strict=True)
        if self.out.bias is not None:
            pairs += [(self.out.bias, other.out_proj.bias)]
            pairs += zip((layer.bias for layer in inward), other.in_proj_bias.chunk(3), strict=True)
        return pairs

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)

    def _bias(self, q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor | None:
        """Return what is added to the scores: the key norms of the distance energy, and minus infinity where masked."""
        if mask is not None:
            mask = mask.unsqueeze(-3)
        if self.kind == "mchn":
            return mask
        norms = -self.beta * k.square().sum(-1).unsqueeze(-2)
        if is_causal:
            causal = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
            mask = causal if mask is None else mask & causal
        return norms.expand(*q.shape[:-1], -1) if mask is None else torch.where(mask, norms, -math.inf)

    def _read(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, is_causal: bool, dropout: float = 0.0
    ) -> Tensor:
        return scaled_dot_product_attention(q, k, v, bias, dropout, is_causal and bias is None)

"""The feed-forward half of a block: plain, gated, or a mixture of experts."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from memscape.models.packed import Linear


class FeedForward(nn.Module):
    """act(x W_in) W_out with act `gelu` (tanh form, as GPT-2) or `relu`; `swiglu`: (silu(x W_gate) · x W_up) W_out."""

    def __init__(
        self, pack: int, d_model: int, d_ff: int, activation: str, bias: bool, std_out: float, std: float | None = None
    ):
        super().__init__()
        self.activation = activation
        self.into = Linear(pack, d_model, d_ff * (2 if activation == "swiglu" else 1), bias, std)
        self.out = Linear(pack, d_ff, d_model, bias, std=std_out)

    def forward(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T D"]:
        h = self.into(x_PBTD)
        if self.activation == "swiglu":
            gate, up = h.chunk(2, dim=-1)
            return self.out(F.silu(gate) * up)
        return self.out(F.relu(h) if self.activation == "relu" else F.gelu(h, approximate="tanh"))


class Mixture(nn.Module):
    """Top-1 mixture of experts: each token goes through the expert its router prefers, scaled by that probability.

    Every expert is computed for every token and the others are masked: at the sizes studied here that is quicker than
    moving tokens, and it is exact. Switch Transformer (Fedus et al. 2022, eq. 1-2) without its balance loss.
    """

    def __init__(self, n_experts: int, pack: int, d_model: int, *rest):
        super().__init__()
        self.router = Linear(pack, d_model, n_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(pack, d_model, *rest) for _ in range(n_experts))

    def forward(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T D"]:
        probability_PBTE = self.router(x_PBTD).softmax(dim=-1)
        chosen = probability_PBTE.argmax(dim=-1, keepdim=True)
        weight_PBTE = torch.zeros_like(probability_PBTE).scatter(-1, chosen, probability_PBTE.gather(-1, chosen))
        parts = [expert(x_PBTD) * weight_PBTE[..., i : i + 1] for i, expert in enumerate(self.experts)]
        return torch.stack(parts).sum(0)


def feed_forward(n_experts: int, *sizes) -> nn.Module:
    """Return `FeedForward(*sizes)`, or a mixture of `n_experts` of them, each of the full width."""
    return FeedForward(*sizes) if n_experts == 1 else Mixture(n_experts, *sizes)

"""Parts that carry a leading pack axis P: many models of one shape, computed together, each with its own weights.

Activations are (P, B, T, D), weights (P, D_in, D_out); one batched matrix product serves the whole pack. A pack of one
runs plain matrix products. Weights lie input-first, as GPT-2's do.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def spread(d_model: int) -> float:
    """Return the standard deviation that weights start with: GPT-2's 0.02 at its width of 768, elsewhere as 1/sqrt(d).

    At widths of 16 to 64 it cuts the steps until a text is memorised to a half or a third of what 0.02 needs.
    """
    return 0.02 * math.sqrt(768 / d_model)


class Linear(nn.Module):
    """x W + b for every member of the pack."""

    def __init__(self, pack: int, d_in: int, d_out: int, bias: bool = True, std: float | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(pack, d_in, d_out))
        self.bias = nn.Parameter(torch.empty(pack, d_out)) if bias else None
        self.std = spread(d_in) if std is None else std

    def forward(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T E"]:
        P, B, T, D = x_PBTD.shape
        if P == 1:
            weight, x_2D = self.weight.view(D, -1), x_PBTD.reshape(B * T, D)
            y = x_2D @ weight if self.bias is None else torch.addmm(self.bias.view(-1), x_2D, weight)
            return y.view(1, B, T, -1)
        y_PBTE = torch.bmm(x_PBTD.reshape(P, B * T, D), self.weight).view(P, B, T, -1)
        return y_PBTE if self.bias is None else y_PBTE + self.bias.view(P, 1, 1, -1)


class Embedding(nn.Module):
    """Rows of a table per member."""

    def __init__(self, pack: int, n_rows: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(pack, n_rows, d_model))
        self.std = spread(d_model)

    def forward(self, tokens_PBT: Int[Tensor, "P B T"]) -> Float[Tensor, "P B T D"]:
        P, n_rows, d_model = self.weight.shape
        first = torch.arange(P, device=tokens_PBT.device).view(P, 1, 1) * n_rows
        return F.embedding(tokens_PBT + first, self.weight.reshape(P * n_rows, d_model))

    def unembed(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T V"]:
        """Return logits x Eᵀ: the table used as output head."""
        P, B, T, D = x_PBTD.shape
        if P == 1:
            return (x_PBTD.reshape(B * T, D) @ self.weight.view(-1, D).T).view(1, B, T, -1)
        return torch.bmm(x_PBTD.reshape(P, B * T, D), self.weight.mT).view(P, B, T, -1)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) · gain + bias over the last axis."""

    def __init__(self, pack: int, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(pack, d_model))
        self.bias = nn.Parameter(torch.empty(pack, d_model))
        self.eps = eps

    def forward(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T D"]:
        P, D = self.gain.shape
        if P == 1:
            return F.layer_norm(x_PBTD, (D,), self.gain.view(D), self.bias.view(D), self.eps)
        unit = F.layer_norm(x_PBTD, (D,), eps=self.eps)
        return torch.addcmul(self.bias.view(P, 1, 1, D), unit, self.gain.view(P, 1, 1, D))


class RMSNorm(nn.Module):
    """x / sqrt(mean x² + eps) · gain over the last axis; any axes between the pack and the last."""

    def __init__(self, pack: int, d_model: int, eps: float = 1e-6):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(pack, d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "P *any D"]) -> Float[Tensor, "P *any D"]:
        P, D = self.gain.shape
        return F.rms_norm(x, (D,), eps=self.eps) * self.gain.view(P, *(1,) * (x.dim() - 2), D)


def norm(kind: str, pack: int, d_model: int) -> nn.Module:
    """Return the normalisation of that name: `layer`, `rms`, or `none` (identity)."""
    return {"layer": LayerNorm, "rms": RMSNorm}[kind](pack, d_model) if kind != "none" else nn.Identity()


@torch.no_grad()
def initialise(model: nn.Module, seeds: list[int]) -> None:
    """Draw every member's weights from its own seed, so that a member starts the same packed or alone.

    Matrices and tables are normal with their part's `std`; gains are 1, biases and gates 0.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if name == "weight" and isinstance(part, Linear | Embedding):
                for row, generator in zip(parameter, generators, strict=True):
                    row.copy_(torch.empty(row.shape, dtype=torch.float32).normal_(0, part.std, generator=generator))
            else:
                parameter.fill_(1.0 if name == "gain" else 0.0)

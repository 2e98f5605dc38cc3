"""AdamW and clipping for a whole pack: a pack's parameters are one matrix, a row a member.

One matrix (P, n) makes per-member clipping a row norm, per-member rates a column of numbers, freezing a member a row
mask, and a checkpoint three tensors. `adamw` is the update of Loshchilov & Hutter (arXiv 1711.05101, algorithm 2),
equal to `torch.optim.AdamW`.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

ALIGN = 64
"""Every parameter starts at a multiple of this many numbers: matrix units want aligned rows."""


class Slot(NamedTuple):
    """Where one parameter lies in the flat rows."""

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def lay_out(model: nn.Module) -> tuple[list[Slot], int]:
    """Return the slot of each parameter (shapes without the pack axis) and the length n of a row."""
    slots, start = [], 0
    for name, parameter in model.named_parameters():
        slots.append(Slot(name, start, tuple(parameter.shape[1:])))
        start += -(-slots[-1].size // ALIGN) * ALIGN
    return slots, start


def flatten(model: nn.Module, slots: list[Slot], n: int, dtype: torch.dtype) -> Float[Tensor, "P n"]:
    """Return the model's parameters as one matrix of `dtype`; the model's own parameters become views of it."""
    parameters = dict(model.named_parameters())
    first = next(iter(parameters.values()))
    flat = torch.zeros(first.shape[0], n, dtype=dtype, device=first.device)
    for slot in slots:
        view = flat[:, slot.start : slot.start + slot.size].view(-1, *slot.shape)
        view.copy_(parameters[slot.name].detach())
        parameters[slot.name].data = view
    return flat


def gather_gradients(gradients: list[Tensor], slots: list[Slot], n: int) -> Float[Tensor, "P n"]:
    """Return gradients laid out like the parameters, in one matrix; the gaps of the layout are zero."""
    P, columns, end = gradients[0].shape[0], [], 0
    for slot, gradient in zip(slots, gradients, strict=True):
        if slot.start > end:
            columns.append(gradient.new_zeros(P, slot.start - end))
        columns.append(gradient.reshape(P, -1))
        end = slot.start + slot.size
    if n > end:
        columns.append(gradients[0].new_zeros(P, n - end))
    return torch.cat(columns, dim=1)


def decayed(slots: list[Slot], n: int) -> Float[Tensor, " n"]:
    """Return 1 for entries of matrices and tables, 0 for biases, gains and gaps: what weight decay applies to."""
    mask = torch.zeros(n)
    for slot in slots:
        if len(slot.shape) >= 2:
            mask[slot.start : slot.start + slot.size] = 1.0
    return mask


class Rates(NamedTuple):
    """What a member's update depends on besides its gradient."""

    learning_rate_P: Float[Tensor, " P"]
    weight_decay_P: Float[Tensor, " P"]
    beta_1: float = 0.9
    beta_2: float = 0.95
    eps: float = 1e-8


def adamw(
    weights: Float[Tensor, "P n"],
    first: Float[Tensor, "P n"],
    second: Float[Tensor, "P n"],
    gradients: Float[Tensor, "P n"],
    rates: Rates,
    decay: Float[Tensor, " n"] | float,
    step: Int[Tensor, ""],
    clip: float,
    active: Bool[Tensor, " P"],
    norm_P: Float[Tensor, " P"] | None = None,
) -> tuple[Float[Tensor, " P"], Bool[Tensor, " P"]]:
    """Update weights and moments in place; return each member's gradient norm before clipping, and who is still active.

    g <- g min(1, clip / |g|), m <- β1 m + (1 - β1) g, v <- β2 v + (1 - β2) g²,
    w <- w - η (λ w + m̂ / (sqrt(v̂) + eps)) with m̂ = m / (1 - β1^t), v̂ = v / (1 - β2^t), t = step + 1.

    A member whose gradient is not finite keeps its last good row and is no longer active; nobody else notices.
    `clip` of 0 leaves gradients alone. `norm_P` is given where the row is only a part of the member's parameters.
    """
    gradients = gradients.to(weights.dtype)
    norm_P = torch.linalg.vector_norm(gradients, dim=1) if norm_P is None else norm_P
    active = active & torch.isfinite(norm_P)
    row = active[:, None]
    scale_P = (clip / (norm_P + 1e-6)).clamp(max=1.0) if clip else torch.ones_like(norm_P)
    g = torch.where(row, gradients * scale_P[:, None], 0.0)
    t = (step + 1).to(weights.dtype)
    rate = rates.learning_rate_P[:, None]
    unbias_1, unbias_2 = 1 - rates.beta_1**t, 1 - rates.beta_2**t
    m = torch.lerp(first, g, 1 - rates.beta_1)
    v = rates.beta_2 * second + (1 - rates.beta_2) * g * g
    moved = weights * (1 - rate * rates.weight_decay_P[:, None] * decay)
    moved = moved - (rate / unbias_1) * m / ((v / unbias_2).sqrt() + rates.eps)
    weights.copy_(torch.where(row, moved, weights))
    first.copy_(torch.where(row, m, first))
    second.copy_(torch.where(row, v, second))
    return norm_P, active


def adamw_by_row(
    weights: Float[Tensor, "P n"],
    first: Float[Tensor, "P n"],
    second: Float[Tensor, "P n"],
    gradients: Float[Tensor, "P n"],
    rates: Rates,
    decay: Float[Tensor, " n"] | float,
    step: Int[Tensor, ""],
    clip: float,
    active: Bool[Tensor, " P"],
) -> tuple[Float[Tensor, " P"], Bool[Tensor, " P"]]:
    """Do what `adamw` does, on a CPU in single precision: row by row through PyTorch's fused kernel, in one pass each.

    Without a compiler to fuse it, the formula above reads and writes memory some twenty times.
    """
    norm_P = torch.linalg.vector_norm(gradients, dim=1)
    active = active & torch.isfinite(norm_P)
    if clip:
        gradients *= (clip / (norm_P + 1e-6)).clamp(max=1.0)[:, None]
    t = [(step + 1).float()]
    for p in active.nonzero().flatten().tolist():
        rate = rates.learning_rate_P[p].item()
        if isinstance(decay, Tensor) and (shrink := rate * rates.weight_decay_P[p].item()):
            weights[p] *= 1 - shrink * decay
        torch.ops.aten._fused_adamw_(
            [weights[p]], [gradients[p]], [first[p]], [second[p]], [], t, lr=rate, beta1=rates.beta_1,
            beta2=rates.beta_2, weight_decay=0.0, eps=rates.eps, amsgrad=False, maximize=False,
        )  # fmt: skip
    return norm_P, active


def schedule(step: Int[Tensor, ""], n_steps: int, warmup: int, final: float, kind: str = "cosine") -> Float[Tensor, ""]:
    """Return the factor on the peak learning rate at a step counted from 0.

    Linear warm-up over `warmup` steps, then `cosine` or `linear` down to `final` of the peak, or `constant`.
    """
    t = (step + 1).float()
    rise = (t / max(1, warmup)).clamp(max=1.0)
    if kind == "constant":
        return rise
    progress = ((t - warmup) / max(1, n_steps - warmup)).clamp(0.0, 1.0)
    fall = (1 + torch.cos(math.pi * progress)) / 2 if kind == "cosine" else 1 - progress
    return rise * (final + (1 - final) * fall)

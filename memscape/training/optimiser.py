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

    def of(self, rows: Float[Tensor, "P n"]) -> Tensor:
        """Return this parameter of every member, (P, *shape), as a view of the rows."""
        return rows[:, self.start : self.start + self.size].view(-1, *self.shape)


class Rows(NamedTuple):
    """A pack's master weights and AdamW's two moments, a row a member."""

    weights: Float[Tensor, "P n"]
    first: Float[Tensor, "P n"]
    second: Float[Tensor, "P n"]


class Rule(NamedTuple):
    """What an update depends on besides gradients."""

    learning_rate_P: Float[Tensor, " P"]
    weight_decay_P: Float[Tensor, " P"]
    decayed: Float[Tensor, " n"] | float = 1.0
    """1 for what weight decay applies to, 0 for the rest."""
    clip: float = 1.0
    """Largest gradient norm of a member; 0 leaves gradients alone."""
    beta_1: float = 0.9
    beta_2: float = 0.95
    eps: float = 1e-8


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
        view = slot.of(flat)
        view.copy_(parameters[slot.name].detach())
        parameters[slot.name].data = view
    return flat


def in_rows(tensors: list[Tensor], slots: list[Slot], n: int) -> Float[Tensor, "P n"]:
    """Return tensors of the parameters' shapes, in the parameters' order, as rows; the gaps of the layout are zero."""
    P, columns, end = tensors[0].shape[0], [], 0
    for slot, tensor in zip(slots, tensors, strict=True):
        if slot.start > end:
            columns.append(tensor.new_zeros(P, slot.start - end))
        columns.append(tensor.reshape(P, -1))
        end = slot.start + slot.size
    if n > end:
        columns.append(tensors[0].new_zeros(P, n - end))
    return torch.cat(columns, dim=1)


def decayed(slots: list[Slot], n: int) -> Float[Tensor, " n"]:
    """Return 1 for entries of matrices and tables, 0 for biases, gains and gaps: what weight decay applies to."""
    mask = torch.zeros(n)
    for slot in slots:
        mask[slot.start : slot.start + slot.size] = float(len(slot.shape) >= 2)
    return mask


def adamw(
    rows: Rows,
    gradients: Float[Tensor, "P n"],
    rule: Rule,
    step: Int[Tensor, ""],
    active: Bool[Tensor, " P"],
    norm_P: Float[Tensor, " P"] | None = None,
) -> tuple[Float[Tensor, " P"], Bool[Tensor, " P"]]:
    """Update rows in place; return each member's gradient norm before clipping, and who is still active.

    g <- g min(1, clip / |g|), m <- β1 m + (1 - β1) g, v <- β2 v + (1 - β2) g²,
    w <- w - η (λ w + m̂ / (sqrt(v̂) + eps)) with m̂ = m / (1 - β1^t), v̂ = v / (1 - β2^t), t = step + 1.

    A member whose gradient is not finite keeps its last good row and is no longer active; nobody else notices.
    `norm_P` is given where a row is only a part of the member's parameters.
    """
    weights, first, second = rows
    gradients = gradients.to(weights.dtype)
    norm_P, active, scale_P = _clipping(gradients, rule, active, norm_P)
    row = active[:, None]
    g = torch.where(row, gradients * scale_P[:, None], 0.0)
    t = (step + 1).to(weights.dtype)
    rate = rule.learning_rate_P[:, None]
    unbias_1, unbias_2 = 1 - rule.beta_1**t, 1 - rule.beta_2**t
    m = torch.lerp(first, g, 1 - rule.beta_1)
    v = rule.beta_2 * second + (1 - rule.beta_2) * g * g
    moved = weights * (1 - rate * rule.weight_decay_P[:, None] * rule.decayed)
    moved = moved - (rate / unbias_1) * m / ((v / unbias_2).sqrt() + rule.eps)
    weights.copy_(torch.where(row, moved, weights))
    first.copy_(torch.where(row, m, first))
    second.copy_(torch.where(row, v, second))
    return norm_P, active


def adamw_by_row(
    rows: Rows, gradients: Float[Tensor, "P n"], rule: Rule, step: Int[Tensor, ""], active: Bool[Tensor, " P"]
) -> tuple[Float[Tensor, " P"], Bool[Tensor, " P"]]:
    """Do what `adamw` does, on a CPU in single precision: row by row through PyTorch's fused kernel, in one pass each.

    Without a compiler to fuse it, the formula above reads and writes memory some twenty times.
    """
    norm_P, active, scale_P = _clipping(gradients, rule, active, None)
    gradients *= scale_P[:, None]
    t = [(step + 1).float()]
    for p in active.nonzero().flatten().tolist():
        rate = rule.learning_rate_P[p].item()
        w, m, v = (x[p] for x in rows)
        if shrink := rate * rule.weight_decay_P[p].item():
            w *= 1 - shrink * rule.decayed
        torch.ops.aten._fused_adamw_(
            [w], [gradients[p]], [m], [v], [], t, lr=rate, beta1=rule.beta_1, beta2=rule.beta_2,
            weight_decay=0.0, eps=rule.eps, amsgrad=False, maximize=False,
        )  # fmt: skip
    return norm_P, active


class Parts(NamedTuple):
    """One member's parameters as separate tensors, each with its moments, its gradient, and its weight decay."""

    weights: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    gradients: list[Tensor]
    decay: list[float]


def adamw_by_part(
    members: list[Parts], rule: Rule, step: Int[Tensor, ""], active: Bool[Tensor, " P"], norm_P: Float[Tensor, " P"]
) -> Bool[Tensor, " P"]:
    """Do what `adamw` does for parameters that lie apart, all of a member in a launch or two; return who is active."""
    _, active, scale_P = _clipping(norm_P[:, None], rule, active, norm_P)
    t, halted_P = (step + 1).float(), (~active).float()
    for p, member in enumerate(members):
        for decay in set(member.decay):
            chosen = [i for i, other in enumerate(member.decay) if other == decay]
            weights, first, second, gradients = ([part[i] for i in chosen] for part in member[:4])
            torch.ops.aten._fused_adamw_.tensor_lr(
                weights, gradients, first, second, [], [t] * len(chosen), lr=rule.learning_rate_P[p], beta1=rule.beta_1,
                beta2=rule.beta_2, weight_decay=decay, eps=rule.eps, amsgrad=False, maximize=False,
                grad_scale=1 / scale_P[p], found_inf=halted_P[p],
            )  # fmt: skip
    return active


def _clipping(
    gradients: Float[Tensor, "P n"], rule: Rule, active: Bool[Tensor, " P"], norm_P: Float[Tensor, " P"] | None
) -> tuple[Float[Tensor, " P"], Bool[Tensor, " P"], Float[Tensor, " P"]]:
    """Return gradient norms, who is still active, and what gradients are scaled by."""
    norm_P = torch.linalg.vector_norm(gradients, dim=1) if norm_P is None else norm_P
    scale_P = (rule.clip / (norm_P + 1e-6)).clamp(max=1.0) if rule.clip else torch.ones_like(norm_P)
    return norm_P, active & torch.isfinite(norm_P), scale_P


def schedule(step: Int[Tensor, ""], n_steps: int, warmup: int, final: float, kind: str = "cosine") -> Float[Tensor, ""]:
    """Return the factor on the peak learning rate at a step counted from 0.

    Linear warm-up over `warmup` steps, then a `cosine` down to `final` of the peak, or `constant`.
    """
    t = (step + 1).float()
    rise = (t / max(1, warmup)).clamp(max=1.0)
    if kind == "constant":
        return rise
    progress = ((t - warmup) / max(1, n_steps - warmup)).clamp(0.0, 1.0)
    return rise * (final + (1 - final) * (1 + torch.cos(math.pi * progress)) / 2)

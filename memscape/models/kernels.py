"""GPU kernels for what PyTorch does slowly: attention over short sequences, losses of tokens, moments of states.

`short_attention` keeps one head's whole score square on the chip, reads queries, keys and values where the
projection left them and writes their gradients there. `loss_and_gradient` reads each row of logits once and writes
the gradient; `losses` does without. `moments` reads half-precision states once, where PyTorch widens them in memory
first. `looked_up` takes any function of 16 bits from a table. All are Triton; on a CPU they run under its interpreter
(TRITON_INTERPRET=1), which is how the tests check them.
"""

# Triton's language is not Python's: a type checker reads slices and launches of kernels wrongly.
# pyright: reportCallIssue=false, reportArgumentType=false

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

LONGEST = 128
"""Tokens up to which a score square fits on the chip."""


@triton.jit
def _scores(qkv, row, head, n_tokens, n_heads, T: tl.constexpr, K: tl.constexpr, scale):
    """Load one head's q, k, v of one sequence and return them with the softmax probabilities (T, T)."""
    t, c = tl.arange(0, T), tl.arange(0, K)
    stride = 3 * n_heads * K
    at = (row * n_tokens + t[:, None]).to(tl.int64) * stride + head * K + c[None, :]
    real = t[:, None] < n_tokens
    q = tl.load(qkv + at, mask=real, other=0.0)
    k = tl.load(qkv + at + n_heads * K, mask=real, other=0.0)
    v = tl.load(qkv + at + 2 * n_heads * K, mask=real, other=0.0)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    s = tl.where(t[:, None] >= t[None, :], s, -float("inf"))
    p = tl.exp2(s - tl.max(s, 1)[:, None])
    p = p / tl.sum(p, 1)[:, None]
    return at, real, q, k, v, p


@triton.jit
def _attend(qkv, out, n_tokens, n_heads, T: tl.constexpr, K: tl.constexpr, scale):
    row, head = tl.program_id(0) // n_heads, tl.program_id(0) % n_heads
    _, real, _, _, v, p = _scores(qkv, row, head, n_tokens, n_heads, T, K, scale)
    o = tl.dot(p.to(v.dtype), v, input_precision="ieee")
    t, c = tl.arange(0, T), tl.arange(0, K)
    at = (row * n_tokens + t[:, None]).to(tl.int64) * n_heads * K + head * K + c[None, :]
    tl.store(out + at, o.to(out.dtype.element_ty), mask=real)


@triton.jit
def _attend_backward(qkv, d_out, d_qkv, n_tokens, n_heads, T: tl.constexpr, K: tl.constexpr, scale, true_scale):
    row, head = tl.program_id(0) // n_heads, tl.program_id(0) % n_heads
    at, real, q, k, v, p = _scores(qkv, row, head, n_tokens, n_heads, T, K, scale)
    t, c = tl.arange(0, T), tl.arange(0, K)
    at_out = (row * n_tokens + t[:, None]).to(tl.int64) * n_heads * K + head * K + c[None, :]
    do = tl.load(d_out + at_out, mask=real, other=0.0).to(v.dtype)
    dp = tl.dot(do, tl.trans(v), input_precision="ieee")
    ds = p * (dp - tl.sum(p * dp, 1)[:, None]) * true_scale
    dv = tl.dot(tl.trans(p.to(v.dtype)), do, input_precision="ieee")
    ds = ds.to(v.dtype)
    dq = tl.dot(ds, k, input_precision="ieee")
    dk = tl.dot(tl.trans(ds), q, input_precision="ieee")
    kind = d_qkv.dtype.element_ty
    tl.store(d_qkv + at, dq.to(kind), mask=real)
    tl.store(d_qkv + at + n_heads * K, dk.to(kind), mask=real)
    tl.store(d_qkv + at + 2 * n_heads * K, dv.to(kind), mask=real)


def _sizes(qkv_ZTC: Tensor, n_heads: int) -> tuple[int, int, int, int, int]:
    Z, n_tokens, width = qkv_ZTC.shape
    return Z, n_tokens, width // (3 * n_heads), max(16, triton.next_power_of_2(n_tokens)), 4 if n_tokens <= 64 else 8


@torch.library.custom_op("memscape::short_attention", mutates_args=())
def short_attention(qkv_ZTC: Tensor, n_heads: int) -> Tensor:
    """Return causal attention (Z, T, H K) of packed projections (Z, T, 3 H K): queries, keys, values, head by head.

    T is at most `LONGEST`, K a power of two from 16. softmax(q kᵀ / sqrt(K)) v, exact.
    """
    qkv_ZTC = qkv_ZTC.contiguous()
    Z, n_tokens, K, T, warps = _sizes(qkv_ZTC, n_heads)
    out = qkv_ZTC.new_empty(Z, n_tokens, n_heads * K)
    scale = math.log2(math.e) / math.sqrt(K)
    _attend[(Z * n_heads,)](qkv_ZTC, out, n_tokens, n_heads, T, K, scale, num_warps=warps)
    return out


@short_attention.register_fake
def _(qkv_ZTC: Tensor, n_heads: int) -> Tensor:
    return qkv_ZTC.new_empty(*qkv_ZTC.shape[:2], qkv_ZTC.shape[2] // 3)


@torch.library.custom_op("memscape::short_attention_backward", mutates_args=())
def short_attention_backward(qkv_ZTC: Tensor, d_out: Tensor, n_heads: int) -> Tensor:
    """Return the gradient of `short_attention` with respect to its packed projections."""
    qkv_ZTC, d_out = qkv_ZTC.contiguous(), d_out.contiguous()
    Z, n_tokens, K, T, warps = _sizes(qkv_ZTC, n_heads)
    d_qkv = torch.empty_like(qkv_ZTC)
    scale = 1 / math.sqrt(K)
    _attend_backward[(Z * n_heads,)](
        qkv_ZTC, d_out, d_qkv, n_tokens, n_heads, T, K, scale * math.log2(math.e), scale, num_warps=warps
    )
    return d_qkv


@short_attention_backward.register_fake
def _(qkv_ZTC: Tensor, d_out: Tensor, n_heads: int) -> Tensor:
    return torch.empty_like(qkv_ZTC, memory_format=torch.contiguous_format)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.n_heads = inputs[1]


def _differentiate(ctx, d_out: Tensor):
    return short_attention_backward(ctx.saved_tensors[0], d_out, ctx.n_heads), None


short_attention.register_autograd(_differentiate, setup_context=_keep)


@triton.jit
def _loss(logits, targets, weights, z_weights, nll, V, BLOCK: tl.constexpr, GRADIENT: tl.constexpr):
    """One row of logits: online logsumexp, then the gradient in its place, while the row is still in cache."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    hit = tl.load(logits + row * V + tl.maximum(target, 0)).to(tl.float32)  # before its gradient takes the place
    top, total = -float("inf"), 0.0
    for start in range(0, V, BLOCK):
        c = start + tl.arange(0, BLOCK)
        x = tl.load(logits + row * V + c, mask=c < V, other=-float("inf")).to(tl.float32)
        now = tl.maximum(top, tl.max(x, 0))
        total = total * tl.exp(top - now) + tl.sum(tl.exp(x - now), 0)
        top = now
    lse = top + tl.log(total)
    tl.store(nll + row, tl.where(target >= 0, lse - hit, 0.0))
    if GRADIENT:
        weight, z_weight = tl.load(weights + row), tl.load(z_weights + row)
        factor = weight + 2.0 * z_weight * lse
        for start in range(0, V, BLOCK):
            c = start + tl.arange(0, BLOCK)
            x = tl.load(logits + row * V + c, mask=c < V, other=-float("inf")).to(tl.float32)
            g = tl.exp(x - lse) * factor - tl.where(c == target, weight, 0.0)
            tl.store(logits + row * V + c, g.to(logits.dtype.element_ty), mask=c < V)


def loss_and_gradient(
    logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor, z_weights_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (-ln p(target) of each row, gradient of Σ weight nll + z_weight lse² with respect to the logits).

    Rows with target -1 have nll 0; give them weight 0. The gradient takes the place of the logits; sums are single
    precision.
    """
    gradient = logits_NV.contiguous()
    return _losses(gradient, targets_N, weights_N, z_weights_N), gradient


def losses(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Return -ln p(target) of each row in nats, summed in single precision; 0 for target -1."""
    return _losses(logits_NV.contiguous(), targets_N)


def _losses(logits_NV: Tensor, targets_N: Tensor, *weights: Tensor) -> Tensor:
    """Losses of all rows; given the weights of both sums, logits turn into their gradient."""
    N, V = logits_NV.shape
    nll = torch.empty(N, dtype=torch.float32, device=logits_NV.device)
    # For a gradient long rows are read twice: so few at once that the second time they are still in the GPU's cache.
    twice = bool(weights) and V > 8192
    block = min(8192 if twice else 4096 if weights else 2048, triton.next_power_of_2(V))
    warps = 32 if twice else max(1, min(8 if weights else 4, block // 256))
    _loss[(N,)](logits_NV, targets_N, *(weights or (nll, nll)), nll, V, block, bool(weights), num_warps=warps)
    return nll


@triton.jit
def _moments(states, means, squares, N, D, span, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Mean and summed squared deviations of some columns over one span of rows, a block of rows joined at a time."""
    part, c = tl.program_id(0), tl.program_id(1) * COLS + tl.arange(0, COLS)
    mean, square = tl.zeros((COLS,), tl.float32), tl.zeros((COLS,), tl.float32)
    first = part * span
    seen = 0.0
    for start in range(first, tl.minimum(first + span, N), ROWS):
        r = start + tl.arange(0, ROWS)
        real = (r < tl.minimum(first + span, N))[:, None] & (c < D)[None, :]
        x = tl.load(states + r[:, None].to(tl.int64) * D + c[None, :], mask=real, other=0.0).to(tl.float32)
        n = tl.minimum(tl.minimum(first + span, N) - start, ROWS).to(tl.float32)
        own = tl.sum(x, 0) / n
        away = tl.where(real, x - own[None, :], 0.0)
        step = own - mean
        square += tl.sum(away * away, 0) + step * step * seen * n / (seen + n)
        mean += step * n / (seen + n)
        seen += n
    tl.store(means + part * D + c, mean, mask=c < D)
    tl.store(squares + part * D + c, square, mask=c < D)


@triton.jit
def _look_up(codes, table, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    code = tl.load(codes + at, mask=at < n, other=0, eviction_policy="evict_first").to(tl.int32) & 0xFFFF
    tl.store(out + at, tl.load(table + code), mask=at < n)


def looked_up(codes: Tensor, table: Tensor) -> Tensor:
    """Return table[code] for codes of 16 bits (int16, taken as unsigned); the table has 65,536 entries."""
    codes = codes.contiguous()
    out = torch.empty_like(codes)
    _look_up[(triton.cdiv(codes.numel(), 2048),)](codes, table, out, codes.numel(), BLOCK=2048, num_warps=8)
    return out


SPAN = 512
"""Rows of states that one program of `moments` goes through."""


def moments(states_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and summed squared deviations (S, D) of every column, of each of S spans of `SPAN` rows."""
    states_ND = states_ND.contiguous()
    N, D = states_ND.shape
    means, squares = torch.empty(2, triton.cdiv(N, SPAN), D, dtype=torch.float32, device=states_ND.device).unbind()
    _moments[(len(means), triton.cdiv(D, 64))](states_ND, means, squares, N, D, SPAN, ROWS=64, COLS=64)
    return means, squares


def joined(means_xSD: Tensor, squares_xSD: Tensor, N: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance over N rows from those of their spans, for any number of sites at once."""
    shares = means_xSD.new_full((means_xSD.shape[-2], 1), SPAN / N)
    shares[-1] = 1 - (len(shares) - 1) * SPAN / N
    mean = (shares * means_xSD).sum(-2, keepdim=True)
    return mean.squeeze(-2), squares_xSD.sum(-2) / N + (shares * (means_xSD - mean).square()).sum(-2)

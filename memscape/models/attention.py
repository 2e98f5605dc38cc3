"""Causal self-attention with its options: grouped queries, rotary or ALiBi positions, windows, top-k, normalised keys.

P pack, B batch, T tokens, D width, H query heads, G key-value heads, K head size.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from memscape.models.config import LayerShape, ModelConfig
from memscape.models.packed import Linear, RMSNorm


class Attention(nn.Module):
    """softmax(q kᵀ / sqrt(K) + bias) v, projected back to the residual stream."""

    def __init__(
        self, config: ModelConfig, shape: LayerShape, pack: int, bias: bool, std_out: float, std: float | None = None
    ):
        super().__init__()
        H, G, K = shape.n_heads, shape.n_kv_heads, shape.d_head
        self.shape, self.top_k = shape, config.top_k
        self.qkv = Linear(pack, config.d_model, (H + 2 * G) * K, bias, std)
        self.out = Linear(pack, H * K, config.d_model, bias, std=std_out)
        self.norms = nn.ModuleList(RMSNorm(pack, K) for _ in range(2 * config.normalises_qk))
        self.rotary = config.positions == "rotary"
        self.plain = H == G and config.positions not in ("rotary", "alibi") and not config.normalises_qk
        self.plain = self.plain and config.window is None and config.top_k is None
        self.mask = None if config.window is None and config.positions != "alibi" else (config.window, config.positions)

    def forward(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T D"]:
        P, B, T, _ = x_PBTD.shape
        H, G, K, _ = self.shape
        qkv = self.qkv(x_PBTD)
        if self.plain and on_chip(qkv, K):
            from memscape.models.kernels import short_attention

            return self.out(short_attention(qkv.view(P * B, T, -1), H).view(P, B, T, H * K))
        q, k, v = qkv.view(P, B * T, H + 2 * G, K).split((H, G, G), dim=2)
        if len(self.norms):
            q, k = self.norms[0](q), self.norms[1](k)
        q_ZHTK, k_ZGTK, v_ZGTK = (x.reshape(P * B, T, -1, K).transpose(1, 2) for x in (q, k, v))
        if self.rotary:
            q_ZHTK, k_ZGTK = rotate(q_ZHTK), rotate(k_ZGTK)
        bias_HTT = None if self.mask is None else score_bias(H, T, *self.mask, device=x_PBTD.device).to(q_ZHTK.dtype)
        if self.top_k is None:
            mixed = F.scaled_dot_product_attention(
                q_ZHTK, k_ZGTK, v_ZGTK, attn_mask=bias_HTT, is_causal=bias_HTT is None, enable_gqa=G != H
            )
        else:
            mixed = attend_top_k(q_ZHTK, k_ZGTK, v_ZGTK, self.top_k, bias_HTT)
        return self.out(mixed.transpose(1, 2).reshape(P, B, T, H * K))


def on_chip(qkv_PBTC: Tensor, K: int) -> bool:
    """Return whether our kernel for short sequences applies: on a GPU, in bf16, T up to 128, heads of 16 to 64."""
    return qkv_PBTC.is_cuda and qkv_PBTC.dtype == torch.bfloat16 and qkv_PBTC.shape[2] <= 128 and K in (16, 32, 64)


def rotate(x_ZHTK: Float[Tensor, "Z H T K"], base: float = 10_000.0) -> Float[Tensor, "Z H T K"]:
    """Return x with pairs (i, i + K/2) turned by t / base^(2i/K), norms kept: rotary positions (Su et al. 2021)."""
    T, K = x_ZHTK.shape[-2:]
    frequency = base ** (-torch.arange(0, K, 2, device=x_ZHTK.device, dtype=torch.float32) / K)
    angle_TK = torch.arange(T, device=x_ZHTK.device, dtype=torch.float32)[:, None] * frequency
    cos, sin = angle_TK.cos().to(x_ZHTK), angle_TK.sin().to(x_ZHTK)
    a, b = x_ZHTK.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def score_bias(
    n_heads: int, T: int, window: int | None, position: str, device: torch.device | str = "cpu"
) -> Float[Tensor, "#H T T"]:
    """Return what is added to scores: -inf outside the causal window, ALiBi's -slope·distance (Press et al. 2022)."""
    distance_TT = torch.arange(T, device=device)[:, None] - torch.arange(T, device=device)
    seen: Bool[Tensor, "T T"] = (distance_TT >= 0) & (distance_TT < (window or T))
    bias = torch.zeros(1, T, T, device=device)
    if position == "alibi":
        slope_H = 2.0 ** (-8.0 * torch.arange(1, n_heads + 1, device=device) / n_heads)
        bias = -slope_H.view(-1, 1, 1) * distance_TT
    return bias.masked_fill(~seen, -math.inf)


def attend_top_k(
    q: Float[Tensor, "Z H T K"],
    k: Float[Tensor, "Z G T K"],
    v: Float[Tensor, "Z G T K"],
    top: int,
    bias: Float[Tensor, "#H T T"] | None,
) -> Float[Tensor, "Z H T K"]:
    """Return attention in which each query keeps its `top` largest scores (the truncated energy of the theory)."""
    H, T, K = q.shape[1:]
    k, v = (x.repeat_interleave(H // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.mT / math.sqrt(K) + (score_bias(H, T, None, "none", q.device).to(q.dtype) if bias is None else bias)
    least = scores.topk(min(top, T), dim=-1).values[..., -1:]
    return scores.masked_fill(scores < least, -math.inf).softmax(dim=-1) @ v

"""How big is it: one dial to a shape, parameters by every convention, FLOPs per token with their terms.

    config = scaled(64, vocab_size=264)
    parameters(config).n_params       98,432 + norms and biases: what the paper calls N
    flops(config).train               FLOPs per token, forward and backward

N counts attention and feed-forward with their norms and biases, no embeddings, no head, no final norm: the
convention of Niu et al. (arXiv 2405.08707), whose OpenELM counts it reproduces.
"""

import math
from typing import Any, NamedTuple

from memscape.models.config import Family, ModelConfig


class Parameters(NamedTuple):
    """Parameter counts; the parts make the whole."""

    attention: int
    feed_forward: int
    norms: int
    """Norms inside the blocks, connection gates included."""
    embedding: int
    """Token and position tables, the head where it is not tied, and the final norm."""

    @property
    def n_params(self) -> int:
        """The paper's N: attention + feed-forward (with the blocks' norms)."""
        return self.attention + self.feed_forward + self.norms

    @property
    def total(self) -> int:
        """Every number that is trained."""
        return self.n_params + self.embedding


class Flops(NamedTuple):
    """Forward FLOPs per token, two per multiply-add; attention counts the whole T x T square."""

    attention_projections: int
    attention_scores: int
    feed_forward: int
    head: int

    @property
    def forward(self) -> int:
        """FLOPs of one forward pass, per token."""
        return sum(self)

    @property
    def train(self) -> int:
        """FLOPs of forward and backward, per token: three forward passes (6N + 12 L H K T and the head)."""
        return 3 * self.forward


def scaled(width: int, vocab_size: int, seq_len: int = 64, family: Family = "gpt2", **options: Any) -> ModelConfig:
    """Return the model of one dial, its width in the residual stream.

    Depth is width / 64, at least 2 (the aspect ratio of nanochat's depth dial). A head holds width / 4 numbers, rounded
    down to a power of two between 16 and 64, less where that does not divide the width. `options` are further fields of
    `ModelConfig` and win over the rule.
    """
    d_head = min(64, max(16, 2 ** int(math.log2(max(width, 4) / 4))))
    while width % d_head and d_head > 1:
        d_head //= 2
    rule = {"n_layers": max(2, round(width / 64)), "n_heads": max(1, width // d_head)}
    return ModelConfig(family=family, vocab_size=vocab_size, seq_len=seq_len, d_model=width, **{**rule, **options})


def parameters(config: ModelConfig) -> Parameters:
    """Return the parameter counts of one member, from the configuration alone."""
    d, bias = config.d_model, config.family != "openelm"
    per_norm = {"layer": 2 * d, "rms": d, "none": 0}[config.norms]
    matrices_in = 2 if config.family == "openelm" else 1  # SwiGLU has a gate beside the up-projection
    attention = feed_forward = norms = 0
    for H, G, K, d_ff in config.layers:
        attention += d * (H + 2 * G) * K + H * K * d + bias * ((H + 2 * G) * K + d)
        one = d * d_ff * (matrices_in + 1) + bias * (d_ff * matrices_in + d)
        feed_forward += one if config.n_experts == 1 else config.n_experts * (one + d)
        norms += 2 * per_norm + 2 * K * config.normalises_qk
    norms += {"skip": config.n_layers // 2, "lateral": config.n_layers}.get(config.connection, 0)
    tables = config.vocab_size * d * (1 if config.tied else 2)
    tables += config.seq_len * d if config.positions == "learned" else 0
    return Parameters(attention, feed_forward, norms, tables + per_norm * (config.family != "vanilla"))


def flops(config: ModelConfig, seq_len: int | None = None) -> Flops:
    """Return FLOPs per token at sequences of `seq_len` tokens (the longest, if not given).

    Source of the convention: PaLM (arXiv 2204.02311), appendix B. All experts of a mixture are computed and counted.
    """
    d, T = config.d_model, seq_len or config.seq_len
    gates = 2 if config.family == "openelm" else 1
    projections = scores = feed_forward = 0
    for H, G, K, d_ff in config.layers:
        projections += 2 * d * (H + 2 * G) * K + 2 * H * K * d
        scores += 4 * H * K * T
        feed_forward += 2 * d * d_ff * (gates + 1) * config.n_experts + 2 * d * config.n_experts * (
            config.n_experts > 1
        )
    return Flops(projections, scores, feed_forward, 2 * d * config.vocab_size)

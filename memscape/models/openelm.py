"""OpenELM (Mehta et al., arXiv 2404.14619) with a pack axis: RMSNorm, rotary positions, normalised queries and keys,
grouped-query attention, SwiGLU, no biases, and heads and feed-forward widths that grow with depth.

    OpenELM(paper_config(1))      the first of the three models of Niu et al.: N = 39.947 M

The paper leaves the feed-forward multiplier out; 1.25 in every layer gives its first count exactly (39.95 M) and the
other two to +2.0 % and -1.4 %.
"""

import math

from jaxtyping import Float
from torch import Tensor, nn

from memscape.errors import PlanError
from memscape.models.attention import Attention
from memscape.models.config import ModelConfig
from memscape.models.dropout import Noise
from memscape.models.feedforward import feed_forward
from memscape.models.packed import norm, spread
from memscape.models.stream import Stream, join

PAPER = {
    1: (954, (6, 6, 6, 6, 8, 8, 8, 10), (3, 3, 3, 3, 4, 4, 4, 5)),
    2: (1280, (6, 6, 6, 6, 8, 8, 8, 10), (3, 3, 3, 3, 4, 4, 4, 5)),
    3: (1440, (6, 6, 6, 8, 8, 8, 10, 10), (3, 3, 3, 4, 4, 4, 5, 5)),
}
"""Width, query heads and key-value heads a layer of the three models (Niu et al., appendix)."""


def paper_config(model: int, vocab_size: int = 50_257, seq_len: int = 1024) -> ModelConfig:
    """Return the configuration of Niu et al.'s OpenELM model 1, 2 or 3."""
    if model not in PAPER:
        raise PlanError(f"the paper has OpenELM models 1, 2 and 3, got {model}; give one of them.")
    d_model, heads, kv_heads = PAPER[model]
    return ModelConfig(
        family="openelm", vocab_size=vocab_size, seq_len=seq_len, d_model=d_model, n_layers=8,
        n_heads=heads, n_kv_heads=kv_heads, d_head=64,
    )  # fmt: skip


class OpenELMBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with this layer's own sizes."""

    def __init__(self, config: ModelConfig, layer: int, pack: int):
        super().__init__()
        shape, d = config.layers[layer], config.d_model
        std_out = spread(d) / math.sqrt(2 * config.n_layers)
        self.connected = config.connection != "none"
        self.norm_1 = norm(config.norms, pack, d)
        self.attention = Attention(config, shape, pack, False, std_out)
        self.norm_2 = norm(config.norms, pack, d)
        self.mlp = feed_forward(config.n_experts, pack, d, shape.d_ff, "swiglu", False, std_out)

    def forward(self, x_PBTD: Float[Tensor, "P B T D"], noise: Noise | None) -> Float[Tensor, "P B T D"]:
        x_PBTD = join(x_PBTD, self.attention(self.norm_1(x_PBTD)), self.connected, noise and noise.at(0))
        return join(x_PBTD, self.mlp(self.norm_2(x_PBTD)), self.connected, noise and noise.at(1))


class OpenELM(Stream):
    """A pack of OpenELM models."""

    block = OpenELMBlock

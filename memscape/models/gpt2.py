"""GPT-2 (Radford et al. 2019) with a pack axis: pre-norm blocks, learned positions, GELU, tied head.

    model = GPT2(ModelConfig(vocab_size=264, d_model=64), pack=8)
    logits_PBTV = model(tokens_PBT)

A pack of one equals `transformers.GPT2LMHeadModel` weight for weight (huggingface.py converts).
"""

import math

from jaxtyping import Float
from torch import Tensor, nn

from memscape.models.attention import Attention
from memscape.models.config import ModelConfig
from memscape.models.dropout import Noise
from memscape.models.feedforward import feed_forward
from memscape.models.packed import norm, spread
from memscape.models.stream import Stream, join


class GPT2Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int, pack: int):
        super().__init__()
        shape, d = config.layers[layer], config.d_model
        std_out = spread(d) / math.sqrt(2 * config.n_layers)  # keeps the residual stream's variance at 1 with depth
        self.connected = config.connection != "none"
        self.norm_1 = norm(config.norms, pack, d)
        self.attention = Attention(config, shape, pack, True, std_out)
        self.norm_2 = norm(config.norms, pack, d)
        self.mlp = feed_forward(config.n_experts, pack, d, shape.d_ff, "gelu", True, std_out)

    def forward(self, x_PBTD: Float[Tensor, "P B T D"], noise: Noise | None) -> Float[Tensor, "P B T D"]:
        x_PBTD = join(x_PBTD, self.attention(self.norm_1(x_PBTD)), self.connected, noise and noise.at(0))
        return join(x_PBTD, self.mlp(self.norm_2(x_PBTD)), self.connected, noise and noise.at(1))


class GPT2(Stream):
    """A pack of GPT-2 models."""

    block = GPT2Block

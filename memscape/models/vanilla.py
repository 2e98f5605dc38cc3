"""The transformer of Vaswani et al. (2017) as a causal language model: post-norm blocks, ReLU, sinusoidal positions.

Murty et al. (arXiv 2305.18741) train it on Question-Formation with d_model = d_ff = 512 and 4 heads, the runs that the
paper shows; 6 d² weights a layer.

    Vanilla(ModelConfig(family="vanilla", vocab_size=72, d_model=512, n_layers=6, n_heads=4))
"""

from jaxtyping import Float
from torch import Tensor, nn

from memscape.models.attention import Attention
from memscape.models.config import ModelConfig
from memscape.models.dropout import Noise
from memscape.models.feedforward import feed_forward
from memscape.models.packed import norm
from memscape.models.stream import Stream, join


class VanillaBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: ModelConfig, layer: int, pack: int):
        super().__init__()
        shape, d = config.layers[layer], config.d_model
        std = (2 / (2 * d)) ** 0.5  # Glorot's normal for square matrices
        self.connected = config.connection != "none"
        self.attention = Attention(config, shape, pack, True, std_out=std, std=std)
        self.norm_1 = norm(config.norms, pack, d)
        self.mlp = feed_forward(config.n_experts, pack, d, shape.d_ff, "relu", True, std, std)
        self.norm_2 = norm(config.norms, pack, d)

    def forward(self, x_PBTD: Float[Tensor, "P B T D"], noise: Noise | None) -> Float[Tensor, "P B T D"]:
        x_PBTD = self.norm_1(join(x_PBTD, self.attention(x_PBTD), self.connected, noise and noise.at(0)))
        return self.norm_2(join(x_PBTD, self.mlp(x_PBTD), self.connected, noise and noise.at(1)))


class Vanilla(Stream):
    """A pack of vanilla transformers. The last block ends in a norm, so none follows."""

    block = VanillaBlock
    final_norm = False

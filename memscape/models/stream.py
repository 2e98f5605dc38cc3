"""The residual stream that every family shares: embed, pass through the blocks, normalise, unembed.

What differs between families is the block; what the options `connection` and `position` change is here.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from memscape.models.config import ModelConfig
from memscape.models.dropout import Noise, dropout
from memscape.models.packed import Embedding, Linear, norm


def join(
    x_PBTD: Float[Tensor, "P B T D"], part_PBTD: Float[Tensor, "P B T D"], connected: bool, noise: Noise | None
) -> Float[Tensor, "P B T D"]:
    """Return x + dropout(part), or the dropped-out part alone in a model without residual connections."""
    part_PBTD = dropout(part_PBTD, noise)
    return x_PBTD + part_PBTD if connected else part_PBTD


class Gate(nn.Module):
    """One learned number a member, starting at 0: how much of a skip or lateral connection enters."""

    def __init__(self, pack: int):
        super().__init__()
        self.gate = nn.Parameter(torch.empty(pack, 1))

    def forward(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T D"]:
        return x_PBTD * self.gate.view(-1, 1, 1, 1)


class Stream(nn.Module):
    """Base of the families: everything but the block. `Family(config, pack)` is a pack of that family's models."""

    block: type[nn.Module]
    """The family's block, made as block(config, layer, pack)."""
    final_norm = True
    """Whether a norm stands between the last block and the head."""

    def __init__(self, config: ModelConfig, pack: int = 1):
        super().__init__()
        self.config, self.pack = config, pack
        self.embed = Embedding(pack, config.vocab_size, config.d_model)
        self.positions = Embedding(pack, config.seq_len, config.d_model) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(self.block(config, i, pack) for i in range(config.n_layers))
        n_gates = {"skip": config.n_layers // 2, "lateral": config.n_layers}.get(config.connection, 0)
        self.gates = nn.ModuleList(Gate(pack) for _ in range(n_gates))
        self.norm = norm(config.norms, pack, config.d_model) if self.final_norm else nn.Identity()
        self.head = None if config.tied else Linear(pack, config.d_model, config.vocab_size, bias=False)

    def forward(self, tokens_PBT: Int[Tensor, "P B T"], noise: Noise | None = None) -> Float[Tensor, "P B T V"]:
        """Return next-token logits; `noise` draws dropout masks, None computes without."""
        *_, (_, last_PBTD) = self.states(self.embedded(tokens_PBT, noise), noise)
        return self.unembed(last_PBTD)

    def embedded(self, tokens_PBT: Int[Tensor, "P B T"], noise: Noise | None) -> Float[Tensor, "P B T D"]:
        """Return what enters the first block: token vectors, plus position vectors where the model has them."""
        T = tokens_PBT.shape[-1]
        x_PBTD = self.embed(tokens_PBT)
        if self.positions is not None:
            x_PBTD = x_PBTD + self.positions.weight[:, None, :T]
        elif self.config.positions == "sinusoid":
            x_PBTD = x_PBTD * math.sqrt(self.config.d_model) + sinusoid(T, self.config.d_model, x_PBTD.device).to(
                x_PBTD.dtype
            )
        return dropout(x_PBTD, noise and noise.at(0))

    def states(self, x_PBTD: Float[Tensor, "P B T D"], noise: Noise | None):
        """Yield (layer, its output) block by block, with skip or lateral connections mixed in before each block."""
        first_PBTD, passed = x_PBTD, []
        L, connection = self.config.n_layers, self.config.connection
        for i, block in enumerate(self.blocks):
            if connection == "lateral":
                x_PBTD = x_PBTD + self.gates[i](first_PBTD)
            elif connection == "skip" and i >= L - L // 2:
                x_PBTD = x_PBTD + self.gates[L - 1 - i](passed[L - 1 - i])
            x_PBTD = block(x_PBTD, noise and noise.at(i + 1))
            passed.append(x_PBTD)
            yield i, x_PBTD

    def unembed(self, x_PBTD: Float[Tensor, "P B T D"]) -> Float[Tensor, "P B T V"]:
        """Return logits of the normalised stream."""
        x_PBTD = self.norm(x_PBTD)
        return self.embed.unembed(x_PBTD) if self.head is None else self.head(x_PBTD)


def sinusoid(T: int, d_model: int, device: torch.device) -> Float[Tensor, "T D"]:
    """Return the fixed position vectors of Vaswani et al. (2017), section 3.5."""
    frequency = 10_000 ** -(torch.arange(0, d_model, 2, device=device) / d_model)
    angle = torch.arange(T, device=device)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :d_model]

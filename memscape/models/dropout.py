"""Dropout whose masks depend on (member seed, step, site, position) alone: the same packed or alone, and on resume.

A counter-based hash replaces the random generator: bit i of a mask is a function of its own index, so a member of a
pack of 128 and the same member trained alone drop the same activations. The mixer is `lowbias32`
(C. Wellons, "Prospecting for hash functions", 2018) in 32-bit integers that wrap around on every device.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mix(x: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Return a 32-bit hash of each 32-bit integer: every input bit flips every output bit with probability near 1/2."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * -0x7B935975  # 0x846CA68B as a signed number
    return x ^ ((x >> 16) & 0xFFFF)


class Noise(NamedTuple):
    """Where dropout masks come from: one hash key and one rate a member."""

    key_P: Int[Tensor, " P"]
    rate_P: Float[Tensor, " P"]
    first: int = 0
    """Row of the whole batch that this batch begins with, where several processes share one."""

    @classmethod
    def draw(
        cls, seed_P: Int[Tensor, " P"], step: Int[Tensor, ""], rate_P: Float[Tensor, " P"], first: int = 0
    ) -> "Noise":
        """Return the noise of one training step; seeds and step are 32-bit integers."""
        return cls(mix(mix(seed_P) ^ step), rate_P, first)

    def at(self, site: int) -> "Noise":
        """Return the noise of one place in the network: each place draws its own masks."""
        return Noise(mix(self.key_P ^ (site + 1)), self.rate_P, self.first)


def dropout(x_PBTD: Float[Tensor, "P B T D"], noise: Noise | None) -> Float[Tensor, "P B T D"]:
    """Return x with entries zeroed with probability `rate`, the rest divided by 1 - rate; unchanged without noise."""
    if noise is None:
        return x_PBTD
    P = x_PBTD.shape[0]
    start, size = noise.first * x_PBTD[0, 0].numel(), x_PBTD[0].numel()
    index = torch.arange(start, start + size, device=x_PBTD.device, dtype=torch.int32)
    bits = mix(index ^ noise.key_P.view(P, 1)).view(x_PBTD.shape)
    threshold = (noise.rate_P.double() * 2**32 - 2**31).to(torch.int32).view(P, 1, 1, 1)  # hashes are signed
    scale = (1 / (1 - noise.rate_P)).to(x_PBTD.dtype).view(P, 1, 1, 1)
    return torch.where(bits >= threshold, x_PBTD * scale, torch.zeros((), dtype=x_PBTD.dtype, device=x_PBTD.device))

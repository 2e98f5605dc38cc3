"""Dropout whose masks depend on nothing but (member seed, step, site, position): the same packed or alone, and on resume.

A counter-based hash replaces the random generator: bit i of a mask is a function of its own index, so a member of a
pack of 128 and the same member trained alone drop the same activations. The mixer is `lowbias32`
(C. Wellons, "Prospecting for hash functions", 2018) in 32-bit integers that wrap around on every device.
"""

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


def draw_key(seed_P: Int[Tensor, " P"], step: Int[Tensor, ""], site: int) -> Int[Tensor, " P"]:
    """Return one hash key per member for one place in the network at one step."""
    return mix(mix(mix(seed_P) ^ step) ^ site)


def dropout(
    x_PBTD: Float[Tensor, "P B T D"], rate_P: Float[Tensor, " P"], key_P: Int[Tensor, " P"]
) -> Float[Tensor, "P B T D"]:
    """Return x with entries zeroed with probability `rate` and the rest divided by 1 - rate, each member by its own rate."""
    P = x_PBTD.shape[0]
    index = torch.arange(x_PBTD[0].numel(), device=x_PBTD.device, dtype=torch.int32)
    bits = mix(index ^ key_P.view(P, 1)).view(x_PBTD.shape)
    threshold = (rate_P.double() * 2**32 - 2**31).to(torch.int32).view(P, 1, 1, 1)  # hashes are signed: drop the lowest
    keep = (1 / (1 - rate_P)).to(x_PBTD.dtype).view(P, 1, 1, 1)
    return torch.where(bits >= threshold, x_PBTD * keep, torch.zeros((), dtype=x_PBTD.dtype, device=x_PBTD.device))

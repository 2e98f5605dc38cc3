"""What a study will cost, before it starts: tokens, FLOPs, memory and seconds of the probe and of the sweep."""

import time
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from memscape.models.pretrained import locate


class ProbePrice(BaseModel):
    """The cost of one probe."""

    model_config = ConfigDict(frozen=True)

    tokens: int
    """Tokens read: the trained model, untrained weights, and the shuffled text."""
    flops: float
    """Of the forward passes and the neighbour searches."""
    memory_bytes: float
    """Two sets of weights and the states of one site."""
    disk_bytes: float
    """Captured states, deleted when the profile is written."""
    seconds: float


class StudyPrice(BaseModel):
    """The cost of a study."""

    model_config = ConfigDict(frozen=True)

    probe: ProbePrice
    sweep: Any

    @property
    def seconds(self) -> float:
        return self.probe.seconds + self.sweep.seconds

    def __str__(self) -> str:
        p = self.probe
        return (
            f"probe: {p.tokens:,} tokens, {p.flops:.3g} FLOPs, {p.memory_bytes / 2**20:,.0f} MiB of memory, "
            f"{p.disk_bytes / 2**20:,.0f} MiB of disk for the time, about {p.seconds:.0f} s\n"
            f"sweep: {self.sweep}\n"
            f"in all about {self.seconds / 60:.1f} minutes on this machine"
        )


def price_probe(model: str, *, limit: int, queries: int, shuffled: int = 2048) -> ProbePrice:
    """Return the cost of probing MODEL on `limit` tokens, from its configuration and a timed matrix product."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(locate(model)[0])
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    n_params = sum(p.numel() for p in empty.parameters())
    text = config.get_text_config()
    sites, width = text.num_hidden_layers + 2, text.hidden_size
    tokens = 2 * limit + min(shuffled, limit)
    forward = 2.0 * n_params * tokens
    search = 2.0 * queries * limit * width * sites * 3 * 2
    rate = matmul_rate(width)
    return ProbePrice(
        tokens=tokens,
        flops=forward + search,
        memory_bytes=8.0 * n_params + 4.0 * limit * width * 4,
        disk_bytes=4.0 * width * sites * 2 * limit,
        seconds=(forward + search) / rate * OVERHEAD + LOAD_SECONDS + SITE_SECONDS * sites,
    )


OVERHEAD = 2.0
"""Measured: forward passes of a 135M model and neighbour searches take twice the time of bare matrix products."""

LOAD_SECONDS = 3.0
"""Importing and loading a converted model."""

SITE_SECONDS = 0.5
"""Per site of the residual stream: bootstrap intervals, the choice of beta, reading and writing."""


def matmul_rate(width: int, seconds: float = 0.5) -> float:
    """Return the FLOP/s of float32 products of (1024, width) and (width, 3 width) on this machine."""
    x, w = torch.randn(1024, width), torch.randn(width, 3 * width)
    torch.mm(x, w)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        torch.mm(x, w)
        done += 1
    return done * 2.0 * 1024 * width * 3 * width / (time.perf_counter() - start)

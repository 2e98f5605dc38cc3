"""Every family with every option, small: what the tests of this room run over."""

import torch

from memscape.models import ModelConfig, build
from memscape.models.packed import initialise

OPTIONS = [
    {},
    {"position": "rotary"},
    {"position": "alibi"},
    {"position": "none"},
    {"window": 3},
    {"top_k": 2},
    {"window": 3, "top_k": 2},
    {"norm": "rms"},
    {"norm": "layer"},
    {"norm": "none"},
    {"qk_norm": True},
    {"n_kv_heads": 1},
    {"n_kv_heads": 1, "top_k": 2},
    {"n_experts": 3},
    {"connection": "skip"},
    {"connection": "lateral"},
    {"connection": "none"},
    {"tied": False},
    {"d_head": 8},
]

CASES = [(family, option) for family in ("gpt2", "vanilla", "openelm") for option in OPTIONS]

NAMES = [f"{family}-{'-'.join(f'{k}={v}' for k, v in option.items()) or 'plain'}" for family, option in CASES]


def small(family: str, option: dict, **fields) -> ModelConfig:
    """A configuration of a few thousand parameters."""
    return ModelConfig(**{"family": family, "vocab_size": 24, "seq_len": 8, "d_model": 16, "n_layers": 3, "n_heads": 2,
                          **fields, **option})  # fmt: skip


def drawn(config: ModelConfig, seeds=(0,)) -> torch.nn.Module:
    """A pack with drawn weights; gains, biases and gates moved off their start so that each of them matters."""
    model = build(config, len(seeds))
    initialise(model, list(seeds))
    with torch.no_grad():
        for p, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(1000 + seed)
            for name, parameter in model.named_parameters():
                if not name.endswith("weight"):
                    parameter[p] += 0.3 * torch.randn(parameter[p].shape, generator=generator)
    return model

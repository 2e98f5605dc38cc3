"""Plain transformers that can be packed; sizes and FLOPs; Hugging Face in and out."""

from memscape.models.config import ModelConfig
from memscape.models.sizing import flops, parameters, scaled

__all__ = ["ModelConfig", "build", "flops", "parameters", "scaled"]


def build(config: ModelConfig, pack: int = 1):
    """Return the model of `config`, `pack` of them side by side, weights not yet drawn (`packed.initialise`)."""
    from memscape.models.gpt2 import GPT2
    from memscape.models.openelm import OpenELM
    from memscape.models.vanilla import Vanilla

    return {"gpt2": GPT2, "vanilla": Vanilla, "openelm": OpenELM}[config.family](config, pack)

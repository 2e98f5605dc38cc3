"""Our families as `transformers` models: after `register`, `AutoModelForCausalLM` knows `model_type: memscape`.

auto.register()
model = AutoModelForCausalLM.from_pretrained("runs/book/runs/openelm-d64...")
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from memscape.models import build
from memscape.models.config import ModelConfig


class MemscapeConfig(PretrainedConfig):
    """A `ModelConfig` inside Hugging Face's configuration."""

    model_type = "memscape"

    def __init__(self, memscape_model: dict[str, Any] | None = None, **rest: Any):
        self.memscape_model = memscape_model or ModelConfig(vocab_size=8, d_model=8, n_heads=1).model_dump(mode="json")
        shape = ModelConfig.model_validate(self.memscape_model)
        self.vocab_size, self.hidden_size, self.num_hidden_layers = shape.vocab_size, shape.d_model, shape.n_layers
        self.num_attention_heads, self.max_position_embeddings = shape.layers[0].n_heads, shape.seq_len
        super().__init__(**{"use_cache": False, **rest})


class MemscapeForCausalLM(PreTrainedModel, GenerationMixin):
    """One model of a pack, spoken to as any other causal language model. It keeps no cache of keys and values."""

    config_class = MemscapeConfig
    base_model_prefix = "model"

    def __init__(self, config: MemscapeConfig):
        super().__init__(config)
        self.model = build(ModelConfig.model_validate(config.memscape_model))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: torch.nn.Module) -> None:
        for name, parameter in module.named_parameters(recurse=False):
            if name == "weight":
                parameter.normal_(0.0, module.std)  # type: ignore
            else:
                parameter.fill_(1.0 if name == "gain" else 0.0)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.model.embed

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, output_hidden_states: bool | None = None, **_: Any
    ) -> CausalLMOutput:
        """Return logits (B, T, V), the mean next-token loss if labels are given, and the stream's states on demand."""
        first = self.model.embedded(input_ids[None], None)
        states = [first, *(state for _, state in self.model.states(first, None))]
        logits = self.model.unembed(states[-1])[0]
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        hidden = tuple(s[0] for s in [*states[:-1], self.model.norm(states[-1])]) if output_hidden_states else None
        return CausalLMOutput(loss=loss, logits=logits, hidden_states=hidden)  # type: ignore

    def prepare_inputs_for_generation(self, input_ids: Tensor, *_: Any, **__: Any) -> dict[str, Any]:
        return {"input_ids": input_ids[:, -self.config.max_position_embeddings :]}


def register() -> None:
    """Tell `AutoConfig` and `AutoModelForCausalLM` about the families; again is harmless."""
    AutoConfig.register("memscape", MemscapeConfig, exist_ok=True)
    AutoModelForCausalLM.register(MemscapeConfig, MemscapeForCausalLM, exist_ok=True)

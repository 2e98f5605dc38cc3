"""Hugging Face in and out: a member of a pack becomes a folder that `from_pretrained` loads, and GPT-2 comes back.

    write(folder, config, weights, tokenizer_ids)       config.json + model.safetensors
    model = read("runs/book/runs/<id>")                 our own module, a pack of one
    auto.register(); AutoModelForCausalLM.from_pretrained(folder)

A `gpt2` without extra options is written as GPT-2 itself and needs nothing of ours to load. All others carry
`model_type: memscape`, keep the pack axis of one, and load once `auto.register()` has told `transformers` about them.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from memscape.errors import ModelError
from memscape.folder import read_json, write_json, write_whole
from memscape.models.config import ModelConfig

GPT2_NAMES = {
    "embed.weight": "transformer.wte.weight",
    "positions.weight": "transformer.wpe.weight",
    "norm.gain": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "head.weight": "lm_head.weight",
    "norm_1.gain": "ln_1.weight",
    "norm_1.bias": "ln_1.bias",
    "attention.qkv.weight": "attn.c_attn.weight",
    "attention.qkv.bias": "attn.c_attn.bias",
    "attention.out.weight": "attn.c_proj.weight",
    "attention.out.bias": "attn.c_proj.bias",
    "norm_2.gain": "ln_2.weight",
    "norm_2.bias": "ln_2.bias",
    "mlp.into.weight": "mlp.c_fc.weight",
    "mlp.into.bias": "mlp.c_fc.bias",
    "mlp.out.weight": "mlp.c_proj.weight",
    "mlp.out.bias": "mlp.c_proj.bias",
}
"""Our name -> GPT-2's, for the whole model and for one block."""


PLAIN = {"vocab_size", "seq_len", "d_model", "n_layers", "n_heads", "d_ff", "tied"}
"""What GPT-2's own configuration can say."""


def is_plain_gpt2(config: ModelConfig) -> bool:
    """Return whether the model is GPT-2 exactly, with none of the options it does not have."""
    layerwise = isinstance(config.n_heads, tuple) or isinstance(config.d_ff, tuple)
    return not layerwise and not config.model_dump(exclude=PLAIN, exclude_defaults=True)


def to_gpt2_name(name: str) -> str:
    """Return GPT-2's name of one of our parameters."""
    if name.startswith("blocks."):
        _, i, rest = name.split(".", 2)
        return f"transformer.h.{i}.{GPT2_NAMES[rest]}"
    return GPT2_NAMES[name]


def config_json(config: ModelConfig, bos_id: int | None = None) -> dict[str, Any]:
    """Return the content of config.json in Hugging Face's layout."""
    common = {"dtype": "float32", "bos_token_id": bos_id, "eos_token_id": bos_id, "tie_word_embeddings": config.tied}
    if not is_plain_gpt2(config):
        own = {"architectures": ["MemscapeForCausalLM"], "model_type": "memscape", "vocab_size": config.vocab_size}
        return own | common | {"memscape_model": config.model_dump(mode="json")}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.seq_len,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.layers[0].d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        **common,
    }


def write(
    folder: Path, config: ModelConfig, weights: dict[str, Tensor], bos_id: int | None = None, notes: dict | None = None
) -> None:
    """Write one model, its parameters without the pack axis, as a folder that `from_pretrained` loads.

    `notes` are further entries of config.json, kept under the name `memscape`.
    """
    plain = is_plain_gpt2(config)
    tensors = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().float().cpu()
        if name == "head.weight" and plain:
            tensor = tensor.T  # GPT-2's head is an nn.Linear, output first
        tensors[to_gpt2_name(name) if plain else f"model.{name}"] = (tensor if plain else tensor[None]).contiguous()
    folder = Path(folder)
    write_json(folder / "config.json", config_json(config, bos_id) | ({"memscape": notes} if notes else {}))
    write_whole(folder / "model.safetensors", lambda part: save_file(tensors, part, metadata={"format": "pt"}))


def read(folder: Path) -> nn.Module:
    """Return the model of a folder that `write` made, or of any GPT-2 in Hugging Face's layout, as our pack of one.

    Raises:
        ModelError: the folder holds another architecture.
    """
    from memscape.models import build

    folder = Path(folder)
    found = read_json(folder / "config.json")
    if found.get("model_type") == "memscape":
        config = ModelConfig.model_validate(found["memscape_model"])
        names = {f"model.{name}": name for name, _ in build(config).named_parameters()}
    elif found.get("model_type") == "gpt2":
        config = ModelConfig(
            vocab_size=found["vocab_size"], seq_len=found["n_positions"], d_model=found["n_embd"],
            n_layers=found["n_layer"], n_heads=found["n_head"], d_ff=found.get("n_inner"),
            tied=found.get("tie_word_embeddings", True),
        )  # fmt: skip
        names = {to_gpt2_name(name): name for name, _ in build(config).named_parameters()}
    else:
        raise ModelError(f"{folder} holds a {found.get('model_type')!r} model; expected gpt2 or one of memscape's own.")
    model = build(config)
    parameters = dict(model.named_parameters())
    with safe_open(folder / "model.safetensors", framework="pt") as file, torch.no_grad():
        keys = set(file.keys())
        for theirs, ours in names.items():
            key = theirs if theirs in keys else theirs.removeprefix("transformer.")  # the Hub's gpt2 has no prefix
            if key not in keys:
                raise ModelError(f"{folder}/model.safetensors lacks {theirs}; it belongs to another configuration.")
            tensor = file.get_tensor(key)
            parameters[ours].copy_(tensor.T if theirs == "lm_head.weight" else tensor)  # over the pack axis
    return model

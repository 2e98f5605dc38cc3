"""Small models of every shape, with random weights or trained a little, and clouds whose answer is known."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from memscape.data.corpus import open_corpus
from memscape.data.tokenizer import byte_tokenizer
from memscape.instruments.cloud import Cloud, cloud
from memscape.instruments.contexts import Contexts
from memscape.models import build
from memscape.models.auto import MemscapeConfig, MemscapeForCausalLM
from memscape.models.config import ModelConfig
from memscape.models.huggingface import write
from memscape.models.packed import initialise
from memscape.models.pretrained import Pretrained

V = 257
SHAPE = {"vocab_size": V, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 64}
OURS = {
    "openelm": {"family": "openelm", "n_heads": 4, "n_kv_heads": 2},
    "vanilla": {"family": "vanilla"},
    "alibi": {"position": "alibi"},
    "windowed": {"window": 5},
}

HUGGING_FACE = ("gpt2", "neox", "llama", "gemma2", "gemma3", "qwen3", "mistral")
FAMILIES = (*HUGGING_FACE, *OURS)


@cache
def tiny(family: str) -> nn.Module:
    """Return a model of three layers of width 24 over bytes, freshly drawn."""
    torch.manual_seed(0)
    if family in OURS:
        shape = ModelConfig(vocab_size=V, seq_len=64, d_model=24, n_layers=3, **OURS[family])
        return MemscapeForCausalLM(MemscapeConfig(shape.model_dump(mode="json"))).eval()
    made = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=24, n_layer=3, n_head=4, n_positions=64)),
        "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, max_position_embeddings=64)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**GROUPED, query_pre_attn_scalar=6, sliding_window=8)),
        "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, sliding_window=8)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GROUPED)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=8)),
    }
    return made[family]().eval()


class Plain(nn.Module):
    """A transformer that knows nothing of transformers: one head a layer, logits and nothing else."""

    def __init__(self, layers: int = 2, width: int = 16, seen: bool = True):
        super().__init__()
        self.embed = nn.Embedding(V, width)
        self.layers = nn.ModuleList(PlainLayer(width, seen) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, V, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class PlainLayer(nn.Module):
    def __init__(self, width: int, seen: bool):
        super().__init__()
        self.mix, self.out, self.seen = nn.Linear(width, 3 * width), nn.Linear(width, width), seen
        self.mlp = nn.Sequential(nn.Linear(width, 40), nn.ReLU(), nn.Linear(40, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x)[:, None].chunk(3, dim=-1)
        if self.seen:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            hidden = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
            mixed = (q @ k.mT / x.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v
        x = x + self.out(mixed[:, 0])
        return x + self.mlp(x)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return the byte tokenizer as `transformers` sees it."""
    return PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend)


def pretrained(model: nn.Module, name: str = "tiny") -> Pretrained:
    return Pretrained(model, tokenizer(), name, "float32")


def run_folder(folder: Path, family: str = "gpt2", seed: int = 0) -> Path:
    """Write an untrained run folder of ours, with the notes that a sweep leaves in its config."""
    model = ModelConfig(family=family, vocab_size=V, seq_len=48, d_model=24, n_layers=2, n_heads=2)
    module = build(model)
    initialise(module, [seed])
    weights = {name: p[0] for name, p in module.named_parameters()}
    notes = {"model": model.model_dump(mode="json"), "corpus": "sample", "tokenizer": "bytes", "data_seed": 0}
    write(folder, model, weights, 256, notes | {"n_tokens": 8192})
    byte_tokenizer().save(folder)
    return folder


def trained_a_little(model: nn.Module, steps: int = 60, length: int = 48, rate: float = 3e-3) -> nn.Module:
    """Train on the sample's bytes, in place; the loss falls from 5.5 to about 3."""
    text = np.frombuffer("".join(d.text[:4000] for d in open_corpus("sample")).encode(), dtype=np.uint8)
    rng, step = np.random.default_rng(0), torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        starts = rng.integers(0, len(text) - length - 1, 16)
        tokens = torch.from_numpy(np.stack([text[s : s + length + 1] for s in starts]).astype(np.int64))
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        step.zero_grad()
        loss.backward()
        step.step()
    return model.eval()


def some_contexts(n: int = 10, length: int = 16, documents: int = 5) -> Contexts:
    rng = np.random.default_rng(0)
    owners = np.arange(n) * documents // n
    return Contexts(rng.integers(0, V, (n, length + 1)), owners, tuple(map(str, range(documents))))


def points(states: Tensor, queries: int = 10_000) -> Cloud:
    """Return a cloud in which every point is a document of its own: neighbours are any other point."""
    return cloud(states[:, None], np.arange(len(states)), queries)


def gaussian_cloud(dim: int, contexts: int = 32, length: int = 64, deviation: float = 1.0, seed: int = 0) -> Cloud:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(contexts, length, dim, generator=generator) * deviation
    return cloud(states, np.arange(contexts), 512)

"""What passes through a model: its residual stream at every layer, and the loss of every token, written to shards.

One forward pass a batch with hooks on the model's own modules: its logits are what they are without us. The layers are
found by structure (the list of `num_hidden_layers` like modules), not by a table of model names. States go to
safetensors shards, one a batch, so that memory stays bounded and a killed capture continues at the next batch.

    contexts = read_contexts(corpus, tokenizer, limit=8192, context=256)
    states = capture(pretrained.model, contexts, folder)
    states.site("layer 5").shape                # (n_contexts, context, d_model)
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from memscape.data.corpus import Corpus
from memscape.errors import CorpusError, ModelError
from memscape.folder import write_whole
from memscape.progress import Budget, bar

TOKENS_A_BATCH = 1024

CausalLM = Any
"""A `transformers` causal language model (its classes are made at run time: no type checker knows their parts)."""


@dataclass(frozen=True)
class Contexts:
    """Windows of a corpus as a model reads them: C contexts of T tokens, each followed by one more token to predict."""

    tokens_CT1: Int[np.ndarray, "C T1"]
    """Token ids; column T is the token that the last state predicts."""
    documents_C: Int[np.ndarray, " C"]
    """Which document each context comes from."""
    titles: tuple[str, ...]
    """The title of every document that gave a context, in the order of their numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(contexts, tokens a context)"""
        return self.tokens_CT1.shape[0], self.tokens_CT1.shape[1] - 1

    @property
    def n_tokens(self) -> int:
        return self.shape[0] * self.shape[1]

    def first(self, n_tokens: int) -> "Contexts":
        """Return about `n_tokens` tokens of the same text, spread over the documents: what a null is measured on."""
        count = max(1, min(len(self.documents_C), n_tokens // self.shape[1]))
        keep = np.linspace(0, len(self.documents_C) - 1, count).round().astype(int)
        return Contexts(self.tokens_CT1[keep], self.documents_C[keep], self.titles)

    def shuffled(self, seed: int = 0) -> "Contexts":
        """Return the same tokens in random order within each context: text without its order, as a null."""
        rng = np.random.default_rng(seed)
        return Contexts(rng.permuted(self.tokens_CT1, axis=1), self.documents_C, self.titles)


def read_contexts(corpus: Corpus, tokenizer: Any, *, limit: int, context: int) -> Contexts:
    """Return about `limit` tokens of the corpus as contexts of `context` tokens, the same number from every document.

    Documents too short for one context are passed over. No BOS token is put in front: plain text has none.

    Raises:
        CorpusError: no document fills one context; the message says how long the longest is.
    """
    per_document = max(1, round(limit / context / max(1, len(corpus.documents))))
    wanted = per_document * (context + 1)
    rows, owners, titles, longest = [], [], [], 0
    for document in corpus.documents:
        ids = _encode_start(document.text, tokenizer, wanted)
        longest = max(longest, len(ids))
        count = min(per_document, len(ids) // (context + 1))
        if count == 0:
            continue
        rows += [ids[i * (context + 1) : (i + 1) * (context + 1)] for i in range(count)]
        owners += [len(titles)] * count
        titles.append(document.title)
        if len(rows) * context >= limit and per_document == 1:
            break
    if not rows:
        raise CorpusError(
            f"corpus {corpus.name!r}: no document fills a context of {context + 1:,} tokens, "
            f"the longest has {longest:,}; "
            "give longer documents or a smaller --context."
        )
    return Contexts(np.array(rows, dtype=np.int64), np.array(owners, dtype=np.int64), tuple(titles))


def _encode_start(text: str, tokenizer: Any, wanted: int) -> list[int]:
    """Encode only as much of a long document as `wanted` tokens need."""
    length = wanted * 8
    while True:
        ids = tokenizer(text[:length], add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= wanted or length >= len(text):
            return ids[:wanted]
        length *= 4


@dataclass(frozen=True)
class Anatomy:
    """The parts of a causal language model that instruments attach to."""

    blocks: list[nn.Module]
    final_norm: nn.Module | None
    head: nn.Module

    @property
    def sites(self) -> list[str]:
        """The places of the residual stream, in the order of depth."""
        return ["embedding", *(f"layer {i + 1}" for i in range(len(self.blocks))), "final norm"]


def dissect(model: CausalLM) -> Anatomy:
    """Find the layers, the final norm and the output head of a causal language model by their structure.

    Raises:
        ModelError: no list of `num_hidden_layers` modules, or no output embedding.
    """
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = getattr(text, "num_hidden_layers", None) or getattr(text, "n_layers", None)
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    blocks = next((m for m in lists if len(m) == count), None) if count else max(lists, key=len, default=None)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if blocks is None or head is None:
        raise ModelError(
            f"{type(model).__name__}: expected a list of {count} layers and an output embedding, found "
            f"{[len(m) for m in lists] or 'no module list'}; give a decoder-only causal language model."
        )
    inside = {id(m) for block in blocks for m in block.modules()}
    width = head.weight.shape[-1]
    norms = [
        m
        for m in model.modules()
        if id(m) not in inside and getattr(m, "weight", None) is not None and m.weight.shape == (width,)
    ]
    return Anatomy(list(blocks), norms[-1] if norms else None, head)


def forward(
    model: CausalLM, anatomy: Anatomy, tokens_BT: Int[Tensor, "B T"]
) -> tuple[Float[Tensor, "B T V"], dict[str, Float[Tensor, "B T D"]]]:
    """Return the logits of one batch and the residual stream at every site, in one forward pass."""
    states: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module, _args, output):
            states[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def keep_input(name: str):
        def hook(_module, args, kwargs):
            states[name] = args[0] if args else kwargs["hidden_states"]

        return hook

    with ExitStack() as hooks, torch.no_grad():
        first = anatomy.blocks[0].register_forward_pre_hook(keep_input("embedding"), with_kwargs=True)
        hooks.callback(first.remove)
        for i, block in enumerate(anatomy.blocks):
            hooks.callback(block.register_forward_hook(keep(f"layer {i + 1}")).remove)
        hooks.callback(anatomy.head.register_forward_pre_hook(keep_input("final norm"), with_kwargs=True).remove)
        logits = model(input_ids=tokens_BT, use_cache=False).logits
    return logits, states


@dataclass(frozen=True)
class Activations:
    """Captured states on disk: read one site at a time."""

    folder: Path
    sites: tuple[str, ...]
    shards: int

    def site(self, name: str) -> Float[Tensor, "C T D"]:
        """Return the states of one site for all contexts, float32."""
        return self._read(name)

    @property
    def loss_CT(self) -> Float[np.ndarray, "C T"]:
        """Cross-entropy of every next token, in nats."""
        return self._read("loss").numpy()

    def _read(self, name: str) -> Tensor:
        parts = []
        for i in range(self.shards):
            with safe_open(_shard(self.folder, i), framework="pt") as file:
                parts.append(file.get_tensor(name))
        return torch.cat(parts)

    def remove(self) -> None:
        """Delete the shards: profiles keep what was measured."""
        for i in range(self.shards):
            _shard(self.folder, i).unlink(missing_ok=True)


def capture(
    model: CausalLM,
    contexts: Contexts,
    folder: Path,
    *,
    title: str = "reading",
    sites: tuple[str, ...] | None = None,
    budget: Budget | None = None,
) -> Activations:
    """Run the model over all contexts and write states and losses to `folder`, a shard a batch; finished shards stay.

    Args:
        model: a `transformers` causal language model.
        contexts: the text, C contexts of T tokens.
        folder: where the shards go.
        title: what the progress bar says.
        sites: which places of `Anatomy.sites` to keep; all by default, `()` for losses only.
        budget: checked before every batch.

    Raises:
        ModelError: no layers can be found, a token id is outside the vocabulary, or states are not finite.
    """
    anatomy = dissect(model)
    kept = tuple(anatomy.sites) if sites is None else sites
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if contexts.tokens_CT1.max() >= vocabulary:
        raise ModelError(
            f"token id {contexts.tokens_CT1.max():,} is outside the model's vocabulary of {vocabulary:,}; "
            "give the tokenizer that the model was trained with."
        )
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    n, length = contexts.shape
    if longest is not None and length > longest:
        raise ModelError(
            f"a context of {length:,} tokens is longer than the model's {longest:,}; give a smaller --context."
        )
    device = next(model.parameters()).device
    step = max(1, TOKENS_A_BATCH // length)
    shards = -(-n // step)
    with bar(title, n * length, "tokens") as progress:
        for i in range(shards):
            path, rows = _shard(folder, i), slice(i * step, (i + 1) * step)
            if not path.exists():
                if budget is not None:
                    budget.check(f"{shards - i} of {shards} batches of {title}")
                tokens = torch.from_numpy(contexts.tokens_CT1[rows])
                logits, states = forward(model, anatomy, tokens[:, :-1].to(device))
                loss = nn.functional.cross_entropy(
                    logits.float().flatten(0, 1), tokens[:, 1:].flatten().to(device), reduction="none"
                ).view(-1, length)
                out = {name: states[name].float().cpu().contiguous() for name in kept} | {"loss": loss.cpu()}
                _require_finite(out)
                write_whole(path, lambda part, out=out: save_file(out, part))
            progress.advance(min(step, n - i * step) * length)
    return Activations(folder, kept, shards)


def _require_finite(states: dict[str, Tensor]) -> None:
    for name, values in states.items():
        if not torch.isfinite(values).all():
            raise ModelError(f"the states at {name!r} are not finite; run the model in --dtype float32.")


def _shard(folder: Path, i: int) -> Path:
    return folder / f"{i:05d}.safetensors"

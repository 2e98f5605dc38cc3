"""Where in a model are its layers, its final norm and its feed-forward memories? Found by watching one short pass.

No table of model names: the layers are the longest list of modules that run once each, in order, and hand on a state of
one width. It holds for Llama, GPT-2, GPT-NeoX, Gemma, Qwen and the rest of `transformers`, for our own families, and
for a plain `nn.Module` that maps token ids (B, T) to logits (B, T, V).

    anatomy = dissect(model)
    anatomy.sites               # embedding, layer 1 ... layer 30, final norm
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from memscape.errors import ModelError

CausalLM = Any
"""A `transformers` causal language model, or any module that maps token ids to logits."""

TRACED = 5
"""Tokens of the pass that is watched: few, and no width that a model has."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of a causal language model that instruments attach to."""

    blocks: list[nn.Module]
    final_norm: nn.Module | None
    """None where the last layer's output goes straight to the head."""
    memories: list[nn.Module | None]
    """The projection that ends each layer's feed-forward part: its input are coefficients, its rows are values."""
    width: int
    """Of the residual stream."""
    vocabulary: int
    """Logits a token."""

    @property
    def sites(self) -> list[str]:
        """The places of the residual stream, in the order of depth."""
        return ["embedding", *(f"layer {i + 1}" for i in range(len(self.blocks))), "final norm"]


def logits(model: CausalLM, tokens_BT: Int[Tensor, "B T"], **options: Any) -> Any:
    """Return what the model says about a batch: an object with `logits`, or the logits of a plain module."""
    return model(input_ids=tokens_BT, use_cache=False, **options) if hasattr(model, "config") else model(tokens_BT)


def logits_of(answer: Any) -> Float[Tensor, "B T V"]:
    """Return the logits in what a model returned."""
    return answer.logits if hasattr(answer, "logits") else answer[0] if isinstance(answer, tuple) else answer


def longest_context(model: CausalLM) -> int | None:
    """Return the most tokens that a model with learned positions can read, or None where nothing limits it."""
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
    return getattr(text, "max_position_embeddings", None)


def dissect(model: CausalLM) -> Anatomy:
    """Find the layers, the final norm and the feed-forward memories of a causal language model by their behaviour.

    Raises:
        ModelError: the model does not run on token ids, or has no list of layers that hand on a state.
    """
    steps: list[tuple[nn.Module, Tensor | None, Tensor]] = []
    device = next(model.parameters()).device

    def note(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        out = first(output)
        if out is not None:
            steps.append((module, first((*args, *kwargs.values())), out))

    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            hooks.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        try:
            answer = logits_of(logits(model, torch.zeros(1, TRACED, dtype=torch.long, device=device)))
        except (TypeError, ValueError, RuntimeError) as problem:
            reason = " ".join(str(problem).split())[:120]
            raise ModelError(
                f"{type(model).__name__} does not run on token ids (batch, tokens): {reason}; "
                "give a decoder-only causal language model."
            ) from problem
    order = {id(module): i for i, (module, _, _) in enumerate(steps)}
    runs = [id(module) for module, _, _ in steps]
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m)]
    good = [blocks for blocks in lists if _hand_on_a_state(blocks, steps, order, runs)]
    inner = {id(m) for blocks in good for block in blocks for m in block.modules()}
    outer = [blocks for blocks in good if id(blocks) not in inner]
    if not outer:
        raise ModelError(
            f"{type(model).__name__}: expected a list of layers that run in order and hand on a state, found "
            f"lists of {[len(m) for m in lists] or 'nothing'}; give a decoder-only causal language model."
        )
    blocks = list(max(outer, key=len))
    state = steps[order[id(blocks[-1])]][2]
    return Anatomy(
        blocks=blocks,
        final_norm=_final_norm(steps[order[id(blocks[-1])] + 1 :], state),
        memories=[_memory(block, steps, state) for block in blocks],
        width=state.shape[-1],
        vocabulary=answer.shape[-1],
    )


def first(value: Any) -> Tensor | None:
    """Return the first floating-point tensor in what a module was given or returned."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    found = (first(v) for v in value) if isinstance(value, tuple | list) else ()
    return next((v for v in found if v is not None), None)


def _hand_on_a_state(blocks: Any, steps: list, order: dict[int, int], runs: list[int]) -> bool:
    """Whether the members run once each, in order, each mapping a state of one width to another such."""
    if not all(runs.count(id(m)) == 1 for m in blocks):
        return False
    at = [order[id(m)] for m in blocks]
    shapes = {tuple(t.shape) if t is not None else None for i in at for t in steps[i][1:]}
    return at == sorted(at) and len(shapes) == 1 and None not in shapes and TRACED in next(iter(shapes))[:-1]  # type: ignore


def _final_norm(later: list, state: Tensor) -> nn.Module | None:
    """The last module behind the layers that keeps the state's shape with at most two numbers a coordinate."""
    norms = [
        module
        for module, _, out in later
        if out.shape == state.shape
        and not any(True for _ in module.children())
        and not isinstance(module, nn.Dropout | nn.Identity)
        and sum(p.numel() for p in module.parameters()) <= 2 * state.shape[-1]
    ]
    return norms[-1] if norms else None


def _memory(block: nn.Module, steps: list, state: Tensor) -> nn.Module | None:
    """The last matrix of a layer that returns to the stream's width from a state of every token."""
    inside = {id(m) for m in block.modules()}
    matrices = [
        module
        for module, into, out in steps
        if id(module) in inside
        and _matrix(module) is not None
        and out.shape[-1] == state.shape[-1]
        and into is not None
        and into.numel() == TRACED * into.shape[-1]
    ]
    return matrices[-1] if matrices else None


def _matrix(module: nn.Module) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.dim() >= 2 else None


def values(memory: nn.Module, width: int) -> Float[Tensor, "F D"]:
    """Return the value vectors of a feed-forward memory, one row a coefficient, whichever way the matrix lies."""
    weight: Any = _matrix(memory)
    rows = weight.reshape(weight.shape[-2:])
    return rows.T if isinstance(memory, nn.Linear) or rows.shape[1] != width else rows


def unembedding(model: CausalLM) -> Float[Tensor, "V D"] | None:
    """Return the matrix that turns states into logits: the output head's, or the embedding it is tied to."""
    for find in ("get_output_embeddings", "get_input_embeddings"):
        try:
            found = getattr(model, find)()
        except (AttributeError, NotImplementedError):
            continue
        if (weight := getattr(found, "weight", None)) is not None:
            return weight.reshape(weight.shape[-2:])
    return None


Hook = Callable[[Tensor], Tensor | None]
"""Sees a state, and returns None, or the state that takes its place."""


def listening(hooks: ExitStack, anatomy: Anatomy, see: Mapping[str, Hook]) -> None:
    """Call `see[site](state)` whenever a state passes a site; states come as the model has them."""

    def entering(_module: nn.Module, args: tuple, kwargs: dict) -> Any:
        state = _given(first((*args, *kwargs.values())))
        new = see["embedding"](state)
        return None if new is None else (_exchanged(args, state, new), _exchanged(kwargs, state, new))

    def leaving(site: str):
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            state = _given(first(output))
            new = see[site](state)
            return None if new is None else _exchanged(output, state, new)

        return hook

    if "embedding" in see:
        hooks.callback(anatomy.blocks[0].register_forward_pre_hook(entering, with_kwargs=True).remove)
    last = anatomy.final_norm or anatomy.blocks[-1]
    for site, module in zip(anatomy.sites[1:], (*anatomy.blocks, last), strict=True):
        if site in see:
            hooks.callback(module.register_forward_hook(leaving(site)).remove)


def _given(state: Tensor | None) -> Tensor:
    assert state is not None, "a layer that handed on a state when it was watched did not do so now"
    return state


def _exchanged(value: Any, old: Tensor, new: Tensor) -> Any:
    """Return arguments or outputs with one tensor exchanged."""
    if isinstance(value, dict):
        return {k: _exchanged(v, old, new) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_exchanged(v, old, new) for v in value)
    return new if value is old else value

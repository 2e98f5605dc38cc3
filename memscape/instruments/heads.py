"""How are the queries, keys and values of every head seen while a model runs as it always does?

Models of `transformers` call their attention through its attention interface: the function in use (SDPA, flash, eager)
is wrapped for the time of the pass and still computes the answer, so speed and logits stay what they are. Other models
are seen where they call `scaled_dot_product_attention`. A model that does neither shows no heads, and it is said so.

    with watching(model, anatomy, see):         # see(layer, heads) once a layer and pass
        model(input_ids=tokens)
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from memscape.instruments.anatomy import Anatomy, CausalLM


@dataclass(frozen=True)
class Heads:
    """The attention of one layer on one batch: H query heads, G key-value heads, head size K."""

    q_BHTK: Float[Tensor, "B H T K"]
    k_BGTK: Float[Tensor, "B G T K"]
    v_BGTE: Float[Tensor, "B G T E"]
    scale: float
    """What scores are multiplied by: 1/sqrt(K) as a rule."""
    mask: Tensor | None
    """What the model gave: None is causal; boolean, or added to the scores."""
    softcap: float | None
    """Scores s become c tanh(s / c)."""
    out_BTHE: Float[Tensor, "B T H E"]
    """What the model's own attention returned."""

    def keys(self) -> Float[Tensor, "B H T K"]:
        """Return the keys that each query head sees, in float32."""
        return self.k_BGTK.float().repeat_interleave(self._share, dim=1)

    def values(self) -> Float[Tensor, "B H T E"]:
        """Return the values that each query head mixes, in float32."""
        return self.v_BGTE.float().repeat_interleave(self._share, dim=1)

    @property
    def _share(self) -> int:
        return self.q_BHTK.shape[1] // self.k_BGTK.shape[1]

    def scores(self, rows: Int[Tensor, " Q"]) -> Float[Tensor, "B H Q T"]:
        """Return the scores of some queries as the softmax sees them, -inf where a key is not visible."""
        scores = self.scale * (self.q_BHTK[:, :, rows].float() @ self.keys().mT)
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        seen, bias = self.visible(rows), 0.0
        if self.mask is not None and self.mask.dtype != torch.bool:
            bias = self.mask[..., : scores.shape[-1]].index_select(-2, rows).float()
        return (scores + bias).masked_fill(~seen, -math.inf)

    def visible(self, rows: Int[Tensor, " Q"]) -> Bool[Tensor, "*B Q T"]:
        """Return which keys some queries may see."""
        T = self.k_BGTK.shape[2]
        if self.mask is None:
            return rows[:, None] >= torch.arange(T, device=rows.device)
        mask = self.mask[..., :T].index_select(-2, rows)
        return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


See = Callable[[int, Heads], None]


@contextmanager
def watching(model: CausalLM, anatomy: Anatomy, see: See) -> Iterator[None]:
    """Call `see(layer, heads)` for every layer of every pass within."""
    at = [0]

    def entering(layer: int):
        def hook(*_: Any) -> None:
            at[0] = layer

        return hook

    def found(heads: Heads) -> None:
        with torch.no_grad():
            see(at[0], heads)

    with ExitStack() as stack:
        for i, block in enumerate(anatomy.blocks):
            stack.callback(block.register_forward_pre_hook(entering(i)).remove)
        stack.enter_context(_interface(model, found) if _uses_interface(model) else _Watch(found))
        yield


def _uses_interface(model: CausalLM) -> bool:
    """Whether the model's code asks transformers which attention function to call."""
    return bool(getattr(model, "_supports_attention_backend", False)) and hasattr(model, "config")


@contextmanager
def _interface(model: CausalLM, found: Callable[[Heads], None]) -> Iterator[None]:
    """Wrap the function that `transformers` would call, under its own name, and put it back afterwards."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as REGISTRY

    name = getattr(model.config, "_attn_implementation", None) or "eager"
    before = REGISTRY.get(name)

    def wrapped(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *args: Any, **options: Any) -> Any:
        usual = before or sys.modules[type(module).__module__].eager_attention_forward
        answer = usual(module, query, key, value, mask, *args, **options)
        scale = options.get("scaling")
        scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
        given = mask if isinstance(mask, Tensor) else None
        found(Heads(query, key, value, scale, given, options.get("softcap"), answer[0]))
        return answer

    REGISTRY[name] = wrapped
    try:
        yield
    finally:
        del REGISTRY[name]


class _Watch(TorchFunctionMode):
    """Look at every call of `scaled_dot_product_attention`; all functions run as they would."""

    def __init__(self, found: Callable[[Heads], None]):
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        answer = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
            q, k, v, scale = named["query"], named["key"], named["value"], named.get("scale")
            scale = q.shape[-1] ** -0.5 if scale is None else scale
            self.found(Heads(q, k, v, scale, named.get("attn_mask"), None, answer.transpose(1, 2)))
        return answer

"""The shape of a transformer: which family, how wide, how deep, which of the optional parts.

    ModelConfig(family="gpt2", vocab_size=264, d_model=64, n_layers=2, n_heads=4)

Everything else is derived. Options that the open questions of the theory need (relative positions, sliding windows,
mixtures of experts, other norms and connections) are fields here and small parts in the files beside this one.
"""

import re
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from memscape.errors import PlanError, unknown

Family = Literal["gpt2", "vanilla", "openelm"]
Position = Literal["learned", "sinusoid", "rotary", "alibi", "none"]
Norm = Literal["layer", "rms", "none"]
Connection = Literal["residual", "none", "skip", "lateral"]


class LayerShape(NamedTuple):
    """The sizes of one block; families with layer-wise scaling give each layer its own."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int


class ModelConfig(BaseModel):
    """A transformer's architecture. Fields left at None take the family's own value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family = "gpt2"
    """`gpt2` (pre-norm, GELU), `vanilla` (post-norm, ReLU, sinusoids), `openelm` (RMSNorm, rotary, SwiGLU)."""
    vocab_size: int
    """Rows of the embedding table; at least the tokenizer's size."""
    seq_len: int = 64
    """Longest sequence, tokens."""
    d_model: int = 64
    """Width of the residual stream."""
    n_layers: int = 2
    """Blocks."""
    n_heads: int | tuple[int, ...] = 4
    """Query heads: one number, or one per layer."""
    n_kv_heads: int | tuple[int, ...] | None = None
    """Key-value heads (grouped-query attention); None: as many as query heads."""
    d_head: int | None = None
    """Size of one head; None: d_model / n_heads."""
    d_ff: int | tuple[int, ...] | None = None
    """Hidden width of the feed-forward part; None: 4 d_model, `vanilla` d_model, `openelm` 1.25 d_model rounded."""
    tied: bool = True
    """Output head and embedding share one table."""
    position: Position | None = None
    """How order enters; None: `learned`, `sinusoid`, `rotary` for the three families."""
    norm: Norm | None = None
    """Normalisation; None: `layer`, `layer`, `rms` for the three families."""
    qk_norm: bool | None = None
    """RMS-normalise queries and keys per head; None: only `openelm`."""
    window: int | None = None
    """Sliding-window attention: a token sees itself and the window - 1 tokens before it; None: all."""
    top_k: int | None = None
    """Sparse attention: only the k largest scores of each query count; None: all."""
    n_experts: int = 1
    """Feed-forward parts per block; above 1 a router sends each token to the best one (top-1 mixture of experts)."""
    connection: Connection = "residual"
    """`residual` around each part; `skip`: also block i to block L-1-i; `lateral`: also embedding to block; `none`."""

    @model_validator(mode="wrap")
    @classmethod
    def _one_line(cls, values: Any, read: ModelWrapValidatorHandler["ModelConfig"]) -> "ModelConfig":
        try:
            return read(values)
        except ValidationError as problem:
            first = problem.errors()[0]
            name, got = str((*first["loc"], "fields")[0]), first["input"]
            if first["type"] == "extra_forbidden":
                raise unknown("field", name, cls.model_fields) from problem
            if first["type"] == "literal_error":
                raise unknown(name, str(got), re.findall(r"'(\w+)'", first["msg"])) from problem
            raise PlanError(f"{name}: {first['msg'].lower()}, got {got!r}; see ModelConfig.{name}.") from problem

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        sizes = ("n_heads", "n_kv_heads", "d_head", "d_ff", "window", "top_k")
        for name in ("vocab_size", "seq_len", "d_model", "n_layers", "n_experts", *sizes):
            value = getattr(self, name)
            if value is not None and min(value if isinstance(value, tuple) else (value,), default=1) < 1:
                raise PlanError(f"{name}={value} must be at least 1.")
        for name in ("n_heads", "n_kv_heads", "d_ff"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.n_layers:
                raise PlanError(
                    f"{name} lists {len(value)} layers, n_layers is {self.n_layers}; give one number a layer."
                )
        if self.d_head is None and (isinstance(self.n_heads, tuple) or self.d_model % self.n_heads):
            fits = [h for h in range(1, self.d_model + 1) if self.d_model % h == 0][:8]
            raise PlanError(f"n_heads={self.n_heads} must divide d_model={self.d_model}; try {fits}, or give d_head.")
        for i, layer in enumerate(self.layers):
            if layer.n_heads % layer.n_kv_heads:
                raise PlanError(f"layer {i}: n_kv_heads={layer.n_kv_heads} must divide n_heads={layer.n_heads}.")
            if self.position == "rotary" and layer.d_head % 2:
                raise PlanError(f"rotary positions turn pairs: d_head={layer.d_head} must be even.")
        return self

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """The sizes of each block, first to last."""

        def each(value: int | tuple[int, ...]) -> tuple[int, ...]:
            return value if isinstance(value, tuple) else (value,) * self.n_layers

        heads = each(self.n_heads)
        kv_heads = heads if self.n_kv_heads is None else each(self.n_kv_heads)
        own = {"gpt2": 4 * self.d_model, "vanilla": self.d_model, "openelm": divisible(1.25 * self.d_model)}
        d_ff = each(own[self.family] if self.d_ff is None else self.d_ff)
        return tuple(
            LayerShape(h, kv, self.d_head or self.d_model // h, ff)
            for h, kv, ff in zip(heads, kv_heads, d_ff, strict=True)
        )

    @property
    def positions(self) -> Position:
        """How order enters, the family's own unless set."""
        own: dict[Family, Position] = {"gpt2": "learned", "vanilla": "sinusoid", "openelm": "rotary"}
        return self.position or own[self.family]

    @property
    def norms(self) -> Norm:
        """Normalisation, the family's own unless set."""
        return self.norm or ("rms" if self.family == "openelm" else "layer")

    @property
    def normalises_qk(self) -> bool:
        """Whether queries and keys are normalised, as the family does unless set."""
        return self.family == "openelm" if self.qk_norm is None else self.qk_norm


def divisible(value: float, by: int = 256) -> int:
    """Return `value` rounded to a multiple of `by`, never below 0.9 of it: OpenELM's feed-forward widths."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded

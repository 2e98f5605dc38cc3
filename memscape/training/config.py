"""One training run, whole: the model, its data, and how it is trained. What a recipe makes and a run folder remembers.

RunConfig(run_id="d64-n16384-lr0.003-s0", model=scaled(64, 264), n_tokens=16_384, steps=2000, learning_rate=3e-3)
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memscape.errors import PlanError
from memscape.models.config import ModelConfig
from memscape.models.sizing import flops


class RunConfig(BaseModel):
    """Everything that decides a run's weights. Two runs with equal configs end with equal weights on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the run and of its folder."""
    model: ModelConfig
    """The architecture."""
    corpus: str = "sample"
    """CORPUS: what text."""
    tokenizer: str = "bytes"
    """How text becomes tokens."""
    n_tokens: int
    """Unique training tokens, D, in sequences of model.seq_len. Smaller sets nest in larger ones."""
    data_seed: int = 0
    """Draws which chunks of the corpus are trained on and which are held out."""
    seed: int = 0
    """Draws initial weights, order of sequences and dropout masks."""
    steps: int
    """Optimiser steps."""
    batch_size: int = 16
    """Sequences a step."""
    learning_rate: float = 3e-3
    """Peak rate of AdamW."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Shape of the rate after warm-up."""
    warmup: int = 50
    """Steps of linear warm-up."""
    final_rate: float = 0.05
    """Last rate, as a share of the peak."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay of matrices; 0 because memorisation is what is measured."""
    dropout: float = 0.0
    """Share of activations dropped after the embedding and after each half of a block."""
    clip: float = 1.0
    """Largest gradient norm of a member; 0 leaves gradients alone."""
    beta_1: float = 0.9
    """AdamW's decay of the first moment."""
    beta_2: float = 0.95
    """AdamW's decay of the second moment."""
    z_loss: float = 0.0
    """λ of λ (ln Σ exp logit)², added to the training loss only."""
    evaluations: int = 8
    """How often the run is evaluated, the end included; each after 1.5 times the steps of the one before."""
    n_evaluated: int = 256
    """At most so many sequences of each set (training, fresh, other) are evaluated; four times as many at the end."""
    stop_within: float | None = None
    """Stop once the training loss is within this share of its floor: 0.05 is 5 %. None: run all steps."""

    @model_validator(mode="after")
    def _sensible(self) -> "RunConfig":
        for name in ("n_tokens", "steps", "batch_size", "evaluations", "n_evaluated"):
            if getattr(self, name) < 1:
                raise PlanError(f"{name}={getattr(self, name)} must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise PlanError(f"dropout={self.dropout} must lie in [0, 1).")
        if not self.learning_rate > 0:
            raise PlanError(f"learning_rate={self.learning_rate} must be above 0.")
        return self

    @property
    def tokens_seen(self) -> int:
        """Tokens of all steps."""
        return self.steps * self.batch_size * self.model.seq_len

    @property
    def flops(self) -> float:
        """FLOPs of all training steps."""
        return float(self.tokens_seen) * flops(self.model).train

    @property
    def data(self) -> tuple[str, str, int, int]:
        """What decides the split; runs with equal values share one."""
        return (self.corpus, self.tokenizer, self.model.seq_len, self.data_seed)

    @property
    def shape(self) -> tuple:
        """What the members of a pack have in common; all else may differ from member to member."""
        own = {"run_id", "n_tokens", "data_seed", "seed", "learning_rate", "weight_decay", "dropout", "z_loss"}
        common = self.model_dump(exclude=own | {"model", "stop_within"})
        return (self.model, *common.values())

"""What one probe reads and keeps: the text through the model and through its nulls, measured once and found again.

Captures are made when first asked for and found again on disk, and so is every part that was measured. So a probe that
was stopped at any moment goes on where it was.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memscape.folder import read_json, write_json
from memscape.instruments.anatomy import Anatomy, dissect
from memscape.instruments.attention import AttentionWatch
from memscape.instruments.capture import KEPT_STATES, Activations, capture
from memscape.instruments.cloud import Cloud, cloud
from memscape.instruments.contexts import Contexts
from memscape.instruments.key_value import MemoryWatch
from memscape.instruments.nulls import gaussian, inner_gaussian, untrained
from memscape.models.pretrained import Pretrained
from memscape.progress import Budget

SHUFFLED_TOKENS = 2048
"""Tokens of the shuffled-text null: enough for the loss of a bag of words, a quarter of the time of the whole."""

WATCHES = {"attention": AttentionWatch, "memories": MemoryWatch}
"""Instruments that look on while the model reads."""


@dataclass
class Reading:
    """One probe under way: the model, its text, and what has been captured and measured so far."""

    model: Pretrained
    contexts: Contexts
    out: Path
    asked: tuple[str, ...]
    queries: int
    nulls: int
    seed: int
    budget: Budget
    reference: Contexts | None = None
    """Text of the same kind that the model cannot have seen."""
    canaries: list[str] | None = None

    def __post_init__(self) -> None:
        self.kept = self.contexts.spread(KEPT_STATES)
        count = max(1, min(len(self.kept), self.nulls // self.contexts.shape[1]))
        self.small = np.linspace(0, len(self.kept) - 1, count).round().astype(int)
        """Which of the kept contexts the nulls read."""
        self.null_contexts = self.contexts.at(self.kept[self.small])
        self.seconds: dict[str, float] = {}

    @cached_property
    def anatomy(self) -> Anatomy:
        return dissect(self.model.model)

    @property
    def device(self) -> torch.device:
        """Where the model is, and where neighbours are searched."""
        return next(self.model.model.parameters()).device

    @cached_property
    def null_model(self) -> Any:
        return untrained(self.model, self.seed)

    @cached_property
    def trained(self) -> Activations:
        return self.capture("trained", self.model.model, self.contexts, keep=self.kept)

    @cached_property
    def untrained(self) -> Activations:
        return self.capture("untrained", self.null_model, self.null_contexts, keep=np.arange(len(self.small)))

    @cached_property
    def shuffled(self) -> Activations:
        text = self.null_contexts.first(SHUFFLED_TOKENS).shuffled(self.seed)
        return self.capture("shuffled", self.model.model, text, sites=("final norm",), watches=(), hits=False)

    def capture(self, who: str, model: Any, contexts: Contexts, **options: Any) -> Activations:
        """Read some text with some model, on disk under the name `who`."""
        watches = tuple(watch() for name, watch in WATCHES.items() if name in self.asked)
        options = {"watches": watches, "hits": "extraction" in self.asked, "budget": self.budget} | options
        with self.timed("reading"):
            return capture(model, contexts, self.out / "states" / who, title=f"reading, {who}", **options)

    def states(self, who: str, site: str) -> Tensor:
        """Return the states (C, T, D) of one site: `whole`, or on the text of the nulls `trained` or `untrained`."""
        if who == "untrained":
            return self.untrained.site(site)
        return self.trained.site(site)[slice(None) if who == "whole" else self.small]

    def cloud(self, who: str, site: str) -> Cloud:
        """Return these states as a cloud."""
        owners = self.contexts.documents_C[self.kept]
        owners = owners if who == "whole" else owners[self.small]
        return cloud(self.states(who, site), owners, self.queries, self.device)

    def clouds(self, site: str) -> dict[str, Cloud]:
        """Return the states of one site as the model has them and as the nulls have them."""
        found = {who: self.cloud(who, site) for who in ("trained", "untrained")}
        found["gaussian"] = gaussian(found["trained"], self.seed)
        found["inner_gaussian"] = inner_gaussian(found["trained"], self.seed)
        return found | ({"whole": self.cloud("whole", site)} if len(self.small) < len(self.kept) else {})

    @cached_property
    def last(self) -> Cloud:
        """All kept states behind the final norm."""
        return self.cloud("whole", "final norm")

    def part(self, name: str, rest: str, measure: Callable[[], Any]) -> Any:
        """Return as JSON what `measure` found, now or before this probe was stopped; `rest` says what is left to do."""
        path = self.out / "parts" / f"{name}.json"
        if not path.exists():
            self.budget.check(rest)
            write_json(path, measure())
        return read_json(path)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that pass within to those of an instrument."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def close(self, keep_states: bool) -> None:
        """Write the seconds of this call to timing.json, and delete what the profile holds by now."""
        write_json(self.out / "timing.json", {name: round(s, 3) for name, s in self.seconds.items()})
        shutil.rmtree(self.out / "parts")
        if not keep_states:
            shutil.rmtree(self.out / "states")

"""What one probe reads and keeps: the text through the model and through its nulls, and what every site says of it.

Captures are made when first asked for and found again on disk; a site that was measured is not measured again. So a
probe that was stopped at any moment goes on where it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import memscape.instruments.attention as attention_of
import memscape.instruments.dimension as dimension_of
import memscape.instruments.energy as energy_of
import memscape.instruments.key_value as key_value_of
import memscape.instruments.radius as radius_of
import memscape.instruments.separation as separation_of
from memscape.errors import ShapeError
from memscape.folder import read_json, write_json
from memscape.instruments.anatomy import Anatomy, dissect
from memscape.instruments.capture import KEPT_STATES, Activations, Contexts, capture
from memscape.instruments.cloud import Cloud, cloud
from memscape.instruments.nulls import gaussian, inner_gaussian, untrained
from memscape.instruments.profile import Compared, Layer
from memscape.models.pretrained import Pretrained
from memscape.progress import Budget, bar, say
from memscape.theory.measure import Measured

OF_STATES: dict[str, Mapping[str, Callable[[Cloud], Measured | None]]] = {
    "radius": radius_of.FIELDS,
    "energy": energy_of.FIELDS,
    "separation": separation_of.FIELDS,
    "dimension": dimension_of.FIELDS,
}
"""Instruments that look at the states of one site."""

SHUFFLED_TOKENS = 2048
"""Tokens of the shuffled-text null: enough for the loss of a bag of words, a quarter of the time of the whole."""


@dataclass
class Reading:
    """One probe under way: the model, its text, and what has been captured so far."""

    model: Pretrained
    contexts: Contexts
    out: Path
    asked: tuple[str, ...]
    queries: int
    nulls: int
    seed: int
    budget: Budget

    def __post_init__(self) -> None:
        self.kept = self.contexts.spread(KEPT_STATES)
        count = max(1, min(len(self.kept), self.nulls // self.contexts.shape[1]))
        self.small = np.linspace(0, len(self.kept) - 1, count).round().astype(int)
        """Which of the kept contexts the nulls read."""
        self.notes: list[str] = []

    @cached_property
    def anatomy(self) -> Anatomy:
        return dissect(self.model.model)

    @cached_property
    def null_model(self) -> Any:
        return untrained(self.model, self.seed)

    @cached_property
    def null_contexts(self) -> Contexts:
        return self.contexts.at(self.kept[self.small])

    def capture(self, who: str, model: Any, contexts: Contexts, **options: Any) -> Activations:
        watches = [attention_of.AttentionWatch()] if "attention" in self.asked else []
        watches += [key_value_of.MemoryWatch()] if "memories" in self.asked else []
        options = {"watches": tuple(watches), "hits": "extraction" in self.asked} | options
        return capture(
            model, contexts, self.out / "states" / who, title=f"reading, {who}", budget=self.budget, **options
        )

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

    def run(self) -> None:
        """Make every capture that is not on disk yet."""
        for done in (self.trained, self.untrained, self.shuffled):
            assert done.shards

    def remove(self) -> None:
        """Delete captured states."""
        for found in (self.trained, self.untrained, self.shuffled):
            found.remove()

    def clouds(self, site: str) -> dict[str, Cloud]:
        """Return the states of one site as the model has them and as the nulls have them."""
        trained = self.cloud("trained", site)
        found = {
            "trained": trained,
            "untrained": self.cloud("untrained", site),
            "gaussian": gaussian(trained, self.seed),
            "inner_gaussian": inner_gaussian(trained, self.seed),
        }
        return found | ({"whole": self.cloud("whole", site)} if len(self.small) < len(self.kept) else {})

    def cloud(self, who: str, site: str) -> Cloud:
        """Return the states of one site: of the model on the text of the nulls or on the whole, or untrained."""
        own = self.contexts.documents_C[self.kept]
        if who == "untrained":
            return cloud(self.untrained.site(site), own[self.small], self.queries)
        rows = np.arange(len(own)) if who == "whole" else self.small
        return cloud(self.trained.site(site)[rows], own[rows], self.queries)

    def note(self, sentence: str) -> None:
        say(sentence)
        self.notes.append(sentence)

    def layers(self) -> list[Layer]:
        """Measure every site with its nulls; a site that is finished is not measured again."""
        layers, sites = [], self.trained.sites
        with bar("measuring layers", len(sites), "sites") as progress:
            for depth, site in enumerate(sites):
                path = self.out / "sites" / f"{depth:03d}.json"
                if not path.exists():
                    self.budget.check(f"{len(sites) - depth} of {len(sites)} sites to measure")
                    write_json(path, self._layer(site, depth))
                layers.append(Layer.model_validate(read_json(path)))
                progress.advance()
        return layers

    def _layer(self, site: str, depth: int) -> Layer:
        clouds = self.clouds(site)
        found: dict[str, dict[str, Any]] = {}
        for name in (name for name in self.asked if name in OF_STATES):
            for field, look in OF_STATES[name].items():
                entry = found.setdefault(field, {})
                for who, states in clouds.items():
                    try:
                        entry[who] = look(states)
                    except (ShapeError, ValueError) as problem:
                        entry |= {who: None, "reason": f"{who}: {problem}"}
        if 0 < depth <= len(self.anatomy.blocks):
            for who, seen, text in (
                ("trained", self.trained, self.contexts), ("untrained", self.untrained, self.null_contexts)
            ):  # fmt: skip
                for by_layer in (attention_of.by_layer, key_value_of.by_layer):
                    for field, value in by_layer(seen, text, depth - 1).items():
                        found.setdefault(field, {})[who] = value
        dim, length = clouds["trained"].dim, self.contexts.shape[1]
        for field, n in (("radius", 1), ("sequence_radius", length)):
            if field in found:
                found[field]["predicted"] = radius_of.predicted(dim, n)
        most = clouds.get("whole", clouds["trained"])
        extra: dict[str, Any] = {}
        if "radius" in self.asked:
            extra["outliers"] = radius_of.outliers(most)
            extra["shrinking"] = radius_of.shrinking(most)
        if "separation" in self.asked:
            extra["beta_needed"] = separation_of.beta_needed(clouds["trained"])
        compared = {k: Compared.model_validate({"trained": None} | v) for k, v in found.items()}
        return Layer(site=site, depth=depth, spread=clouds["trained"].spread, **compared, **extra)

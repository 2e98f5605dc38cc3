"""Basins: does a state that was pushed away come back by the end of the model, and from how far?

The state of the last token is moved by rho in a random direction after some layer, and the remaining layers run as they
are. Distances are measured in units of each site's own spread (its square root), because the stream grows with depth.
A layered memory that descends an energy would contract pushes inside a basin; the paper's claimed radius is
sqrt(n / 2 pi e), the bound from the data is half the nearest-neighbour distance, in whose multiples rho is chosen.

    contraction     distance at the end over distance at the start, both in units of spread; below 1 it shrinks
    returned        share of pushed states that end within half the distance to the nearest other end state
    same_token      share whose most likely next token stays the same
"""

import copy
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memscape.instruments.anatomy import Anatomy, CausalLM, dissect, listening, logits, logits_of
from memscape.instruments.contexts import Contexts
from memscape.instruments.documents import average, median
from memscape.memory.neighbours import search
from memscape.progress import Budget

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""How far states are pushed, in half nearest-neighbour distances of their layer."""

LENGTH = 64
"""Tokens before and with the pushed one: enough context to be itself, short enough to be quick."""


class Rest:
    """The rest of a model for the last tokens of some texts: from a state after any layer to all later sites."""

    def __init__(self, model: CausalLM, anatomy: Anatomy, tokens_BT: Tensor):
        """Run all but the last token once, if the model keeps keys and values; else every run reads the whole text."""
        self.model, self.anatomy, self.tokens = model, anatomy, tokens_BT
        self.past = None
        if hasattr(model, "config") and getattr(model.config, "use_cache", False):
            with torch.no_grad():
                self.past = getattr(model(input_ids=tokens_BT[:, :-1], use_cache=True), "past_key_values", None)

    def run(self, site: str | None = None, states_BD: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Return the last token's states at all sites and its logits, with its state at `site` replaced."""
        seen: dict[str, Tensor] = {}
        B = len(self.tokens)

        def see(name: str):
            def hook(state: Tensor) -> Tensor | None:
                flat = state.reshape(B, -1, self.anatomy.width)
                if name == site and states_BD is not None:
                    flat = torch.cat([flat[:, :-1], states_BD.to(flat)[:, None]], dim=1)
                seen[name] = flat[:, -1]
                return flat.view_as(state) if name == site else None

            return hook

        with ExitStack() as hooks, torch.no_grad():
            listening(hooks, self.anatomy, {name: see(name) for name in self.anatomy.sites})
            if self.past is None:
                answer = logits(self.model, self.tokens)
            else:
                past = copy.deepcopy(self.past)  # the pass adds to it, and windowed caches forget
                answer = self.model(input_ids=self.tokens[:, -1:], past_key_values=past, use_cache=True)
        return seen, logits_of(answer).reshape(B, -1, self.anatomy.vocabulary)[:, -1]


def basins(
    model: CausalLM,
    contexts: Contexts,
    radii: dict[str, float],
    spreads: dict[str, float],
    *,
    n_states: int = 64,
    factors: tuple[float, ...] = FACTORS,
    seed: int = 0,
    budget: Budget | None = None,
) -> list[dict[str, Any]]:
    """Return, for every site in `radii`, what becomes of states pushed by multiples of its radius.

    Args:
        radii: site -> half the nearest-neighbour distance there, distance.
        spreads: site -> median squared distance from the median, for these sites and `final norm`, distance².
        n_states: how many states are pushed, one a context.
        factors: how far, in radii.
    """
    anatomy, generator = dissect(model), torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    rows = np.linspace(0, len(contexts.documents_C) - 1, min(n_states, len(contexts.documents_C))).round().astype(int)
    length = min(LENGTH, contexts.shape[1])
    tokens = torch.from_numpy(contexts.tokens_CT1[rows, :length]).long().to(device)
    documents = contexts.documents_C[rows]
    owners = torch.from_numpy(documents)
    rest = Rest(model, anatomy, tokens)
    clean, said = rest.run()
    end = clean["final norm"].float().cpu()
    ball = search(end, end, query_groups=owners, pattern_groups=owners).distance[:, 0].double().sqrt() / 2
    found = []
    for site, radius in radii.items():
        if budget is not None:
            budget.check(f"basins from {site} on")
        pushes, unit = [], (spreads["final norm"] / spreads[site]) ** 0.5
        for factor in factors:
            rho = factor * radius
            away = torch.randn(len(rows), anatomy.width, generator=generator)
            away = rho * torch.nn.functional.normalize(away, dim=1)
            pushed, says = rest.run(site, clean[site].float() + away.to(device))
            moved = (pushed["final norm"].float().cpu() - end).double().norm(dim=1)
            shares = {"returned": moved < ball, "same_token": (says.argmax(1) == said.argmax(1)).cpu()}
            pushes.append(
                {"factor": factor, "rho": rho, "contraction": median(moved / rho / unit, documents, "ratio")}
                | {name: average(share.double(), documents, "share of states") for name, share in shares.items()}
            )
        found.append({"site": site, "radius": radius, "pushes": pushes})
    return found

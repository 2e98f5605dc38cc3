"""Pushes whose fate is known: layers that shrink, layers that keep, and one answer with or without a cache."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memscape.instruments.anatomy import dissect
from memscape.instruments.basins import Rest, basins
from tests.instruments.tiny import FAMILIES, V, some_contexts, tiny


class Shrinking(nn.Module):
    """Every layer multiplies the state by a constant: what is left of a push is known exactly."""

    def __init__(self, factor: float, layers: int = 3):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, 12), nn.Linear(12, V)
        self.layers = nn.ModuleList(Times(factor) for _ in range(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Times(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_contraction_is_what_the_layers_do(factor):
    """From the embedding three layers are left, from layer 2 one: factor³ and factor, in equal spreads."""
    torch.manual_seed(0)
    model, contexts = Shrinking(factor).eval(), some_contexts(n=24, documents=12)
    spreads = {"embedding": 1.0, "layer 2": 1.0, "final norm": 1.0}
    found = basins(model, contexts, {"embedding": 0.1, "layer 2": 0.1}, spreads, n_states=24)
    for entry, left in zip(found, (3, 1), strict=True):
        for push in entry["pushes"]:
            assert push["contraction"].value == pytest.approx(factor**left, rel=1e-3)
    near, far = found[0]["pushes"][0], found[0]["pushes"][-1]
    assert near["rho"] == pytest.approx(0.025)
    assert near["returned"].value >= far["returned"].value
    assert near["same_token"].value >= far["same_token"].value


def test_spread_is_the_unit_of_a_push():
    """Nine times the spread at the end makes the same distance a third as far."""
    torch.manual_seed(0)
    spreads = {"embedding": 1.0, "final norm": 9.0}
    found = basins(Shrinking(1.0).eval(), some_contexts(), {"embedding": 0.1}, spreads, factors=(1.0,))
    assert found[0]["pushes"][0]["contraction"].value == pytest.approx(1 / 3, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rest_of_a_model_is_the_model(family):
    """Unpushed, the last token's logits are those of a plain pass; a state put back changes nothing."""
    model = tiny(family)
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1]).long()
    with torch.no_grad():
        plain = model(input_ids=tokens, use_cache=False).logits[:, -1]
    rest = Rest(model, dissect(model), tokens)
    clean, said = rest.run()
    torch.testing.assert_close(said, plain, atol=1e-5, rtol=1e-4)
    for site in ("embedding", "layer 2"):
        again, _ = rest.run(site, clean[site])
        torch.testing.assert_close(again["final norm"], clean["final norm"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_a_push_has_the_same_fate_with_and_without_a_cache(family):
    """Keys and values of earlier tokens do not depend on the pushed one, so keeping them is only faster."""
    model = tiny(family)
    without = copy.deepcopy(model)
    without.config.use_cache = False
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1]).long()
    push = torch.randn(len(tokens), 24, generator=torch.Generator().manual_seed(0))
    ends = []
    for m in (model, without):
        rest = Rest(m, dissect(m), tokens)
        assert (rest.past is None) == (m is without)
        clean, _ = rest.run()
        ends.append(rest.run("layer 1", clean["layer 1"] + push)[0]["final norm"])
    torch.testing.assert_close(ends[0], ends[1], atol=1e-4, rtol=1e-4)
    assert not np.allclose(ends[0], clean["final norm"])

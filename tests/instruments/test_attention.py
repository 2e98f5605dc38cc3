"""Heads whose search is known: nearest by distance, by inner product, one key or all of them."""

import math

import pytest
import torch

from memscape.instruments.attention import METRICS, regime, search
from memscape.instruments.heads import Heads
from memscape.instruments.key_value import promoted
from memscape.memory.energies import responsibilities


def planted(sharp: float, norms: torch.Tensor | None = None, T: int = 64, K: int = 16) -> Heads:
    """One head whose queries point at random keys; `norms` stretches the keys."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(1, 1, T, K, generator=generator), dim=-1)
    aim = torch.stack([torch.randint(0, t + 1, (1,), generator=generator) for t in range(T)])[:, 0]
    q = sharp * keys[:, :, aim]
    k = keys if norms is None else keys * norms[:, None]
    v = torch.randn(1, 1, T, K, generator=generator)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return Heads(q, k, v, K**-0.5, None, None, out.transpose(1, 2))


def metrics(heads: Heads) -> dict[str, float]:
    return dict(zip(METRICS, search(heads, 32)[0, 0].tolist(), strict=True))


def test_with_equal_key_norms_attention_is_the_search_by_distance():
    """The bias is then the same for every key: it changes nothing, and the largest weight is on the nearest key."""
    found = metrics(planted(sharp=200.0))
    assert found["agreement"] == 1
    assert found["biased"] == pytest.approx(0, abs=1e-5)
    assert found["mass"] == pytest.approx(found["largest"], abs=1e-6)
    assert found["nearly"] < 1 / 32
    assert found["update"] < 1e-5


def test_unequal_key_norms_turn_the_search_away_from_the_nearest_key():
    """Long keys win by inner product though they are far: agreement falls, and the bias measures by how much."""
    norms = torch.exp(torch.randn(64, generator=torch.Generator().manual_seed(1)))
    found = metrics(planted(sharp=1.5, norms=norms))
    assert found["agreement"] < 0.5
    assert found["mass"] < found["largest"]
    assert found["biased"] > 0.1


def test_queries_of_no_direction_average_over_all_keys():
    """At zero sharpness all keys weigh the same: Ramsauer's global average."""
    found = metrics(planted(sharp=0.0))
    assert found["effective"] == pytest.approx(1, abs=1e-5)
    assert regime(found["nearly"]) == "global average"
    assert regime(metrics(planted(sharp=200.0))["nearly"]) == "single pattern"
    assert found["chance"] == pytest.approx(found["sink"], rel=1e-4)


def test_weights_with_the_key_norm_bias_are_the_responsibilities_of_the_distance_energy():
    """softmax(s q.k - s/2 |k|²) = softmax(-s/2 |q - k|²): the memory room's energy at beta = s/2 (theory 1.3)."""
    norms = torch.linspace(0.5, 2, 64)
    heads = planted(sharp=5.0, norms=norms)
    rows, keys = torch.arange(64), heads.keys()
    biased = heads.scores(rows) - 0.5 * heads.scale * keys.square().sum(-1)[:, :, None]
    t = 40
    theirs = responsibilities(heads.q_BHTK[0, 0, t].double(), keys[0, 0, : t + 1].double(), beta=heads.scale / 2)
    torch.testing.assert_close(biased[0, 0, t].softmax(-1)[: t + 1].double(), theirs, atol=1e-6, rtol=1e-4)


def test_every_metric_is_a_share_or_an_error():
    """Whatever the head, shares lie in [0, 1] and chance is what a blind guess would score."""
    for sharp in (0.0, 1.0, 30.0):
        found = metrics(planted(sharp, norms=torch.rand(64, generator=torch.Generator().manual_seed(2)) + 0.1))
        assert all(0 <= found[name] <= 1 + 1e-6 for name in METRICS)
        assert 1 / 64 <= found["chance"] <= 1 / 16
        assert found["effective"] >= found["chance"] - 1e-6 or math.isclose(found["effective"], found["chance"])


def test_promoted_tokens_are_those_with_the_largest_logits():
    """A value equal to one token's row of an orthonormal head promotes that token first."""
    unembed = torch.eye(20)
    assert promoted(unembed[[3, 7]], unembed)[:, 0].tolist() == [3, 7]

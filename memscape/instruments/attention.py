"""Attention as search: does a head look up the key nearest to its query, and how many keys does it mix?

A head computes softmax(s q.k_i) v_i: one update of a modern Hopfield network (Ramsauer et al., arXiv 2008.02217, eq. 3)
with keys as stored patterns, values as what they stand for, and beta = s. By distance, softmax(-s/2 |q - k_i|²) is the
same with a bias -s/2 |k_i|² on every key, so largest weight and nearest key by inner product are one, and nearest key
by distance is another wherever key norms differ. Measured per head, for queries of a context's last three quarters:

    agreement        share of queries whose largest weight lies on the key nearest by distance; `chance` is 1 / keys
    agreement_rest   the same with the first key left out, which many heads use to look at nothing
    mass             weight on the key nearest by distance;  `largest`: on the key nearest by inner product
    biased           total variation between the head's weights and those with the key-norm bias
    effective        exp H(weights), the effective number of keys, as a share of all keys seen
    nearly           keys that hold 90 % of the weight, as a share of all keys seen: Ramsauer's regimes
    sink             weight on the first key
    update           largest difference between the head's output and that one Hopfield update, of the largest output
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from memscape.instruments.anatomy import Anatomy, CausalLM
from memscape.instruments.capture import Activations
from memscape.instruments.contexts import Contexts
from memscape.instruments.documents import average, averages
from memscape.instruments.heads import Heads, watching
from memscape.theory.measure import Measured

METRICS = (
    "agreement", "agreement_rest", "mass", "largest", "biased", "effective", "nearly", "sink", "chance", "update",
)  # fmt: skip

QUERIES = 16
"""Queries asked in each context, over its last three quarters: the first positions see few keys."""

SINGLE, GLOBAL = 1 / 32, 1 / 2
"""Share of the keys that holds 90 % of the weight: below, few patterns are retrieved; above, all are averaged
(Ramsauer et al., appendix A.5.1.2, classes IV and I); metastable between."""


class AttentionWatch:
    """Reduces every head of every pass to `METRICS` a context; a `Watch` of `capture`."""

    def __init__(self, queries: int = QUERIES):
        self.queries, self.found = queries, {}

    @contextmanager
    def on(self, model: CausalLM, anatomy: Anatomy) -> Iterator[None]:
        """See every layer's heads within."""
        with watching(model, anatomy, self._see):
            yield

    def _see(self, layer: int, heads: Heads) -> None:
        self.found[layer] = search(heads, self.queries)

    def take(self) -> dict[str, Tensor]:
        """Return the metrics of the last pass, `heads/<layer>` (contexts, H, metrics)."""
        found, self.found = self.found, {}
        return {f"heads/{layer}": values for layer, values in found.items()}


def search(heads: Heads, queries: int = QUERIES) -> Float[Tensor, "B H metrics"]:
    """Return `METRICS` of every context and head, each a mean over queries (`update`: the largest)."""
    T = heads.k_BGTK.shape[2]
    count = min(queries, T - T // 4)
    rows = torch.linspace(T // 4, T - 1, count, device=heads.q_BHTK.device).round().long()
    scores, keys = heads.scores(rows), heads.keys()
    weights = scores.softmax(-1)
    seen = scores > -torch.inf
    n_seen = seen.sum(-1)
    half_norms = 0.5 * heads.scale * keys.square().sum(-1)[:, :, None]
    by_distance = scores - half_norms
    rest = by_distance.clone()
    rest[..., 0] = -torch.inf
    nearest, best = by_distance.argmax(-1), weights.argmax(-1)
    best_rest = scores.index_fill(-1, torch.zeros(1, dtype=torch.long, device=rows.device), -torch.inf).argmax(-1)
    ordered = weights.sort(-1, descending=True).values.cumsum(-1)
    mixed = weights @ heads.values()
    theirs = heads.out_BTHE[:, rows].transpose(1, 2).float()
    scale = theirs.abs().amax((-1, -2)).clamp_min(1e-30)
    means = torch.stack(
        [
            (nearest == best).float(),
            (rest.argmax(-1) == best_rest).float(),
            weights.gather(-1, nearest[..., None])[..., 0],
            weights.amax(-1),
            (weights - by_distance.softmax(-1)).abs().sum(-1) / 2,
            torch.special.entr(weights).sum(-1).exp() / n_seen,
            ((ordered < 0.9).sum(-1) + 1) / n_seen,
            weights[..., 0],
            1 / n_seen.expand(weights.shape[:-1]),
        ],
        dim=-1,
    ).mean(2)
    update = (mixed - theirs).abs().amax((-1, -2)) / scale
    return torch.cat([means, update[..., None]], dim=-1)


def read(seen: Activations, contexts: Contexts, n_layers: int) -> dict[str, Any] | None:
    """Return the metrics of all heads with intervals over documents, or None where no heads were seen.

    Returns:
        A list of one entry a head (`layer`, `head`, every metric, `regime`), the chance level, the queries asked, and
        the largest difference to one Hopfield update.
    """
    heads: list[dict[str, Any]] = []
    errors, chance, documents = [], [], np.zeros(0, dtype=np.int64)
    for layer in range(n_layers):
        if not seen.has(f"heads/{layer}"):
            continue
        values, rows = seen.watched(f"heads/{layer}")
        documents = contexts.documents_C[rows]
        per_head = values.double().numpy()
        errors.append(per_head[..., METRICS.index("update")].max())
        chance.append(per_head[..., METRICS.index("chance")].mean(1))
        named = METRICS[:-2]
        for h in range(per_head.shape[1]):
            found = averages(per_head[:, h, : len(named)], documents, "share")
            entry: dict[str, Any] = {"layer": layer + 1, "head": h + 1, **dict(zip(named, found, strict=True))}
            heads.append(entry | {"regime": regime(entry["nearly"].value)})
    if not heads:
        return None
    return {
        "heads": heads,
        "chance": average(np.mean(chance, axis=0), documents, "share"),
        "queries": len(documents) * min(QUERIES, contexts.shape[1] - contexts.shape[1] // 4),
        "update_error": float(max(errors)),
        "regimes": {name: sum(h["regime"] == name for h in heads) for name in REGIMES},
    }


REGIMES = ("single pattern", "metastable", "global average")


def regime(nearly: float) -> str:
    """Return Ramsauer's regime of a head whose weight lies to 90 % on this share of its keys."""
    return REGIMES[0] if nearly <= SINGLE else REGIMES[1] if nearly <= GLOBAL else REGIMES[2]


def by_layer(seen: Activations, contexts: Contexts, layer: int) -> dict[str, Measured]:
    """Return what this instrument says of one layer, all heads together: {} where its heads were not seen."""
    if not seen.has(f"heads/{layer}"):
        return {}
    values, rows = seen.watched(f"heads/{layer}")
    found = averages(values.double().numpy().mean(1), contexts.documents_C[rows], "share")
    named = dict(zip(METRICS, found, strict=True))
    return {
        "attention_agreement": named["agreement"].model_copy(update={"unit": "share of queries"}),
        "attention_bias": named["biased"].model_copy(update={"unit": "total variation"}),
        "attention_effective": named["effective"].model_copy(update={"unit": "share of keys"}),
    }

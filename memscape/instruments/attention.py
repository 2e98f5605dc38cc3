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

import torch
from jaxtyping import Float
from torch import Tensor

from memscape.instruments.anatomy import Anatomy, CausalLM
from memscape.instruments.capture import Activations
from memscape.instruments.documents import average, averages
from memscape.instruments.heads import Heads, watching
from memscape.theory.measure import Measured

OF_A_HEAD = ("agreement", "agreement_rest", "mass", "largest", "biased", "effective", "nearly", "sink")
METRICS = (*OF_A_HEAD, "chance", "update")

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


REGIMES = ("single pattern", "metastable", "global average")


def regime(nearly: float) -> str:
    """Return Ramsauer's regime of a head whose weight lies to 90 % on this share of its keys."""
    return REGIMES[0] if nearly <= SINGLE else REGIMES[1] if nearly <= GLOBAL else REGIMES[2]


def read(seen: Activations, n_layers: int) -> dict[str, Any] | None:
    """Return the metrics of all heads with intervals over documents, or None where no heads were seen.

    Returns:
        A list of one entry a head (`layer`, `head`, every metric, `regime`), the chance level, the queries asked, and
        the largest difference to one Hopfield update.
    """
    found = {layer: noted for layer in range(n_layers) if (noted := seen.watched(f"heads/{layer}")) is not None}
    if not found:
        return None
    heads: list[dict[str, Any]] = []
    for layer, (values, text) in found.items():
        for h, values_CX in enumerate(values.double().numpy().swapaxes(0, 1)):
            metrics = averages(values_CX[:, : len(OF_A_HEAD)], text.documents_C, "share")
            entry = {"layer": layer + 1, "head": h + 1, **dict(zip(OF_A_HEAD, metrics, strict=True))}
            heads.append(entry | {"regime": regime(entry["nearly"].value)})
    values, text = next(iter(found.values()))
    length = text.shape[1]
    return {
        "heads": heads,
        "chance": average(values[:, 0, METRICS.index("chance")], text.documents_C, "share"),
        "queries": text.shape[0] * min(QUERIES, length - length // 4),
        "update_error": max(float(values[..., METRICS.index("update")].max()) for values, _ in found.values()),
        "regimes": {name: sum(h["regime"] == name for h in heads) for name in REGIMES},
    }


def by_layer(seen: Activations, layer: int) -> dict[str, Measured]:
    """Return what this instrument says of one layer, all heads together: {} where its heads were not seen."""
    if (noted := seen.watched(f"heads/{layer}")) is None:
        return {}
    values_CX, documents = noted[0].double().mean(1).numpy(), noted[1].documents_C
    fields = {
        "attention_agreement": ("agreement", "share of queries"),
        "attention_bias": ("biased", "total variation"),
        "attention_effective": ("effective", "share of keys"),
    }
    return {field: average(values_CX[:, METRICS.index(m)], documents, unit) for field, (m, unit) in fields.items()}

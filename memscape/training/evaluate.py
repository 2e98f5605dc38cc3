"""How much does each member know: loss and exact-match extraction on its training set, on fresh chunks, on other text.

One forward pass gives both. Greedy decoding from a true prefix repeats the rest of a sequence exactly if, and only if,
the most likely token is the true one at every position after the prefix given the true tokens before it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memscape.models.stream import Stream
from memscape.training.pool import Pool
from memscape.training.step import begin, token_losses


class Evaluation(NamedTuple):
    """A pack's members on one set of sequences each."""

    loss_P: Float[Tensor, " P"]
    """Mean loss over predicted tokens, nats/token."""
    sem_P: Float[Tensor, " P"]
    """Its standard error, documents being the independent units, nats/token."""
    extracted_P: Float[Tensor, " P"]
    """Share of sequences whose second half is the greedy continuation of the first."""
    n_P: Int[Tensor, " P"]
    """Sequences evaluated."""


@torch.no_grad()
def evaluate(model: Stream, pool: Pool, rows: list[Int[Tensor, " _"]], bos: int, at_once: int = 65_536) -> Evaluation:
    """Return the members' losses on their own rows of one pool; the lists may differ in length.

    `at_once` bounds the tokens in flight, and with it memory: about that many times the vocabulary in numbers.
    """
    P, longest = len(rows), max(map(len, rows))
    n = torch.tensor([len(r) for r in rows], device=pool.device)
    padded = torch.stack([torch.nn.functional.pad(r, (0, longest - len(r))) for r in rows])
    T = pool.seq_len
    batch = max(1, at_once // (P * T))
    nats, tokens, exact = [], [], []
    for start in range(0, longest, batch):
        targets = pool[padded[:, start : start + batch]]
        logits = model(begin(targets, bos))
        nats.append(token_losses(logits, targets).sum(-1))
        tokens.append((targets >= 0).sum(-1))
        hit = (logits.argmax(-1) == targets) | (targets < 0)
        exact.append(hit[..., T // 2 :].all(-1))
    real = torch.arange(longest, device=pool.device) < n[:, None]
    nats_PR, tokens_PR = torch.cat(nats, 1).double() * real, torch.cat(tokens, 1) * real
    loss_P = nats_PR.sum(1) / tokens_PR.sum(1)
    sem_P = clustered_sem(nats_PR - loss_P[:, None] * tokens_PR, tokens_PR, pool.documents[padded], real)
    extracted_P = (torch.cat(exact, 1) & real).sum(1) / n
    return Evaluation(loss_P.float(), sem_P.float(), extracted_P.float(), n)


def clustered_sem(
    residual_PR: Float[Tensor, "P R"],
    tokens_PR: Int[Tensor, "P R"],
    document_PR: Int[Tensor, "P R"],
    real_PR: Bool[Tensor, "P R"],
) -> Float[Tensor, " P"]:
    """Return the standard error of Σ nats / Σ tokens with whole documents as the independent units.

    sqrt(C / (C - 1) Σ_c (Σ_{r in c} residual)²) / Σ tokens for C documents, residual = nats - mean tokens: the
    linearised ratio estimator. Tokens of one sequence, and sequences of one document, are not independent. 0 for C = 1.
    """
    P, n = residual_PR.shape[0], int(document_PR.max()) + 1
    sums = residual_PR.new_zeros(P, n).scatter_add_(1, document_PR, residual_PR * real_PR)
    seen = sums.new_zeros(P, n).scatter_add_(1, document_PR, real_PR.to(sums.dtype)) > 0
    C = seen.sum(1)
    return (sums.square().sum(1) * C / (C - 1).clamp(min=1)).sqrt() / tokens_PR.sum(1)

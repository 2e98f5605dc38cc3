"""How much does each member know: loss and exact-match extraction on its training set, on fresh chunks, on other text.

One forward pass gives both. Greedy decoding from a true prefix repeats the rest of a sequence exactly if, and only if,
the most likely token is the true one at every position after the prefix given the true tokens before it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memscape.models.stream import Stream
from memscape.training.step import begin, token_losses


class Evaluation(NamedTuple):
    """A pack's members on one set of sequences each."""

    loss_P: Float[Tensor, " P"]
    """Mean loss over predicted tokens, nats/token."""
    sem_P: Float[Tensor, " P"]
    """Its standard error over sequences, nats/token."""
    extracted_P: Float[Tensor, " P"]
    """Share of sequences whose second half is the greedy continuation of the first."""
    n_P: Int[Tensor, " P"]
    """Sequences evaluated."""


@torch.no_grad()
def evaluate(
    model: Stream, sequences_MT: Int[Tensor, "M T"], rows: list[Int[Tensor, " R"]], bos: int, at_once: int = 65_536
) -> Evaluation:
    """Return the members' losses on their own rows of one pool of sequences; lists may differ in length.

    `at_once` bounds the tokens in flight, and with it memory: about that many times the vocabulary in numbers.
    """
    P, T = len(rows), sequences_MT.shape[1]
    n = torch.tensor([len(r) for r in rows], device=sequences_MT.device)
    longest = int(n.max())
    padded = torch.stack([torch.nn.functional.pad(r, (0, longest - len(r))) for r in rows])
    batch = max(1, at_once // (P * T))
    nats, tokens, exact = [], [], []
    for start in range(0, longest, batch):
        targets = sequences_MT[padded[:, start : start + batch]].long()
        logits = model(begin(targets, bos))
        nats.append(token_losses(logits, targets).sum(-1))
        tokens.append((targets >= 0).sum(-1))
        hit = (logits.argmax(-1) == targets) | (targets < 0)
        exact.append(hit[..., T // 2 :].all(-1))
    real = torch.arange(longest, device=n.device) < n[:, None]
    nats_PR, tokens_PR = torch.cat(nats, 1).double() * real, torch.cat(tokens, 1) * real
    loss_P = nats_PR.sum(1) / tokens_PR.sum(1)
    spread = ((nats_PR - loss_P[:, None] * tokens_PR) ** 2).sum(1) / (n - 1).clamp(min=1)
    sem_P = (spread * n).sqrt() / tokens_PR.sum(1)  # of a ratio of sums, to first order; equal lengths: s / sqrt(n)
    extracted_P = (torch.cat(exact, 1) & real).sum(1) / n
    return Evaluation(loss_P.float(), sem_P.float(), extracted_P.float(), n)

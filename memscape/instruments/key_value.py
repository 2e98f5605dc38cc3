"""Key-value: what does a feed-forward layer hold, read as a memory of keys and values?

Its last matrix adds sum_i m_i v_i to the stream: coefficients m_i say how much each of the F memories is called, values
v_i what it writes (Geva et al. 2021, arXiv 2012.14913). Measured per layer: how many memories share a token's update,
by the participation ratio (sum w)² / sum w² of w_i = |m_i| |v_i|, and whether the memory called most promotes the token
that comes next (among its ten most promoted tokens, by the output head), against the same with untrained weights.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from memscape.instruments.anatomy import Anatomy, CausalLM, first, unembedding, values
from memscape.instruments.capture import Activations
from memscape.instruments.documents import average
from memscape.theory.measure import Measured

POSITIONS = 8
"""Tokens looked at in each context, spread evenly: a state's coefficients are thousands of numbers."""

PROMOTED = 10
"""Tokens that a value promotes most."""

SHOWN = 5
"""Memories of a layer whose promoted tokens are shown: those called most often."""


def positions(length: int) -> Tensor:
    """Return the positions of a context that are looked at."""
    return torch.linspace(length / POSITIONS - 1, length - 1, min(POSITIONS, length)).round().long().clamp_min(0)


class MemoryWatch:
    """Notes, of every feed-forward layer, the effective share of its memories and the largest one; a `Watch`."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    @contextmanager
    def on(self, model: CausalLM, anatomy: Anatomy) -> Iterator[None]:
        """See the coefficients of every layer within."""
        shape: list[int] = []

        def reading(_module: Any, args: tuple, kwargs: dict) -> None:
            shape[:] = (kwargs["input_ids"] if "input_ids" in kwargs else args[0]).shape

        def noting(layer: int):
            def hook(memory: Any, args: tuple) -> None:
                coefficients = first(args)
                if coefficients is None or coefficients.numel() % math.prod(shape):
                    return
                at = positions(shape[1]).to(coefficients.device)
                called = coefficients.reshape(*shape, -1)[:, at].float().abs()
                weight = called * values(memory, anatomy.width).float().norm(dim=1)
                number = weight.sum(-1).square() / weight.square().sum(-1)
                self.found[f"memories/{layer}/effective"] = number / weight.shape[-1]
                self.found[f"memories/{layer}/largest"] = weight.argmax(-1)

            return hook

        with ExitStack() as hooks:
            hooks.callback(model.register_forward_pre_hook(reading, with_kwargs=True).remove)
            for layer, memory in enumerate(anatomy.memories):
                if memory is not None:
                    hooks.callback(memory.register_forward_pre_hook(noting(layer)).remove)
            yield

    def take(self) -> dict[str, Tensor]:
        """Return what the last pass gave: (contexts, positions) of effective share and of the largest memory."""
        found, self.found = self.found, {}
        return found


def by_layer(seen: Activations, layer: int) -> dict[str, Measured]:
    """Return the share of its memories that a layer calls for one token: {} where its coefficients were not seen."""
    if (noted := seen.watched(f"memories/{layer}/effective")) is None:
        return {}
    share, text = noted
    return {"memories": average(share.double().mean(1), text.documents_C, "share of memories")}


def promoted(values_ND: Float[Tensor, "N D"], unembed_VD: Float[Tensor, "V D"]) -> Tensor:
    """Return the tokens (N, `PROMOTED`) with the largest logits under each value vector."""
    return torch.cat([(block @ unembed_VD.T).topk(PROMOTED, dim=1).indices for block in values_ND.split(256)])


def read(model: CausalLM, anatomy: Anatomy, seen: Activations, decode: Any = None) -> list[dict[str, Any]] | None:
    """Return, a layer at a time, how often its largest memory promotes the next token, and what its memories promote.

    None where the model has no memories or no output head to read them with.

    Args:
        decode: from a list of token ids to text, for the words of the most called memories; None leaves them out.
    """
    unembed, found = unembedding(model), []
    if unembed is None or unembed.shape[-1] != anatomy.width:
        return None
    for layer, memory in enumerate(anatomy.memories):
        noted = seen.watched(f"memories/{layer}/largest")
        if memory is None or noted is None:
            continue
        largest, text = noted
        following = torch.from_numpy(text.tokens_CT1).long()[:, 1:][:, positions(text.shape[1])]
        unique, which = largest.unique(return_inverse=True)
        values_FD = values(memory, anatomy.width).detach().float()
        words = promoted(values_FD[unique.to(values_FD.device)], unembed.detach().float()).cpu()
        hit = (words[which] == following[..., None]).any(-1)
        entry: dict[str, Any] = {
            "layer": layer + 1,
            "n_memories": len(values_FD),
            "promotes_next": average(hit.double().mean(1), text.documents_C, "share of tokens"),
        }
        if decode is not None:
            often = Counter(which.flatten().tolist()).most_common(SHOWN)
            entry["most_called"] = [
                {
                    "memory": int(unique[i]),
                    "share": n / which.numel(),
                    "promotes": [decode([t]) for t in words[i].tolist()],
                }
                for i, n in often
            ]
        found.append(entry)
    return found or None

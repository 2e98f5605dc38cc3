"""The same pass over many batches, recorded once as a CUDA graph and replayed: the GPU no longer waits for Python.

A graph runs the very kernels of the eager pass, so its results are the same to the last bit; that is checked, and
whatever cannot be recorded, or comes out otherwise, is run as it is.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch
from torch import Tensor

Pass = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""From the tokens of a batch and the rows that are kept to named results, all on one device."""

FEWEST = 32
"""Batches that a recording must be good for: it costs as much as a few."""


def replayed(run: Pass, tokens: Tensor, kept: Tensor, expected: dict[str, Tensor], times: int) -> Pass:
    """Return `run` as a CUDA graph for inputs of these shapes, or `run` itself where that does not give `expected`.

    The results of a replay are overwritten by the next; `times` says how many there will be.
    """
    if not tokens.is_cuda or times < FEWEST:
        return run
    given = tokens.clone(), kept.clone()
    graph = torch.cuda.CUDAGraph()
    try:  # the pass that gave `expected` has loaded every kernel; another thread may wait for its copies meanwhile
        with _asking_nothing(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            found = run(*given)
    except Exception:  # a model may do anything: what cannot be recorded is run step by step
        torch.cuda.synchronize()
        return run

    def replay(tokens: Tensor, kept: Tensor) -> dict[str, Tensor]:
        for old, new in zip(given, (tokens, kept), strict=True):
            old.copy_(new)
        graph.replay()
        return found

    replay(tokens, kept)
    return replay if all(torch.equal(found[name], value) for name, value in expected.items()) else run


def _asking_nothing() -> AbstractContextManager[object]:
    """Keep `transformers` from reading positions back to see whether sequences are packed: contexts never are."""
    if "transformers.masking_utils" not in sys.modules:
        return nullcontext()
    return patch("transformers.masking_utils.find_packed_sequence_indices", return_value=None)

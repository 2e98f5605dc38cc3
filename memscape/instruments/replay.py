"""The same pass over many batches, recorded once as a CUDA graph and replayed: the GPU no longer waits for Python.

A graph runs the kernels of the eager pass, so its results are the same to the last bit. An activation function of half
precision is recorded as what it is, a table of 65,536 numbers: GPT-2's takes eight launches in PyTorch, a table takes
one. That every value comes out the same is checked on a whole batch; whatever cannot be recorded, or comes out
otherwise, is run as it is.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

Pass = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""From the tokens of a batch and the rows that are kept to named results, all on one device."""

FEWEST = 32
"""Batches that a recording must be good for: it costs as much as a few."""

CODES = 2**16
"""Numbers that 16 bits can stand for."""


@dataclass
class Recording:
    """A pass as a CUDA graph, with all that the graph reads and writes: it knows addresses, and keeps nothing alive."""

    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, Tensor]
    found: dict[str, Tensor]
    tables: dict[nn.Module, Tensor]

    def __call__(self, tokens: Tensor, kept: Tensor) -> dict[str, Tensor]:
        """Run the pass on other inputs; its results are overwritten by the next."""
        for old, new in zip(self.given, (tokens, kept), strict=True):
            old.copy_(new)
        self.graph.replay()
        return self.found


def replayed(
    run: Pass, model: nn.Module, tokens: Tensor, kept: Tensor, expected: dict[str, Tensor], times: int
) -> Pass:
    """Return `run`, a pass through `model`, as a `Recording` for inputs of these shapes, or itself where that fails.

    `times` says how many passes there will be.
    """
    if not tokens.is_cuda or times < FEWEST:
        return run
    try:
        recorded = record(run, model, tokens, kept)
    except Exception:  # a model may do anything: what cannot be recorded is run step by step
        torch.cuda.synchronize()
        return run
    found = recorded(tokens, kept)
    return recorded if all(torch.equal(found[name], value) for name, value in expected.items()) else run


def record(run: Pass, model: nn.Module, tokens: Tensor, kept: Tensor) -> Recording:
    """Return one pass recorded; passes before this one have loaded every kernel."""
    given, graph = (tokens.clone(), kept.clone()), torch.cuda.CUDAGraph()
    with ExitStack() as recording:
        known = tables(partial(run, *given), model, quicker) if has_kernels(tokens) else {}
        for module, table in known.items():
            recording.enter_context(patch.object(module, "forward", partial(look_up, table=table)))
        _ask_nothing(recording)
        # Another thread may wait for its copies meanwhile.
        recording.enter_context(torch.cuda.graph(graph, capture_error_mode="thread_local"))
        return Recording(graph, given, run(*given), known)


def has_kernels(values: Tensor) -> bool:
    """Return whether our GPU kernels can work on these values."""
    return values.is_cuda and find_spec("triton") is not None


def _ask_nothing(recording: ExitStack) -> None:
    """Let `transformers` choose its attention as in the eager pass, and not read positions back from the GPU.

    While a graph is recorded it makes a causal mask, for which attention takes three times as long; and it asks whether
    several sequences are packed into one, which contexts never are.
    """
    masking = sys.modules.get("transformers.masking_utils")
    for name, answer in (("is_tracing", False), ("find_packed_sequence_indices", None)):
        if hasattr(masking, name):
            recording.enter_context(patch.object(masking, name, return_value=answer))


def tables(run: Callable[[], object], model: nn.Module, worth: Callable[..., bool]) -> dict[nn.Module, Tensor]:
    """Return the table of every module that `run` shows to be a function of single half-precision numbers.

    Asked are modules without parameters or parts whose only input and output are of one shape. `worth` is
    given a module's function, the look-up in its place and an input, and says whether the table should be used.
    """
    found: dict[nn.Module, Tensor] = {}
    no: set[nn.Module] = set()

    def see(module: nn.Module, inputs: tuple, out: Any) -> None:
        if module in no or not alike(inputs, out):
            no.add(module)
            return
        x, known = inputs[0], module in found
        table = found[module] if known else _table(module, x)
        if table is None or not torch.equal(_bits(look_up(x, table)), _bits(out)):
            no.add(module)
        elif known or worth(module.forward, partial(look_up, table=table), x):
            found[module] = table
        else:
            no.add(module)

    def alike(inputs: tuple, out: Any) -> bool:
        x = inputs[0] if len(inputs) == 1 else None
        if not (isinstance(x, Tensor) and isinstance(out, Tensor)) or out is x or not x.is_contiguous():
            return False
        return x.dtype in (torch.bfloat16, torch.float16) and (out.dtype, out.shape) == (x.dtype, x.shape)

    plain = [m for m in model.modules() if not (list(m.children()) or list(m.parameters()) or list(m.buffers()))]
    with ExitStack() as hooks, torch.no_grad():
        for module in plain:
            hooks.callback(module.register_forward_hook(see).remove)
        run()
    return {module: table for module, table in found.items() if module not in no}


def _table(module: nn.Module, x: Tensor) -> Tensor | None:
    """Return what a module makes of every number of the kind of `x`, or None where it takes no such row."""
    every = torch.arange(CODES, device=x.device, dtype=torch.int32).to(torch.int16).view(x.dtype)
    try:
        table = module.forward(every)
    except Exception:  # whatever a module wants of its input, it is no function of single numbers
        return None
    return table if table.shape == every.shape else None


def look_up(x: Tensor, table: Tensor) -> Tensor:
    """Return the entry of every half-precision number of `x` in a table of all of them, by bits."""
    from memscape.models.kernels import looked_up

    return looked_up(_bits(x), _bits(table)).view(table.dtype)


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int16)


def quicker(work: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Return whether the other way takes the GPU less than three quarters of the time, both warm."""

    def milliseconds(work: Callable[[Tensor], Tensor]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work(x)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    return milliseconds(other) < 0.75 * milliseconds(work)

"""How can a search in few bits still be exact?

Level by level: products in bfloat16 where the processor has them, then float32, then float64; on a GPU the fused kernel
on 16-bit vectors as they are stored, then on split ones, then float64. Each level bounds its own error row by row,
rescores the patterns the bound cannot rule out, and hands only the rows it cannot settle to the next. The last settles
all.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from memscape.memory import epilogue
from memscape.memory.pairs import Pairs
from memscape.memory.rounding import BFLOAT16, FLOAT32, FLOAT64, Asked
from memscape.memory.tiles import compiled, eager
from memscape.memory.union import COLUMNS, Neighbours, concatenate

QUERIES = 16384
"""Queries that share one pass over the patterns."""
Step = Callable[[Pairs, Asked], tuple[Neighbours, Tensor]]


def steps(pairs: Pairs, asked: Asked) -> list[Step]:
    """Return the levels for these pairs on their device, the cheapest first; the last settles every row."""
    device = pairs.queries.device
    last = partial(eager, FLOAT64)
    if pairs.queries.dtype == torch.float64 and asked.beta is not None:
        return [last]  # whoever asks in float64 wants energies to their last digits
    if device.type == "cuda" and not asked.mean:
        from memscape.memory.fused import fused

        few = pairs.queries.dtype == pairs.patterns.dtype and pairs.queries.element_size() == 2
        return [*([fused] if few else []), partial(fused, split=True), last]
    fast = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    built = device.type == "cpu" and epilogue.library() is not None
    few = [partial(compiled if built else eager, BFLOAT16)] if fast and (built or not asked.mean) else []
    return [*few, partial(compiled if built and not asked.mean else eager, FLOAT32), last]


def cascade(pairs: Pairs, asked: Asked) -> Neighbours:
    """Search until every row is settled: neighbours certified, energies within the tolerance asked for."""
    trusted, parts = steps(pairs, asked), []
    for start in range(0, len(pairs.queries), QUERIES):
        block = pairs.rows(slice(start, start + QUERIES))
        pending, found = torch.arange(len(block.queries), device=block.queries.device), None
        for step in list(trusted):
            answer, settled = step(block.rows(pending), asked)
            answer = answer.to(torch.float64)
            if found is None:
                found = answer
            else:
                for name in COLUMNS:
                    if (column := getattr(found, name)) is not None:
                        column[pending] = getattr(answer, name)
            if step is trusted[-1] or settled.all():
                break
            if settled.float().mean() < 0.5:
                trusted.remove(step)  # the next rows are like these
            pending = pending[~settled]
        parts.append(found)
    return concatenate(parts)

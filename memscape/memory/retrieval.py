"""What does a memory give back for a cue, and how did its energy fall on the way?

`retrieve` iterates one update until the state stands still. Continuous states move by the mean shift (distance energy)
or by attention (mchn); states of +1 and -1 flip one neuron after another to the sign of lower energy (classical,
dense, rectified, exponential). No update raises its energy, whatever the patterns.

>>> patterns = torch.eye(4, dtype=torch.float64)
>>> answer = retrieve(torch.tensor([[0.9, 0.2, 0.0, 0.1]], dtype=torch.float64), patterns, beta=8.0)
>>> answer.nearest.item(), bool(answer.converged)
(0, True)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memscape.errors import ShapeError, unknown
from memscape.memory import energies
from memscape.memory.neighbours import search
from memscape.memory.shards import Shards

CONTINUOUS, BINARY = ("distance", "mchn"), ("classical", "dense", "rectified", "exponential")
TABLE = 2**26
"""Largest B x M x D whose differences are held; larger problems stream through `search`."""

SHOWN = 8
"""Cues that are printed one by one."""


@dataclass(frozen=True)
class Retrieval:
    """Where each cue ended and how."""

    state: Float[Tensor, "B D"]
    """The last states."""
    energies: Float[Tensor, "S1 B"]
    """Energy at the cue and after every step; a row that stands still keeps its value."""
    nearest: Int[Tensor, " B"]
    """The pattern nearest to the last state."""
    distance: Float[Tensor, " B"]
    """Squared distance to it."""
    steps: Int[Tensor, " B"]
    """Updates (sweeps over all neurons, if binary) until the state stood still, or all that were allowed."""
    converged: Bool[Tensor, " B"]

    @property
    def outcome(self) -> str:
        """What happened, in one sentence, with what to try if it did not go well."""
        n, still, limit = len(self.steps), int(self.converged.sum()), len(self.energies) - 1
        at = int((self.distance <= 1e-4 * (1 + self.state.square().sum(1))).sum())
        if still < n:
            return f"{still} of {n} states stood still, the others ran out of {limit} steps; raise max_steps."
        who = "The state" if n == 1 else f"All {n} states"
        where = "all at a stored pattern"
        if at < n:
            where = f"{at} of {n} at a stored pattern; fewer patterns or a higher beta would separate the others"
        return f"{who} stood still within {int(self.steps.max())} steps, {where}."

    def __str__(self) -> str:
        parts = (self.nearest, self.distance, self.energies[0], self.energies[-1], self.steps)
        told = [
            f"nearest pattern {near}, at squared distance {away:.3g}; energy fell from {cue:.4g} to {end:.4g} "
            f"in {steps} step{'s' * (steps != 1)}"
            for near, away, cue, end, steps in zip(*(part[:SHOWN].tolist() for part in parts), strict=True)
        ]
        lines = [f"cue {i}: {line}" for i, line in enumerate(told)] if len(self.steps) > 1 else told
        more = [f"and {len(self.steps) - SHOWN:,} more cues"] if len(self.steps) > SHOWN else []
        return "\n".join([*lines, *more, self.outcome])


def retrieve(
    state: Float[Tensor, "*B D"],
    patterns: Float[Tensor, "M _"] | Shards,
    *,
    energy: str = "distance",
    beta: float = 1.0,
    degree: int = 3,
    max_steps: int = 100,
    tolerance: float = 1e-6,
    damping: float = 1.0,
    generator: torch.Generator | None = None,
) -> Retrieval:
    """Return where the states go under the memory's update, after at most `max_steps`.

    `energy`: distance (x <- (1 - a) x + a sum_i p_i rho_i, a = `damping` in (0, 2]), mchn (softmax attention at
    `beta`), classical, dense (z^`degree`), rectified (max(z, 0)^`degree`), exponential. Continuous states stand still
    when a step is shorter than `tolerance` (1 + |x|), binary ones when a sweep flips nothing; the order of neurons is
    drawn from `generator`.
    The state takes the patterns' dtype where that is the wider one.
    Raises ShapeError for widths that differ, a cue or beta without a finite value, or binary energies with states other
    than +1 and -1.
    """
    x = state.reshape(-1, state.shape[-1])
    refuse_beta(beta)
    if not bool(x.isfinite().all()):
        raise ShapeError("expected a cue of finite numbers, got NaN or infinity among them; replace those first.")
    if isinstance(patterns, Tensor):
        x = x.to(torch.promote_types(x.dtype, patterns.dtype))
    if x.shape[1] != patterns.shape[1]:
        raise ShapeError(f"expected a cue of width {patterns.shape[1]}, as the patterns have, got {x.shape[1]}.")
    if energy in BINARY:
        if isinstance(patterns, Shards):
            raise ShapeError(f"expected patterns in memory for energy={energy!r}, got shards; use energy='distance'.")
        if not bool((x.abs() == 1).all()) or not bool((patterns.abs() == 1).all()):
            raise ShapeError(f"expected states and patterns of +1 and -1 for energy={energy!r}; take their sign first.")
        x, trace, steps, still = _flip(x, patterns.to(x.dtype), energy, degree, max_steps, generator)
    elif energy in CONTINUOUS:
        x, trace, steps, still = _slide(x, patterns, energy, beta, max_steps, tolerance, damping)
    else:
        raise unknown("energy", energy, CONTINUOUS + BINARY)
    found = search(x, patterns)
    return Retrieval(x, trace, found.index[:, 0], found.distance[:, 0], steps, still)


def refuse_beta(beta: float) -> None:
    """Refuse what is no inverse temperature."""
    if not 0 < beta < math.inf:
        raise ShapeError(f"expected a finite beta above 0 (an inverse temperature), got {beta}; beta_for() finds one.")


def _slide(
    x: Tensor, patterns: Tensor | Shards, energy: str, beta: float, max_steps: int, tolerance: float, damping: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Iterate a continuous update; states that stand still are left out of the work."""
    small = isinstance(patterns, Tensor) and x.shape[0] * patterns.shape[0] * patterns.shape[1] <= TABLE

    if isinstance(patterns, Tensor) and (small or energy == "mchn"):
        patterns = patterns.to(x.dtype)

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        """Return energy and next state."""
        if energy == "mchn":
            if isinstance(patterns, Shards):
                raise ShapeError("expected patterns in memory for energy='mchn', got shards; use energy='distance'.")
            return energies.mchn_energy(x, patterns, beta), (beta * x @ patterns.mT).softmax(-1) @ patterns
        if small and isinstance(patterns, Tensor):
            shares = energies.responsibilities(x, patterns, beta)
            return energies.distance_energy(x, patterns, beta), shares @ patterns
        found = search(x, patterns, beta=beta, mean=True)
        assert found.energy is not None
        assert found.mean is not None
        return found.energy.to(x.dtype), found.mean.to(x.dtype)

    x = x.clone()
    level, target = look(x)
    trace, steps = [level], torch.zeros(len(x), dtype=torch.int64, device=x.device)
    moving = torch.arange(len(x), device=x.device)
    for _ in range(max_steps):
        step = damping * (target - x[moving])
        x[moving] += step
        steps[moving] += 1
        going = step.norm(dim=1) > tolerance * (1 + x[moving].norm(dim=1))
        level = trace[-1].clone()
        fresh, target = look(x[moving])
        level[moving] = fresh
        trace.append(level)
        moving, target = moving[going], target[going]
        if len(moving) == 0:
            break
    still = torch.ones(len(x), dtype=torch.bool, device=x.device)
    still[moving] = False
    return x, torch.stack(trace), steps, still


def _flip(
    x: Tensor, patterns: Tensor, energy: str, degree: int, max_steps: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sweep over all neurons in random order, each to the sign of lower energy; a tie keeps the sign."""
    score, value = _fall(patterns, energy, degree)
    x, columns, n = x.clone(), patterns.mT.contiguous(), x.shape[1]
    overlap = x @ columns
    trace, steps = [value(x, overlap)], torch.zeros(len(x), dtype=torch.int64, device=x.device)
    still = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(max_steps):
        flipped = torch.zeros_like(still)
        for i in torch.randperm(n, generator=generator).tolist():
            without = overlap - x[:, i : i + 1] * patterns[:, i]
            gain = score(without, patterns[:, i])
            sign = torch.where(gain == 0, x[:, i], gain.sign())
            flipped |= sign != x[:, i]
            x[:, i] = sign
            overlap = without + sign[:, None] * patterns[:, i]
        steps += ~still
        still = ~flipped
        trace.append(value(x, overlap))
        if still.all():
            break
    return x, torch.stack(trace), steps, still


def _fall(patterns: Tensor, energy: str, degree: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Return (how much lower +1 lies than -1, given the overlaps without a neuron and its column), and the energy."""
    if energy == "classical":
        return (
            lambda without, column: without @ column,
            lambda x, overlap: energies.classical_energy(x, patterns),
        )
    if energy in ("dense", "rectified"):
        power = partial(energies.power, degree=degree, rectified=energy == "rectified")
        return (
            lambda without, column: (power(without + column) - power(without - column)).sum(1),
            lambda x, overlap: -power(overlap).sum(1),
        )
    return (
        lambda without, column: (without - without.amax(1, keepdim=True)).exp() @ column,  # of its sign
        lambda x, overlap: -overlap.logsumexp(1),
    )

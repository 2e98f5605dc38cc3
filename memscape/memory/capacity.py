"""How many patterns can a memory hold, and how damaged may the cue be?

Random patterns of +1 and -1 are stored, cues are damaged by flipping a share of their signs, and a cue counts as
retrieved if its last state overlaps its pattern by 0.96 or more. Theory to compare with: the classical network holds
0.138 n patterns (Amit, Gutfreund & Sompolinsky 1985), a dense one of degree r a multiple of n^(r-1) (1606.01164), the
exponential one up to 2^(n/2) (1702.01929).

`memscape recall --out DIR` runs all four experiments into DIR/recall.json and draws DIR/recall.html.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, computed_field
from scipy.stats import t as student
from torch import Tensor

from memscape.folder import claim, read_json, write_json, write_whole, writing
from memscape.memory.retrieval import retrieve
from memscape.progress import Budget, bar, say
from memscape.theory.measure import Measured, mean

RETRIEVED = 0.96
"""Least final overlap m = x.rho/n of a retrieved pattern: at 0.138 n the theory's own overlap is 0.967."""


class Curve(BaseModel):
    """Success against load for one memory, one size and one damage."""

    model_config = ConfigDict(frozen=True)

    memory: str
    """classical, dense (degree 3) or exponential."""
    n: int
    """Neurons."""
    flipped: float
    """Share of the cue's signs that were flipped."""
    load: list[float]
    """Patterns over the theory's scale: n, n^2 or 2^(n/2)."""
    n_patterns: list[int]
    success: list[Measured]
    """Share of the cues retrieved, over networks."""


class Recall(BaseModel):
    """What the recall experiments found."""

    model_config = ConfigDict(frozen=True)

    curves: list[Curve]
    half: dict[str, list[Measured]]
    """For each memory the load of 50 % success at each size."""
    capacity: dict[str, Measured]
    """classical: that load for n -> infinity (a line in 1/n); dense: the power of n in the number of patterns of 50 %
    success; exponential: the rate a of that number 2^(a n)."""
    theory: dict[str, str]
    left: int
    """Points the time budget did not reach; repeat the command to run them."""

    @computed_field
    @property
    def sentence(self) -> str:
        """The answer in one line."""
        if self.left:
            return f"{self.left} points are left; repeat the command to go on."
        words = {
            "classical": "classical up to {} n patterns (theory 0.138)",
            "dense": "dense of degree 3 up to a multiple of n^{} (theory 2)",
            "exponential": "exponential up to 2^(a n) with a = {} (theory: at most 1/2 without error)",
        }
        told = [words[m].format(f"{v.value:.3f} [{v.low:.3f}, {v.high:.3f}]") for m, v in self.capacity.items()]
        return f"Half of the cues return: {'; '.join(told) or 'no memory was run at three sizes'}."


@dataclass(frozen=True)
class Series:
    """One curve to run."""

    memory: str
    n: int
    flipped: float
    loads: tuple[float, ...]
    networks: int = 16
    cues: int = 20

    @property
    def counts(self) -> list[int]:
        return [max(2, round(load * SCALE[self.memory](self.n))) for load in self.loads]

    def point(self, n_patterns: int) -> str:
        return f"{self.memory}/{self.n}/{self.flipped}/{n_patterns}"


def experiment() -> list[Series]:
    """Return the four parts: classical without damage, dense and exponential with 10 % flips, and damage by load."""
    critical = (0.12, 0.135, 0.145, 0.15, 0.155, 0.16, 0.17)
    return [
        *(Series("exponential", n, 0.1, (0.125, 0.25, 0.5, 1.0, 2.0, 4.0), cues=50) for n in (16, 20, 24, 28)),
        *(Series("dense", n, 0.1, (0.03, 0.045, 0.06, 0.075, 0.09), cues=30) for n in (40, 60, 80, 100)),
        *(Series("classical", 500, damage, (0.02, 0.05, 0.08, 0.11, 0.14), 8) for damage in (0.1, 0.2, 0.3, 0.4)),
        *(Series("classical", n, 0.0, critical, networks=24) for n in (500, 1000, 2000)),
    ]


SCALE: dict[str, Callable[[int], float]] = {
    "classical": float,
    "dense": lambda n: float(n) ** 2,
    "exponential": lambda n: 2.0 ** (n / 2),
}
THEORY = {
    "classical": "0.138 n patterns (Amit, Gutfreund & Sompolinsky 1985)",
    "dense": "a multiple of n^2 for degree 3 (1606.01164)",
    "exponential": "exp(alpha n) with alpha < ln(2)/2, at most 2^(n/2) (1702.01929)",
}


def signs(*shape: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Return random +1 and -1, equally likely."""
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def damaged(patterns: Float[Tensor, "*B n"], flipped: float, generator: torch.Generator) -> Float[Tensor, "*B n"]:
    """Return patterns with `flipped` n signs flipped in each, at random places; a broken number is rounded by lot."""
    n_flips = (flipped * patterns.shape[-1] + torch.rand(patterns.shape[:-1], generator=generator)).floor()
    order = torch.rand(patterns.shape, generator=generator).argsort(-1)
    return torch.where(order < n_flips.unsqueeze(-1), -patterns, patterns)


def settle(
    states: Float[Tensor, "R B n"], patterns: Float[Tensor, "R M n"], generator: torch.Generator, sweeps: int = 60
) -> Float[Tensor, "R B n"]:
    """Return the fixed points of R classical networks at once: asynchronous x_i <- sign(sum_j W_ij x_j), W_ii = 0.

    It keeps overlaps instead of W, so a flip costs M rather than n.
    """
    n_patterns, n = patterns.shape[1:]
    x, columns = states.permute(2, 0, 1).contiguous(), patterns.permute(2, 0, 1).contiguous()
    overlap = states @ patterns.mT
    for _ in range(sweeps):
        moved = False
        for i in torch.randperm(n, generator=generator).tolist():
            field = torch.bmm(overlap, columns[i].unsqueeze(2)).squeeze(2).sub_(x[i], alpha=n_patterns)
            wrong = field * x[i] < 0
            if wrong.any():
                moved = True
                change = torch.where(wrong, -2 * x[i], 0.0)
                x[i] += change
                overlap.addcmul_(change.unsqueeze(2), columns[i].unsqueeze(1))
        if not moved:
            break
    return x.permute(1, 2, 0)


def success(
    memory: str, n: int, n_patterns: int, flipped: float, networks: int, cues: int, seed: int
) -> Float[np.ndarray, " R"]:
    """Return the share of `cues` that each of `networks` random networks retrieves."""
    generator = torch.Generator().manual_seed(seed)
    cues = min(cues, n_patterns)
    if memory == "classical":
        patterns = signs(networks, n_patterns, n, generator=generator)
        end = settle(damaged(patterns[:, :cues], flipped, generator), patterns, generator)
        overlap = (end * patterns[:, :cues]).mean(2)
        return (overlap >= RETRIEVED).double().mean(1).numpy()
    shares = []
    for _ in range(networks):
        patterns = signs(n_patterns, n, generator=generator)
        cue = damaged(patterns[:cues], flipped, generator)
        end = retrieve(cue, patterns, energy=memory, degree=3, max_steps=30, generator=generator).state
        shares.append(((end * patterns[:cues]).mean(1) >= RETRIEVED).double().mean().item())
    return np.array(shares)


def half_point(load: Float[np.ndarray, " K"], shares: Float[np.ndarray, "K R"]) -> float:
    """Return the load at which mean success falls through one half, by linear interpolation.

    Where it ends above one half, along the last piece; nan if success begins below, or does not fall there.
    """
    mean = shares.mean(1)
    below = np.flatnonzero(mean[1:] < 0.5)
    i = below[0] if len(below) else len(mean) - 2
    if mean[0] < 0.5 or mean[i] <= mean[i + 1]:
        return math.nan
    return float(load[i] + (load[i + 1] - load[i]) * (mean[i] - 0.5) / (mean[i] - mean[i + 1]))


def recall(
    out: str | Path, *, series: Sequence[Series] | None = None, seed: int = 0, budget: Budget | None = None
) -> Recall:
    """Run the recall experiments into `out` and return what they found; about 6 minutes on two cores.

    Each point is kept as soon as it is done, so a stopped run continues. Writes recall.json, recall.html, timing.json.
    """
    series, out, budget = list(series or experiment()), Path(out), budget or Budget()
    points = [(s, count) for s in series for count in s.counts]
    with writing(out), bar("recall", len(points), "points") as work:
        claim(out / "plan.json", {"seed": seed, "series": [vars(s) for s in series]})
        kept = out / "points.json"
        done: dict[str, list[float]] = read_json(kept) if kept.exists() else {}
        start = time.monotonic()
        for s, count in points:
            name = s.point(count)
            if name not in done and not budget.spent:
                shares = success(s.memory, s.n, count, s.flipped, s.networks, s.cues, seed + count)
                done[name] = shares.tolist()
                write_json(kept, done)
            work.advance()
        found = _gather(series, done, seed)
        write_json(out / "recall.json", found)
        write_json(out / "timing.json", {"seconds": time.monotonic() - start, "threads": torch.get_num_threads()})
        write_whole(out / "recall.html", lambda part: part.write_text(_page(found), encoding="utf-8"))
    say(found.sentence)
    return found


def _gather(series: Sequence[Series], done: dict[str, list[float]], seed: int) -> Recall:
    curves, half = [], {}
    for s in series:
        have = [(load, m) for load, m in zip(s.loads, s.counts, strict=True) if s.point(m) in done]
        table = np.array([done[s.point(m)] for _, m in have])
        measured = [mean(row, unit="share of cues", over="networks", seed=seed) for row in table]
        load, counts = np.array([m / SCALE[s.memory](s.n) for _, m in have]), [m for _, m in have]
        curves.append(
            Curve(memory=s.memory, n=s.n, flipped=s.flipped, load=load.tolist(), n_patterns=counts, success=measured)
        )
        if len(have) == len(s.loads) and table[0].mean() >= 0.5 > table.mean(1).min():
            half.setdefault((s.memory, s.flipped), {})[s.n] = _half(load, table, seed)
    known = {memory: sizes for (memory, _), sizes in half.items() if len(sizes) >= 3}
    return Recall(
        curves=curves,
        half={memory: list(sizes.values()) for memory, sizes in known.items()},
        capacity={memory: _extrapolated(memory, sizes) for memory, sizes in known.items()},
        theory=THEORY,
        left=sum(len(s.loads) for s in series) - sum(len(c.load) for c in curves),
    )


def _half(load: np.ndarray, table: np.ndarray, seed: int) -> Measured:
    """Return the load of one half with its bootstrap over networks; draws whose success does not fall are left out."""
    rng, n = np.random.default_rng(seed), table.shape[1]
    low, high = np.nanquantile([half_point(load, table[:, rng.integers(0, n, n)]) for _ in range(1000)], [0.025, 0.975])
    how = f"95 % bootstrap over {n} networks"
    return Measured(value=half_point(load, table), unit="load", n=n, low=low, high=high, interval=how)


def _extrapolated(memory: str, half: dict[int, Measured]) -> Measured:
    """Return intercept or slope of the line through the sizes; its interval holds scatter and points'."""
    n, point = np.array(list(half), dtype=float), np.array([m.value for m in half.values()])
    ends = np.array([[m.low, m.high] for m in half.values()])
    x, change, column = {
        "classical": (1 / n, lambda y: y, 1),
        "dense": (np.log(n), lambda y: np.log(y * n**2), 0),
        "exponential": (n, lambda y: np.log2(y) + n / 2, 0),
    }[memory]
    y, spread = change(point), (change(ends[:, 1]) - change(ends[:, 0])) / (2 * 1.96)
    line = np.stack([x, np.ones_like(x)], 1)
    pull = np.linalg.pinv(line)
    rest = y - line @ (pull @ y)
    freedom = len(n) - 2
    variance = pull[column] ** 2 @ (rest @ rest / freedom + spread**2)
    width = float(student.ppf(0.975, freedom) * math.sqrt(variance))
    value = float(pull[column] @ y)
    unit = {"classical": "patterns/neuron", "dense": "1", "exponential": "1/neuron"}[memory]
    how = f"95 %, scatter of {len(n)} sizes about a line ({freedom} degrees of freedom) and bootstrap over networks"
    return Measured(value=value, unit=unit, n=len(n), low=value - width, high=value + width, interval=how)


def _page(found: Recall) -> str:
    """Return one HTML file: success against load, a panel a memory that was run, and by load and damage."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    axes = {"classical": "patterns / n", "dense": "patterns / n²", "exponential": "patterns / 2^(n/2)"}
    parts: dict[str, list[Curve]] = {}
    for curve in (c for c in found.curves if c.load):
        part = "classical, damaged cues" if curve.memory == "classical" and curve.flipped else curve.memory
        parts.setdefault(part, []).append(curve)
    titles = [f"{part}: theory {THEORY[part]}" if part in THEORY else part for part in parts]
    rows, cols = max(1, math.ceil(len(parts) / 2)), min(2, len(parts)) or 1
    page = make_subplots(rows=rows, cols=cols, subplot_titles=titles)
    for place, (part, curves) in enumerate(parts.items()):
        at: dict[str, Any] = {"row": place // 2 + 1, "col": place % 2 + 1}
        if part not in axes:
            curves.sort(key=lambda c: c.flipped)
            shares, flipped = [[m.value for m in c.success] for c in curves], [c.flipped for c in curves]
            longest = max((c.load for c in curves), key=len)  # a stopped run has fewer points of the last
            page.add_trace(go.Heatmap(x=longest, y=flipped, z=shares, zmin=0, zmax=1), **at)
            page.update_xaxes(title="patterns / n", **at)
            page.update_yaxes(title="share of signs flipped", **at)
            continue
        for curve in curves:
            value, low, high = np.array([[m.value, m.low, m.high] for m in curve.success], dtype=float).T
            bars = {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low}
            page.add_scatter(x=curve.load, y=value, error_y=bars, name=f"{part}, n = {curve.n}", **at)
        page.update_xaxes(title=axes[part], type="log" if part == "exponential" else "linear", **at)
        page.update_yaxes(title="share of cues retrieved", range=[0, 1.05], **at)
        if part == "classical":
            page.add_vline(x=0.138, line_dash="dash", **at)
    page.update_layout(title=found.sentence, template="plotly_white", height=450 * rows)
    return page.to_html(include_plotlyjs=True)

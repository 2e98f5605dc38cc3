"""What an advice stands on: expected loss, epochs, floor and memory at one corpus size, as functions of model size.

`own` reads them off a grid of runs by Chinchilla's law, `published` off Muennighoff et al. (2305.16264). Sizes more
than fourfold outside the grid (and as far again as the corpus is) are not recommended.

>>> round(published(n_tokens=3e6, epochs_max=40).epochs(1e6).value, 1)
16.4
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtrit

from memscape.errors import TableError
from memscape.laws.critical import LEVEL
from memscape.laws.fitting import fit_one
from memscape.laws.intervals import Problem, resample
from memscape.laws.law import LAWS
from memscape.laws.next_runs import next_runs
from memscape.laws.results import Fit, measured
from memscape.laws.table import RunTable
from memscape.theory.measure import Measured
from memscape.theory.published import REUSE_TOKENS

PUBLISHED = "published constants"

LEAST_SHARE = 1e-3
"""A memorised share below this is none."""

NEAR = 4.0
"""Factor outside the grid within which a size may be recommended, times the factor of the corpus."""

STILL_FALLING = 0.9
"""A run whose held-out loss is lowest after this share of its training may not have been trained long enough."""


@dataclass(frozen=True)
class Ground:
    """The laws at `n_tokens` unique tokens."""

    n_tokens: float
    epochs_max: float
    words: str
    """Where the numbers come from."""
    grid: str
    n_range: tuple[float, float]
    d_range: tuple[float, float]
    theta: np.ndarray
    """Draws of the law's parameters, the best first (S, P)."""
    law: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    """θ, N (n,), tokens -> expected held-out loss at the best stop (S, n)."""
    floor: float | None = None
    flops_per_token: float = 6.0
    """Per parameter and token seen."""
    problem: Problem | None = None
    """The law at its optimum on the runs; None: published constants."""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    next_runs: list[dict[str, Any]] = field(default_factory=list)
    remarks: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Cells behind it."""
        return 0 if self.problem is None else len(self.problem.y)

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """Columns of those cells."""
        return {} if self.problem is None else self.problem.cells.inputs

    def loss(self, n: np.ndarray, times: float = 1.0) -> np.ndarray:
        """Return the held-out loss of sizes n at `times` the tokens (S, len(n)), nats/token."""
        return self.law(self.theta, n, self.n_tokens * times)

    def near(self, sizes: np.ndarray) -> np.ndarray:
        """Return the sizes that the grid can speak of."""
        if self.problem is None:
            return sizes
        (n_low, n_high), (d_low, d_high) = self.n_range, self.d_range
        low, high = min(1.0, self.n_tokens / d_low) / NEAR, max(1.0, self.n_tokens / d_high) * NEAR
        return sizes[(sizes >= n_low * low) & (sizes <= n_high * high)]

    def choose(self, sizes: np.ndarray, worth: float) -> np.ndarray:
        """Return for each draw the smallest size whose doubling gains less than `worth`; the largest if none does."""
        enough = self.loss(sizes) - self.loss(2 * sizes) < worth
        return sizes[np.where(enough.any(1), enough.argmax(1), len(sizes) - 1)]

    def loss_at(self, n: float) -> Measured:
        """Return the expected held-out loss of size n with its profile interval."""
        if self.problem is None:
            return Measured(value=float(self.loss(np.array([n]))[0, 0]), unit="nats/token", n=0, interval=PUBLISHED)
        return self.fits["chinchilla"].predict(n_params=n, n_tokens=self.n_tokens)

    def epochs(self, n: float) -> Measured:
        """Return the epochs to the lowest held-out loss at size n, at most `epochs_max`."""
        if self.problem is None:
            # past R_D* repetitions a token is worth a third of a new one: the source's mark for where repeating stops
            value = min(self.epochs_max, 1 + REUSE_TOKENS)
            return Measured(value=value, unit="epochs", n=0, interval=PUBLISHED)
        known = self.inputs.get("best_fresh_epochs", self.inputs.get("epochs"))
        if known is None:
            how = "the limit given: no epochs in the table"
            return Measured(value=self.epochs_max, unit="epochs", n=0, interval=how)
        found = [min(self.epochs_max, max(1.0, v)) for v in self._regression(np.maximum(known, 1e-3), n)]
        return measured(found, "epochs", self.n, f"95 % regression over {self.n} cells, at most {self.epochs_max:g}")

    def share(self, n: float, fresh: float) -> Measured | None:
        """Return the share of the text's bits memorised at the best stop, where that is not known at the end."""
        if self.problem is not None and {"best_train_loss", "floor"} <= set(self.inputs):
            held_out = self.problem.cells.value
            stored = (held_out - self.inputs["best_train_loss"]) / (held_out - self.inputs["floor"])
            found = self._regression(np.clip(stored, LEAST_SHARE, 1.0), n)
            how = f"95 % regression over {self.n} cells"
            return measured([min(1.0, v) for v in found], "1", self.n, how)
        law, bits = self.fits.get("capacity"), self.bits(fresh)
        if law is None or not law.params or not bits:
            return None
        held = law.predict(n_params_total=self._total(n), data_bits=bits)
        ends = [None if e is None else min(1.0, e / bits) for e in (held.value, held.low, held.high)]
        return measured(ends, "1", held.n, held.interval)

    def memorise(self, fresh: float) -> dict[str, Measured]:
        """Return the bits there are, the total size that holds them (capacity), the size that holds half (frontier)."""
        found: dict[str, Measured] = {}
        capacity, frontier, bits = self.fits.get("capacity"), self.fits.get("frontier"), self.bits(fresh)
        if capacity is not None and capacity.params and bits:
            c = capacity.params["c"]
            ends = [None if not e else bits / e for e in (c.value, c.high, c.low)]
            found["bits"] = Measured(value=bits, unit="bits", n=1)
            found["n_params"] = measured(ends, "parameters", c.n, c.interval)
        if frontier is not None and frontier.params:
            found["n_params_half"] = frontier.predict(n_tokens=self.n_tokens)
        return found

    def bits(self, fresh: float) -> float:
        """Return what there is to memorise: tokens times held-out loss over the floor, in bits."""
        return 0.0 if self.floor is None else max(0.0, self.n_tokens * (fresh - self.floor) / math.log(2))

    def _total(self, n: float) -> float:
        """Return total parameters at n without embeddings, by the grid's straight line in logs."""
        if "n_params_total" not in self.inputs or len(set(self.inputs["n_params"])) < 2:
            return n
        slope, level = np.polyfit(np.log(self.inputs["n_params"]), np.log(self.inputs["n_params_total"]), 1)
        return max(n, float(np.exp(level + slope * math.log(n))))

    def _regression(self, value: np.ndarray, n: float) -> list[float]:
        """Return a value here and the 95 % interval of its mean, by least squares of its log on ln N and ln D."""
        assert self.problem is not None
        design, y = np.column_stack([np.ones(len(value)), *self.problem.x]), np.log(value)
        inverse = np.linalg.pinv(design.T @ design)
        slope, freedom = inverse @ design.T @ y, max(1, len(value) - 3)
        variance = float(((y - design @ slope) ** 2).sum() / freedom)
        at = np.array([1.0, math.log(n), math.log(self.n_tokens)])
        half = float(stdtrit(freedom, LEVEL)) * math.sqrt(variance * float(at @ inverse @ at))
        return [math.exp(min(50.0, float(at @ slope) + side * half)) for side in (0, -1, 1)]


def published(n_tokens: float, epochs_max: float) -> Ground:
    """Return the ground of Muennighoff et al.: 10 M to 9 B parameters, 100 M unique tokens and more."""
    law = LAWS["repeated"]
    epochs = min(epochs_max, 1 + REUSE_TOKENS)

    def loss(theta, n, tokens):
        return np.exp(law.value(theta, np.log([n, np.full(len(n), tokens), np.full(len(n), tokens * epochs)]))[0])

    return Ground(
        n_tokens, epochs_max, "By published constants (Muennighoff et al.; another tokenizer, no runs of yours)",
        "the published runs", (1e7, 9e9), (1e8, 1e12), law.constants("muennighoff"), loss,
        remarks=("Runs of your own would replace all of this: `memscape sweep`, then pass its folder.",),
    )  # fmt: skip


def own(table: RunTable, n_tokens: float, epochs_max: float, known: Mapping[str, Fit]) -> Ground:
    """Return the ground of a grid of runs; one whose held-out loss no law can be fitted to is refused.

    `known` are laws fitted to the same table before.
    """
    fits = {
        name: known.get(name) or fit_one(table, name, resamples=200)
        for name in ("chinchilla", "capacity", "frontier")
        if table.carries(name)
    }
    first = fits.get("chinchilla")
    if first is None or not isinstance(first._problem, Problem):
        why = "it has no held-out loss." if first is None else first.outcome.sentence
        raise TableError(f"the table cannot carry advice: {why} Without a table, published constants serve.")
    problem = first._problem
    used, seen = problem.cells.inputs, []
    if not first.outcome.good:
        seen.append(f"The law of loss is not firm: {first.outcome.sentence}")
    if "best_fresh_epochs" in used and np.median(used["best_fresh_epochs"] / used["epochs"]) > STILL_FALLING:
        seen.append("In most runs the held-out loss still fell at the end: longer runs may ask for more epochs.")
    if "frontier" in fits:
        seen.append(f"What is memorised depends on the frontier: {fits['frontier'].verdict}")
    floor, per_token = None, 6.0
    if "seq_len" in used:
        length = float(np.median(used["seq_len"]))
        floor = max(0.0, math.log(max(1.0, n_tokens / length)) / length)
    if {"flops", "tokens_seen"} <= set(used):
        per_token = float(np.median(used["flops"] / used["tokens_seen"] / used["n_params"]))
    return Ground(
        n_tokens, epochs_max, f"From {len(table)} runs", "the grid",
        (float(used["n_params"].min()), float(used["n_params"].max())),
        (float(used["n_tokens"].min()), float(used["n_tokens"].max())),
        np.concatenate([problem.theta[None], resample(problem, 300)]),
        lambda theta, n, tokens: np.exp(problem.law.value(theta, np.log([n, np.full(len(n), tokens)]))[0]),
        floor, per_token, problem, fits, next_runs(table, fits), tuple(seen),
    )  # fmt: skip

"""What an advice stands on: expected loss, epochs, floor and memory at one corpus size, as functions of model size.

`own` reads them off a grid of runs, `published` off Muennighoff et al. (2305.16264). Held-out loss follows Chinchilla's
law, or the law `data-limited` where the grid shows how surplus parameters fade; sizes more than fourfold outside the
grid (and as far again as the corpus is) are not recommended.

>>> round(published(n_tokens=3e6, epochs_max=40).epochs(1e6).value, 1)
16.4
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from memscape.errors import TableError
from memscape.laws.fitting import fit_one
from memscape.laws.intervals import Problem, predictions, profile, resample
from memscape.laws.law import LAWS
from memscape.laws.next_runs import next_runs
from memscape.laws.results import Fit
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
    words: str
    """Where the numbers come from."""
    grid: str
    n_range: tuple[float, float]
    d_range: tuple[float, float]
    theta: np.ndarray
    """Draws of the law's parameters, the best first (S, P)."""
    law: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    """θ, N (n,), tokens -> expected held-out loss at the best stop (S, n)."""
    epochs_max: float
    n: int = 0
    """Cells behind it."""
    floor: float | None = None
    flops_per_token: float = 6.0
    """Per parameter and token seen."""
    problem: Problem | None = None
    fits: dict[str, Fit] = field(default_factory=dict)
    next_runs: list[dict[str, Any]] = field(default_factory=list)
    remarks: tuple[str, ...] = ()

    def loss(self, n: np.ndarray) -> np.ndarray:
        """Return the expected held-out loss of sizes n (S, len(n)), nats/token."""
        return self.law(self.theta, n, self.n_tokens)

    def near(self, sizes: np.ndarray) -> np.ndarray:
        """Return the sizes that the grid can speak of: `NEAR` outside it, and as far again as the corpus is."""
        if self.problem is None:
            return sizes
        (n_low, n_high), (d_low, d_high) = self.n_range, self.d_range
        low, high = min(1.0, self.n_tokens / d_low) / NEAR, max(1.0, self.n_tokens / d_high) * NEAR
        return sizes[(sizes >= n_low * low) & (sizes <= n_high * high)]

    def with_tokens(self, times: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return `loss` with `times` as many tokens."""
        return replace(self, n_tokens=self.n_tokens * times).loss

    def choose(self, sizes: np.ndarray, worth: float) -> np.ndarray:
        """Return for each draw the smallest size whose doubling gains less than `worth`; the largest if none does."""
        enough = self.loss(sizes) - self.loss(2 * sizes) < worth
        return sizes[np.where(enough.any(1), enough.argmax(1), len(sizes) - 1)]

    def loss_at(self, n: float) -> Measured:
        """Return the expected held-out loss of size n with its profile interval."""
        if self.problem is None:
            value = float(self.loss(np.array([n]))[0, 0])
            return Measured(value=value, unit="nats/token", n=0, interval=PUBLISHED)
        quantity = predictions(self.problem.law, np.log([[n], [self.n_tokens]]))
        value, low, high = (
            math.exp(end[0]) if math.isfinite(end[0]) else None for end in profile(self.problem, quantity, 1)
        )
        assert value is not None
        return Measured(
            value=value, unit="nats/token", n=self.n, low=low, high=high, interval=f"95 % profile over {self.n} cells"
        )

    def epochs(self, n: float) -> Measured:
        """Return the epochs to the lowest held-out loss at size n, at most `epochs_max`."""
        if self.problem is None:
            # past R_D* repetitions a token is worth a third of a new one: the source's mark for where repeating stops
            value = min(self.epochs_max, 1 + REUSE_TOKENS)
            return Measured(value=value, unit="epochs", n=0, interval=PUBLISHED)
        inputs = self.problem.cells.inputs
        column = "best_fresh_epochs" if "best_fresh_epochs" in inputs else "epochs"
        if column not in inputs:
            how = "the limit given: no epochs in the table"
            return Measured(value=self.epochs_max, unit="epochs", n=0, interval=how)
        found = self._plane(np.log(np.maximum(inputs[column], 1e-3)), n)
        value, low, high = (min(self.epochs_max, max(1.0, math.exp(min(v, 50.0)))) for v in found)
        how = f"95 % regression over {self.n} cells, at most {self.epochs_max:g}"
        return Measured(value=value, unit="epochs", n=self.n, low=low, high=high, interval=how)

    def share(self, n: float, end: Measured | None) -> Measured | None:
        """Return the share of the text's bits memorised at the best stop, at most that at the end of training.

        None if the runs kept no history: then `end` is all that is known.
        """
        inputs = self.problem.cells.inputs if self.problem is not None else {}
        if not {"best_train_loss", "floor"} <= set(inputs):
            return end
        assert self.problem is not None
        held_out = self.problem.cells.value
        stored = (held_out - inputs["best_train_loss"]) / (held_out - inputs["floor"])
        found = [min(1.0, math.exp(v)) for v in self._plane(np.log(np.clip(stored, LEAST_SHARE, 1.0)), n)]
        if end is not None:
            caps = (end.value, end.low, end.high)
            found = [v if cap is None else min(v, cap) for v, cap in zip(found, caps, strict=True)]
        how = f"95 % regression over {self.n} cells"
        return Measured(value=found[0], unit="1", n=self.n, low=found[1], high=found[2], interval=how)

    def share_at_end(self, n: float, fresh: float) -> Measured | None:
        """Return the share that capacity lets size n hold when it is trained until nothing more is memorised."""
        law, bits = self.fits.get("capacity"), self._bits(fresh)
        if law is None or not law.params or not bits:
            return None
        held = law.predict(n_params_total=self._total(n), data_bits=bits)
        value, low, high = (None if e is None else min(1.0, e / bits) for e in (held.value, held.low, held.high))
        assert value is not None
        return Measured(value=value, unit="1", n=held.n, low=low, high=high, interval=held.interval)

    def memorise(self, fresh: float) -> dict[str, Measured]:
        """Return the bits there are, the total size that holds them (capacity), the size that holds half (frontier)."""
        found: dict[str, Measured] = {}
        capacity, frontier, bits = self.fits.get("capacity"), self.fits.get("frontier"), self._bits(fresh)
        if capacity is not None and capacity.params and bits:
            c = capacity.params["c"]
            found["bits"] = Measured(value=bits, unit="bits", n=1, interval="none")
            found["n_params"] = Measured(
                value=bits / c.value, unit="parameters", n=c.n, low=None if not c.high else bits / c.high,
                high=None if not c.low else bits / c.low, interval=c.interval,
            )  # fmt: skip
        if frontier is not None and frontier.params:
            found["n_params_half"] = frontier.predict(n_tokens=self.n_tokens)
        return found

    def _bits(self, fresh: float) -> float:
        return 0.0 if self.floor is None else max(0.0, self.n_tokens * (fresh - self.floor) / math.log(2))

    def _total(self, n: float) -> float:
        """Return total parameters at n without embeddings, by the grid's straight line in logs."""
        inputs = self.problem.cells.inputs if self.problem is not None else {}
        if "n_params_total" not in inputs or len(set(inputs["n_params"])) < 2:
            return n
        slope, level = np.polyfit(np.log(inputs["n_params"]), np.log(inputs["n_params_total"]), 1)
        return max(n, float(np.exp(level + slope * math.log(n))))

    def _plane(self, value: np.ndarray, n: float) -> tuple[float, float, float]:
        """Return the least-squares plane of `value` over (ln N, ln D) here, with the 95 % interval of its mean."""
        assert self.problem is not None
        design = np.column_stack([np.ones(len(value)), self.problem.x[0], self.problem.x[1]])
        inverse = np.linalg.pinv(design.T @ design)
        slope = inverse @ design.T @ value
        freedom = max(1, len(value) - 3)
        variance = float(((value - design @ slope) ** 2).sum() / freedom)
        at = np.array([1.0, math.log(n), math.log(self.n_tokens)])
        half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance * float(at @ inverse @ at))
        middle = float(at @ slope)
        return middle, middle - half, middle + half


def published(n_tokens: float, epochs_max: float) -> Ground:
    """Return the ground of Muennighoff et al.: 10 M to 9 B parameters, 100 M unique tokens and more."""
    law = LAWS["repeated"]
    epochs = min(epochs_max, 1 + REUSE_TOKENS)

    def loss(theta, n, tokens):
        x = np.log(np.stack([n, np.full(len(n), tokens), np.full(len(n), tokens * epochs)]))
        return np.exp(law.value(theta, x)[0])

    return Ground(
        n_tokens=n_tokens, words="By published constants (Muennighoff et al.; another tokenizer, no runs of yours)",
        grid="the published runs", n_range=(1e7, 9e9), d_range=(1e8, 1e12), theta=law.constants("muennighoff"),
        law=loss, epochs_max=epochs_max,
        remarks=("Runs of your own would replace all of this: `memscape sweep`, then pass its folder.",),
    )  # fmt: skip


def own(table: RunTable, n_tokens: float, epochs_max: float, known: Mapping[str, Fit]) -> Ground:
    """Return the ground of a grid of runs; one whose held-out loss no law can be fitted to is refused.

    `known` are laws fitted to the same table before.
    """
    fits = {
        name: known.get(name) or fit_one(table, name, resamples=200)
        for name in ("chinchilla", "data-limited", "capacity", "frontier")
        if table.carries(name)
    }
    first = fits.get("chinchilla")
    if first is None or not isinstance(first._problem, Problem):
        why = "it has no held-out loss." if first is None else first.outcome.sentence
        raise TableError(f"the table cannot carry advice: {why} Without a table, published constants serve.")
    fading = fits["data-limited"]
    shown = fading.outcome.name == "converged"
    problem: Problem = fading._problem if shown else first._problem
    used, seen = problem.cells.inputs, []
    if "best_fresh_epochs" in used and np.median(used["best_fresh_epochs"] / used["epochs"]) > STILL_FALLING:
        seen.append("In most runs the held-out loss still fell at the end: longer runs may ask for more epochs.")
    if "frontier" in fits and fits["frontier"].verdict:
        seen.append(f"What is memorised depends on the frontier: {fits['frontier'].verdict}")
    length = float(np.median(used["seq_len"])) if "seq_len" in used else None
    per_token = 6.0
    if {"flops", "tokens_seen"} <= set(used):
        per_token = float(np.median(used["flops"] / used["tokens_seen"] / used["n_params"]))
    return Ground(
        n_tokens=n_tokens, words=f"From {len(table)} runs", grid="the grid",
        n_range=(float(used["n_params"].min()), float(used["n_params"].max())),
        d_range=(float(used["n_tokens"].min()), float(used["n_tokens"].max())),
        theta=np.concatenate([problem.theta[None], resample(problem, 300)]),
        law=lambda theta, n, tokens: np.exp(problem.law.value(theta, np.log([n, np.full(len(n), tokens)]))[0]),
        epochs_max=epochs_max, n=len(problem.y),
        floor=None if length is None else max(0.0, math.log(max(1.0, n_tokens / length)) / length),
        flops_per_token=per_token, problem=problem, fits=fits, next_runs=next_runs(table, fits), remarks=tuple(seen),
    )  # fmt: skip

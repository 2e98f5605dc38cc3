"""Any table of training runs, read into columns with one meaning and one unit, and checked before a law may see it.

A row is a run: a size, a number of unique training tokens, losses in nats/token. Columns are found under the names this
project writes, under common other names, or under the names the caller maps (`reading.py`). What is unusable is dropped
with its reason; what looks like wrong units is refused in a sentence (`checking.py`).

>>> RunTable.read([{"N": 1e5, "tokens": 1e4, "loss": 3.2}]).column("fresh_loss")
array([3.2])
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from memscape.errors import TableError
from memscape.laws import checking, reading
from memscape.laws.law import LAWS

FRONTIERS = {
    "frontier": ("memorised_share",),
    "frontier:gap": ("train_loss", "heldout_loss"),
    "frontier:floor": ("train_loss", "floor"),
}
"""Laws of size, one a criterion, and the columns each needs; the other laws are `LAWS`."""

CONVENTIONS = {
    "n_params": "attention and feed-forward parameters, no embeddings",
    "n_tokens": "unique training tokens",
    "losses": "nats/token",
    "cell": "mean over seeds at the best learning rate of each (size, data)",
}
"""How the numbers of a table are counted."""


@dataclass(frozen=True)
class Cells:
    """Means over seeds at the best learning rate of each (size, data, epochs) cell; n cells, by size, then data."""

    inputs: dict[str, np.ndarray]
    """n_params, n_params_total, n_tokens, tokens_seen, ... (n,)."""
    seeds: list[np.ndarray]
    """The target seed by seed."""
    seed_names: list[np.ndarray]
    runs: list[list[str]]

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def value(self) -> np.ndarray:
        """Mean over seeds of the target (n,)."""
        return np.array([values.mean() for values in self.seeds])

    @property
    def log(self) -> np.ndarray:
        """Mean over seeds of the log of the target (n,), which laws are fitted to."""
        return np.array([np.log(values).mean() for values in self.seeds])

    def logs(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the log inputs of a law (K, n)."""
        return np.log(np.stack([self.inputs[name] for name in names]))

    def take(self, keep: np.ndarray) -> "Cells":
        """Return the cells where `keep` is true."""
        at = np.flatnonzero(keep)
        return Cells(
            {k: v[at] for k, v in self.inputs.items()},
            [self.seeds[i] for i in at],
            [self.seed_names[i] for i in at],
            [self.runs[i] for i in at],
        )


@dataclass(frozen=True)
class RunTable:
    """Checked columns of equal length; `dropped` says which rows are missing and why."""

    columns: dict[str, np.ndarray]
    source: str = "rows"
    dropped: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        source: Any,
        columns: Mapping[str, str] | None = None,
        units: str = "nats",
        where: Mapping[str, Any] | None = None,
    ) -> "RunTable":
        """Read a folder of runs, a CSV, Parquet, JSON or JSONL file, a DataFrame, or rows; check them.

        `columns` maps our names to the table's; `units` is `nats` or `bits` (per token, times ln 2 where read); `where`
        keeps the rows with the given values, for example {"family": "gpt2"}.
        """
        if isinstance(source, RunTable):
            return source
        if units not in ("nats", "bits"):
            raise TableError(f"expected units 'nats' or 'bits' (per token), got {units!r}; convert the losses first.")
        rows, name = reading.rows(source)
        if not len(rows):
            raise TableError(f"expected a table of runs in {name}, found no rows; run `memscape sweep` first.")
        found = reading.columns(rows, columns)
        inferred = reading.settle_tokens(found)
        for key, value in (where or {}).items():
            if key not in found:
                raise TableError(f"where={key!r} names no column; the table has {', '.join(sorted(found))}.")
            keep = found[key] == value
            found = {k: v[keep] for k, v in found.items()}
            if not keep.any():
                raise TableError(f"no row has {key} = {value!r}; leave out `where` or choose a value that occurs.")
        if units == "bits":
            losses = (k for k in found if k.endswith("_loss") or k == "floor")
            found |= {k: found[k] * math.log(2) for k in losses}
        table, dropped, notes = checking.check(found, name)
        return cls(table, name, tuple(dropped), (*inferred, *notes))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def column(self, name: str) -> np.ndarray:
        """Return one column, or the error that says which columns there are."""
        if name not in self.columns:
            have = ", ".join(sorted(self.columns))
            raise TableError(f"the law needs {name!r}; {self.source} has {have}; {reading.how_to_map(name)}.")
        return self.columns[name]

    def carries(self, law: str) -> bool:
        """Return whether the table has the columns that a law needs; the repeated-data law also needs repetition."""
        if law in FRONTIERS:
            return set(FRONTIERS[law]) <= set(self.columns)
        needs = {LAWS[law].target, *LAWS[law].inputs} - {"n_params_total"}
        if not needs <= set(self.columns):
            return False
        return "tokens_seen" not in needs or bool(np.ptp(self.columns["tokens_seen"] / self.columns["n_tokens"]) > 0)

    def cells(self, target: str, best: str | None = None, largest: bool = False) -> Cells:
        """Return the cells of `target`, each at the learning rate where `best` is lowest (or largest) over the seeds.

        With two seeds or more each seed is read at the rate that was best for the *others*, so that the choice does not
        flatter the noise. Runs of one (size, data, rate, seed) that differ only in epochs are different cells.
        """
        value, judge = self.column(target), self.column(best or target)
        rates = self.columns.get("learning_rate", np.zeros(len(self)))
        seed = self.columns.get("seed", np.arange(len(self), dtype=float))
        groups: dict[tuple, list[int]] = {}
        for i, key in enumerate(zip(self.columns["n_params"], self.columns["n_tokens"], self._rerun(), strict=True)):
            if np.isfinite(value[i]) and np.isfinite(judge[i]):
                groups.setdefault(key, []).append(i)
        sign = -1.0 if largest else 1.0
        chosen = [_at_best_rate(np.array(groups[key]), rates, seed, sign * judge) for key in sorted(groups)]
        numbers = {k: v for k, v in self.columns.items() if k not in reading.TEXT}
        return Cells(
            {k: np.array([v[rows].mean() for rows in chosen]) for k, v in numbers.items()},
            [value[rows] for rows in chosen],
            [seed[rows] for rows in chosen],
            [list(self.columns["run_id"][rows]) for rows in chosen],
        )

    def describe(self) -> dict[str, Any]:
        """Return what was read, for `fit.json`."""
        return {
            "source": self.source,
            "rows": len(self),
            "sizes": np.unique(self.columns["n_params"]).tolist(),
            "data_sizes": np.unique(self.columns["n_tokens"]).tolist(),
            "learning_rates": len(np.unique(self.columns.get("learning_rate", 0))),
            "seeds": len(np.unique(self.columns.get("seed", 0))),
            "dropped": list(self.dropped),
            "dropped_reasons": dict(Counter(d["reason"] for d in self.dropped)),
            "conventions": CONVENTIONS,
            "notes": list(self.notes),
        }

    def _rerun(self) -> np.ndarray:
        """Return for each row how many rows of the same (size, data, rate, seed) had fewer epochs."""
        if not {"epochs", "seed"} <= set(self.columns):
            return np.zeros(len(self), int)
        same = [c for c in ("n_params", "n_tokens", "learning_rate", "seed") if c in self]
        frame = pd.DataFrame({c: self.columns[c] for c in (*same, "epochs")})
        return frame.sort_values("epochs", kind="stable").groupby(same).cumcount().sort_index().to_numpy()


def _at_best_rate(rows: np.ndarray, rates: np.ndarray, seed: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """Return the rows of one cell at its best rate (lowest `judge`), chosen for each seed by the other seeds."""
    kinds, seeds = np.unique(rates[rows]), np.unique(seed[rows])
    table, place = np.full((len(kinds), len(seeds)), np.nan), np.full((len(kinds), len(seeds)), -1)
    at = np.searchsorted(kinds, rates[rows]), np.searchsorted(seeds, seed[rows])
    table[at], place[at] = judge[rows], rows
    if len(kinds) == 1 or len(seeds) == 1 or np.isnan(table).any():
        best = min(kinds, key=lambda rate: judge[rows[rates[rows] == rate]].mean())
        return rows[rates[rows] == best]
    others = (table.sum(1, keepdims=True) - table) / (len(seeds) - 1)
    return place[others.argmin(0), np.arange(len(seeds))]

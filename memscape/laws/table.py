"""Any table of training runs, read into columns with one meaning and one unit, and checked before a law may see it.

A row is a run: a size, a number of unique training tokens, losses in nats/token. Columns are found under the names this
project writes, under common other names, or under the names the caller maps. What is unusable is dropped with its
reason; what looks like wrong units is refused in a sentence.

>>> RunTable.read([{"N": 1e5, "tokens": 1e4, "loss": 3.2}]).column("fresh_loss")
array([3.2])
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from memscape.errors import TableError
from memscape.folder import read_json
from memscape.laws.law import LAWS

ALIASES: dict[str, tuple[str, ...]] = {
    "run_id": ("run", "id", "name"),
    "n_params": ("n", "params", "parameters", "model_size", "n_parameters", "non_embedding_params"),
    "n_params_total": ("total_params", "params_total"),
    "n_tokens": ("d", "tokens", "data_size", "train_tokens", "unique_tokens"),
    "tokens_seen": ("tokens_trained", "total_tokens"),
    "train_loss": ("training_loss",),
    "fresh_loss": (
        "loss",
        "final_loss",
        "val_loss",
        "validation_loss",
        "valid_loss",
        "eval_loss",
        "test_loss",
        "loss_nats_per_token",
    ),
    "learning_rate": ("lr",),
    "training_flop": ("flop", "flops", "c", "compute"),
}
"""Our column -> other names it is known by (case and spaces do not matter)."""

TEXT = ("run_id", "status", "tokenizer", "corpus", "family")
"""Columns that hold words."""

ONE_ONLY = ("tokenizer", "vocab_size", "corpus")
"""Columns that must hold one value: nats/token under two tokenizers or corpora are no common unit."""

LOSSES = ("train_loss", "fresh_loss", "other_loss")

BEST = ("best_fresh_loss", "best_train_loss")
"""Lowest held-out loss along training, and the training loss then."""


FRONTIERS = {
    "frontier": ("memorised_share",),
    "frontier:gap": ("train_loss", "heldout_loss"),
    "frontier:floor": ("train_loss", "floor"),
}
"""Laws of size, one a criterion, and the columns each needs; the other laws are `LAWS`."""


@dataclass(frozen=True)
class Cells:
    """Means over seeds at the best learning rate of each (size, data, epochs) cell; n rows, ordered by size, then data."""

    inputs: dict[str, np.ndarray]
    """n_params, n_params_total, n_tokens, tokens_seen, ... (n,)."""
    value: np.ndarray
    """Mean over seeds of the target (n,)."""
    seeds: list[np.ndarray]
    """The target seed by seed."""
    seed_names: list[np.ndarray]
    runs: list[list[str]]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, keep: np.ndarray) -> "Cells":
        """Return the cells where `keep` is true."""
        at = np.flatnonzero(keep)
        return Cells(
            {k: v[at] for k, v in self.inputs.items()},
            self.value[at],
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
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def read(
        cls,
        source: Any,
        columns: Mapping[str, str] | None = None,
        units: str = "nats",
        where: Mapping[str, Any] | None = None,
    ) -> "RunTable":
        """Read a folder of runs, a CSV, Parquet, JSON or JSONL file, a DataFrame, or rows; check them.

        `columns` maps our names to the table's; `units` is `nats` or `bits` (per token, divided by ln 2 where read);
        `where` keeps the rows with the given values, for example {"family": "gpt2"}.
        """
        if isinstance(source, RunTable):
            return source
        if units not in ("nats", "bits"):
            raise TableError(f"expected units 'nats' or 'bits' (per token), got {units!r}; convert the losses first.")
        rows, name = _rows(source)
        if not rows:
            raise TableError(f"expected a table of runs in {name}, found no rows; run `memscape sweep` first.")
        found = _named(rows, columns or {})
        for key, value in (where or {}).items():
            if key not in found:
                raise TableError(f"where={key!r} names no column; the table has {', '.join(sorted(found))}.")
            keep = np.array([v == value for v in found[key]])
            found = {k: v[keep] for k, v in found.items()}
            if not keep.any():
                raise TableError(f"no row has {key} = {value!r}; leave out `where` or choose a value that occurs.")
        if units == "bits":
            for loss in (*LOSSES, *BEST, "floor", "uniform_loss"):
                if loss in found:
                    found[loss] = found[loss] * math.log(2)
        return _checked(found, name)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def column(self, name: str) -> np.ndarray:
        """Return one column, or the error that says which columns there are."""
        if name not in self.columns:
            have = ", ".join(sorted(self.columns))
            raise TableError(
                f"the law needs a column {name!r}; {self.source} has {have}. Map it: columns={{{name!r}: 'yours'}}."
            )
        return self.columns[name]

    def carries(self, law: str) -> bool:
        """Return whether the table has the columns that a law needs; the repeated-data law also needs repetition."""
        have = set(self.columns)
        if law in FRONTIERS:
            return set(FRONTIERS[law]) <= have or (law == "frontier:gap" and "gap_mse" in have)
        needs = {LAWS[law].target, *LAWS[law].inputs} - {"n_params_total"}
        if not needs <= have:
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
        for i, key in enumerate(
            zip(self.columns["n_params"], self.columns["n_tokens"], self._epoch_rank(), strict=True)
        ):
            if np.isfinite(value[i]) and np.isfinite(judge[i]):
                groups.setdefault(key, []).append(i)
        sign = -1.0 if largest else 1.0
        chosen = [_at_best_rate(np.array(groups[key]), rates, seed, sign * judge) for key in sorted(groups)]
        ids = self.columns["run_id"]
        return Cells(
            {c: np.array([v[rows].mean() for rows in chosen]) for c, v in self.columns.items() if c not in TEXT},
            np.array([value[rows].mean() for rows in chosen]),
            [value[rows] for rows in chosen],
            [seed[rows] for rows in chosen],
            [[str(ids[i]) for i in rows] for rows in chosen],
        )

    def describe(self) -> dict[str, Any]:
        """Return what was read, for `fit.json`."""
        reasons = Counter(d["reason"] for d in self.dropped)
        return {
            "source": self.source,
            "rows": len(self),
            "sizes": sorted({float(n) for n in self.columns["n_params"]}),
            "data_sizes": sorted({float(d) for d in self.columns["n_tokens"]}),
            "learning_rates": len(set(self.columns.get("learning_rate", np.zeros(1)).tolist())),
            "seeds": len(set(self.columns.get("seed", np.zeros(1)).tolist())),
            "dropped": list(self.dropped),
            "dropped_reasons": dict(reasons),
            "conventions": {
                "n_params": "attention and feed-forward parameters, no embeddings",
                "n_tokens": "unique training tokens",
                "losses": "nats/token",
                "cell": "mean over seeds at the best learning rate of each (size, data)",
            },
            "notes": list(self.notes),
        }

    def _epoch_rank(self) -> np.ndarray:
        rank = np.zeros(len(self), int)
        if "epochs" not in self or "seed" not in self:
            return rank
        seen: dict[tuple, list[int]] = {}
        for i in range(len(self)):
            rate = self.columns["learning_rate"][i] if "learning_rate" in self else 0.0
            key = (self.columns["n_params"][i], self.columns["n_tokens"][i], rate, self.columns["seed"][i])
            seen.setdefault(key, []).append(i)
        for rows in seen.values():
            for r, i in enumerate(sorted(rows, key=lambda i: self.columns["epochs"][i])):
                rank[i] = r
        return rank


def _at_best_rate(rows: np.ndarray, rates: np.ndarray, seed: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """Return the rows of one cell at its best rate (lowest `judge`), chosen for each seed by the other seeds."""
    kinds, seeds = sorted(set(rates[rows])), sorted(set(seed[rows]))
    table = np.full((len(kinds), len(seeds)), np.nan)
    place = np.full(table.shape, -1)
    for i in rows:
        at = kinds.index(rates[i]), seeds.index(seed[i])
        table[at], place[at] = judge[i], i
    if len(kinds) == 1 or len(seeds) == 1 or np.isnan(table).any():
        best = min(kinds, key=lambda rate: judge[rows[rates[rows] == rate]].mean())
        return rows[rates[rows] == best]
    others = (table.sum(1, keepdims=True) - table) / (len(seeds) - 1)
    return place[others.argmin(0), np.arange(len(seeds))]


def _rows(source: Any) -> tuple[list[Mapping[str, Any]], str]:
    """Return rows and the name they are spoken of by."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            files = sorted(path.glob("runs/*/result.json"))
            if not files:
                raise TableError(
                    f"expected finished runs at {path}/runs/*/result.json, found none; run `memscape sweep` first."
                )
            return [_with_best(read_json(file), file.parent / "metrics.parquet") for file in files], str(path)
        if not path.is_file():
            raise TableError(f"expected a folder of runs or a table at {path}, found nothing; check the path.")
        return _file_rows(path), str(path)
    if hasattr(source, "to_pydict"):
        return _transposed(source.to_pydict()), "the table"
    if hasattr(source, "to_dict"):
        try:
            return source.to_dict(orient="records"), "the table"
        except TypeError:
            return _transposed(source.to_dict(as_series=False)), "the table"
    if isinstance(source, Mapping):
        return _transposed(source), "the table"
    if isinstance(source, Iterable):
        return [row.model_dump() if hasattr(row, "model_dump") else row for row in source], "the rows"
    raise TableError(
        f"expected a folder, file, DataFrame or rows, got {type(source).__name__}; pass the path of a table."
    )


def _with_best(row: dict[str, Any], metrics: Path) -> dict[str, Any]:
    """Add the training loss at the evaluation with the lowest held-out loss, where the history was kept."""
    if "best_fresh_loss" not in row or not metrics.exists():
        return row
    import pyarrow.parquet

    history = pyarrow.parquet.read_table(metrics, columns=["train_loss", "fresh_loss"])
    train, fresh = (np.array(history[name].to_pylist(), dtype=float) for name in ("train_loss", "fresh_loss"))
    if not np.isfinite(fresh).any():
        return row
    return {**row, "best_train_loss": float(train[np.nanargmin(fresh)])}


def _file_rows(path: Path) -> list[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if suffix in (".parquet", ".pq"):
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pylist()
    if suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if suffix == ".json":
        content = read_json(path)
        rows = content.get("rows", content.get("runs", content)) if isinstance(content, dict) else content
        return rows if isinstance(rows, list) else _transposed(rows)
    raise TableError(f"expected a .csv, .parquet, .json or .jsonl table, got {path.name}; convert it to one of these.")


def _transposed(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    lists = {k: list(v) for k, v in columns.items()}
    if len({len(v) for v in lists.values()}) > 1:
        raise TableError(
            "expected columns of one length, got " + ", ".join(f"{k}: {len(v)}" for k, v in lists.items()) + "."
        )
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _named(rows: list[Mapping[str, Any]], mapped: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return columns under our names; a number that cannot be read is NaN."""
    have = list(dict.fromkeys(key for row in rows for key in row))
    for ours, theirs in mapped.items():
        if theirs not in have:
            raise TableError(
                f"columns maps {ours!r} to {theirs!r}, which is no column; the table has {', '.join(have)}."
            )
    plain = {key.strip().lower().replace(" ", "_").replace("-", "_"): key for key in have}
    place = {key: raw for key, raw in plain.items() if raw not in mapped.values()} | dict(mapped)
    for ours, others in ALIASES.items():
        if ours not in place:
            raw = next((plain[o] for o in others if o in plain and plain[o] not in mapped.values()), None)
            if raw is not None:
                place[ours] = raw
    found: dict[str, np.ndarray] = {}
    for name, raw in place.items():
        values = [row.get(raw) for row in rows]
        if name in TEXT:
            found[name] = np.array(["" if v is None else str(v) for v in values], dtype=object)
        else:
            numbers = np.array([_number(v) for v in values])
            if np.isfinite(numbers).any():
                found[name] = numbers
    if "n_params" in found and "n_tokens" not in found and "training_flop" in found:
        found["n_tokens"] = found["training_flop"] / (6.0 * found["n_params"])
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _checked(found: dict[str, np.ndarray], name: str) -> RunTable:
    """Drop what cannot be used, refuse what is in doubt, and return the table."""
    for column in ("n_params", "n_tokens"):
        if column not in found:
            have = ", ".join(sorted(found))
            raise TableError(
                f"expected a column {column!r} in {name}, got {have}; map it: columns={{{column!r}: 'yours'}}."
            )
    losses = [loss for loss in LOSSES if loss in found]
    if not losses and "memorised_bits" not in found and "gap_mse" not in found:
        raise TableError(
            f"expected a loss column in {name} (train_loss, fresh_loss), got {', '.join(sorted(found))}; map one."
        )
    n = len(found["n_params"])
    found.setdefault("run_id", np.array([f"row {i + 1}" for i in range(n)], dtype=object))
    reason = np.full(n, "", dtype=object)

    def drop(where: np.ndarray, why: str) -> None:
        reason[where & (reason == "")] = why

    if "status" in found:
        drop(found["status"] == "diverged", "the run diverged")
    for column in ("n_params", "n_tokens", *losses):
        drop(~np.isfinite(found[column]), f"{column} is not a number")
        drop(found[column] <= 0, f"{column} is not positive")
    drop(_repeats(found), "a duplicate of an earlier row")
    if "train_loss" in found and "floor" in found:
        slack = 3.0 * found.get("train_loss_sem", np.zeros(n)) + 1e-3
        under = found["train_loss"] < found["floor"] - np.nan_to_num(slack, nan=1e-3)
        if under.mean() > 0.2:
            worst = float(np.max(found["floor"] - found["train_loss"]))
            raise TableError(
                f"{int(under.sum())} of {n} training losses lie under their floor, by up to {worst:.3g} nats/token, which is "
                f"impossible; check that both are in nats/token of the same tokens."
            )
        drop(under, "the training loss lies under its floor")
    keep = reason == ""
    dropped = tuple({"run_id": str(found["run_id"][i]), "reason": str(reason[i])} for i in np.flatnonzero(~keep))
    if keep.sum() == 0:
        why = Counter(d["reason"] for d in dropped).most_common(1)[0][0]
        raise TableError(f"none of the {n} rows of {name} can be used: {why}; repair the table and repeat.")
    table = {k: v[keep] for k, v in found.items()}
    for column in ONE_ONLY:
        kinds = sorted({str(v) for v in table.get(column, np.zeros(1))})
        if len(kinds) > 1:
            some = ", ".join(kinds[:4])
            raise TableError(
                f"the table mixes {len(kinds)} values of {column} ({some}); fit them apart: where={{{column!r}: ...}}."
            )
    _refuse_wrong_units(table)
    notes = _derive(table)
    if len({str(v) for v in table.get("family", np.zeros(1))}) > 1:
        notes.append("the table mixes model families; fit them apart with where={'family': ...} to compare them")
    return RunTable(table, name, dropped, tuple(notes))


def _repeats(found: dict[str, np.ndarray]) -> np.ndarray:
    """Mark rows whose numbers all equal those of an earlier row; a run_id with two different losses is refused."""
    numbers = sorted(k for k in found if k not in TEXT)
    again = np.zeros(len(found["n_params"]), bool)
    seen: dict[tuple, str] = {}
    by_id: dict[str, tuple] = {}
    for i in range(len(again)):
        key = tuple(repr(float(found[k][i])) for k in numbers)
        again[i] = key in seen
        seen[key] = str(found["run_id"][i])
        name = str(found["run_id"][i])
        if name in by_id and by_id[name] != key:
            raise TableError(
                f"two rows are called {name!r} and disagree; keep the right one, or give each run its own run_id."
            )
        by_id[name] = key
    return again


def _derive(table: dict[str, np.ndarray]) -> list[str]:
    """Add `heldout_loss`, and count memorised bits against it; return what to say about it.

    An overfitted model pays more for unseen text than it must, and would be credited with the difference as memory.
    Where the history of a run is known, the lowest held-out loss along it is the reference instead of the last.
    """
    if "best_fresh_loss" not in table:
        if "fresh_loss" in table:
            table["heldout_loss"] = table["fresh_loss"]
        return []
    best = np.where(np.isfinite(table["best_fresh_loss"]), table["best_fresh_loss"], table["fresh_loss"])
    table["heldout_loss"] = best
    text = not str(table.get("corpus", np.array([""], dtype=object))[0]).startswith("random:")
    if text and {"train_loss", "floor", "memorised_bits"} <= set(table):
        per_bit = table["n_tokens"] / math.log(2)
        table["memorised_bits"] = np.maximum(0.0, best - table["train_loss"]) * per_bit
        table["data_bits"] = np.maximum(0.0, best - table["floor"]) * per_bit
        with np.errstate(invalid="ignore", divide="ignore"):
            table["memorised_share"] = table["memorised_bits"] / table["data_bits"]
    return ["held-out loss is the lowest along each run, and memorised bits are counted against it"]


def _refuse_wrong_units(table: dict[str, np.ndarray]) -> None:
    """Refuse losses that are probably bits, perplexities or sums.

    The last held-out loss of an overfitted run may exceed ln V honestly; the lowest, and the training loss, may not.
    """
    uniform = table.get("uniform_loss")
    if uniform is None and "vocab_size" in table:
        uniform = np.log(table["vocab_size"])
    judged = [loss for loss in ("train_loss", "best_fresh_loss") if loss in table] or ["fresh_loss"]
    for loss in judged:
        if loss not in table:
            continue
        typical = float(np.median(table[loss]))
        if typical > 14:
            raise TableError(
                f"{loss} is {typical:.3g} at the median: no loss per token in nats; take ln of perplexities first."
            )
        if uniform is None:
            continue
        over = table[loss] / uniform
        if np.median(over) > 1.1 or np.mean(over > 1.1) > 0.3:
            raise TableError(
                f"{loss} is {typical:.3g} at the median where guessing costs ln V = {float(np.median(uniform)):.3g} "
                f"nats/token: bits suspected; pass units='bits'."
            )

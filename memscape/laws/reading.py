"""Rows from anything, columns under our names: a result folder, CSV, Parquet, JSON or JSONL, a DataFrame, a list.

>>> columns([{"N": 1e5, "tokens": 1e4, "loss": 3.2}], {})["fresh_loss"]
array([3.2])
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memscape.errors import TableError
from memscape.folder import read_json

Row = Mapping[str, Any]

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
        "test_loss",
        "loss_nats_per_token",
    ),
    "learning_rate": ("lr",),
    "training_flop": ("flop", "flops", "c", "compute"),
}
"""Our column -> other names it is known by (case, spaces and hyphens do not matter)."""

TEXT = ("run_id", "status", "tokenizer", "corpus", "family")
"""Columns that hold words."""


def rows(source: Any) -> tuple[list[Row], str]:
    """Return rows and the name they are spoken of by."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            files = sorted(path.glob("runs/*/result.json"))
            if not files:
                raise TableError(
                    f"expected finished runs at {path}/runs/*/result.json, found none; run `memscape sweep` first."
                )
            return [_with_best(read_json(file), file.parent / "metrics.parquet") for file in files], path.resolve().name
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
    """Add what only the history tells: the training loss at the lowest held-out loss, its fall in the last quarter."""
    if not metrics.exists():
        return row
    import pyarrow.parquet

    history = pyarrow.parquet.read_table(metrics, columns=["step", "train_loss", "fresh_loss"]).to_pydict()
    step, train, fresh = (np.array(history[name], dtype=float) for name in ("step", "train_loss", "fresh_loss"))
    told = {**row, "late_fall": float(train[np.searchsorted(step, 0.75 * step[-1])] - train[-1])}
    if np.isfinite(fresh).any():
        told["best_train_loss"] = float(train[np.nanargmin(fresh)])
    return told


def _file_rows(path: Path) -> list[Row]:
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


def _transposed(columns: Mapping[str, Any]) -> list[Row]:
    lists = {k: list(v) for k, v in columns.items()}
    if len({len(v) for v in lists.values()}) > 1:
        raise TableError(
            "expected columns of one length, got " + ", ".join(f"{k}: {len(v)}" for k, v in lists.items()) + "."
        )
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def columns(rows: list[Row], mapped: Mapping[str, str]) -> dict[str, np.ndarray]:
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

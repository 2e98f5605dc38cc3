"""Rows from anything, columns under our names: a result folder, CSV, Parquet, JSON or JSONL, a DataFrame, a list.

>>> columns([{"N": 1e5, "tokens": 1e4, "loss": 3.2}])["fresh_loss"]
array([3.2])
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memscape.errors import TableError
from memscape.folder import read_json

ALIASES: dict[str, str] = {
    "run_id": "run id name",
    "n_params": "n params parameters model_size n_parameters non_embedding_params",
    "n_params_total": "total_params params_total",
    "n_tokens": "d tokens data_size train_tokens unique_tokens",
    "tokens_seen": "tokens_trained total_tokens",
    "train_loss": "training_loss",
    "fresh_loss": "loss final_loss val_loss validation_loss valid_loss test_loss loss_nats_per_token",
    "learning_rate": "lr",
    "training_flop": "flop flops c compute",
}
"""Our column -> other names it is known by (case, spaces and hyphens do not matter), the first found is taken."""

TEXT = ("run_id", "status", "tokenizer", "corpus", "family")
"""Columns that hold words."""

NEEDED = ("n_params", "n_tokens", "train_loss", "fresh_loss")
"""Columns kept even without a number in them, so that their rows are refused aloud."""


def rows(source: Any) -> tuple[pd.DataFrame, str]:
    """Return rows and the name they are spoken of by."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_dir():
            return _file(path), str(path)
        files = sorted(path.glob("runs/*/result.json"))
        if not files:
            raise TableError(f"expected finished runs at {path}/runs/*/result.json, found none: `memscape sweep`.")
        return pd.DataFrame([read_json(file) for file in files]), path.resolve().name
    for method in ("to_pandas", "to_pydict"):
        if hasattr(source, method):
            source = getattr(source, method)()
    if isinstance(source, Iterable) and not isinstance(source, pd.DataFrame | Mapping):
        source = [row.model_dump() if hasattr(row, "model_dump") else row for row in source]
    if not isinstance(source, pd.DataFrame | Mapping | list):
        raise TableError(f"expected a folder, file, DataFrame or rows, got {type(source).__name__}; pass a path.")
    try:
        return pd.DataFrame(source), "the table"
    except ValueError as problem:
        raise TableError(f"expected rows, or columns of one length: {problem}.") from problem


def _file(path: Path) -> pd.DataFrame:
    readers = {
        ".csv": lambda: pd.read_csv(path),
        ".parquet": lambda: pd.read_parquet(path),
        ".jsonl": lambda: pd.read_json(path, lines=True),
        ".json": lambda: pd.DataFrame(read_json(path)),
    }
    if path.suffix.lower() not in readers:
        raise TableError(f"expected a folder of runs, or a table in {', '.join(readers)}, got {path}; convert it.")
    if not path.is_file():
        raise TableError(f"expected a table at {path}, found nothing; check the path.")
    return readers[path.suffix.lower()]()


def columns(table: Any, mapped: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """Return columns under our names (`mapped`: ours -> theirs); a number that cannot be read is NaN."""
    frame, mapped = pd.DataFrame(table), dict(mapped or {})
    for ours, theirs in mapped.items():
        if theirs not in frame:
            have = ", ".join(map(str, frame))
            raise TableError(f"columns maps {ours!r} to {theirs!r}, which is no column; the table has {have}.")
    free = [raw for raw in frame if raw not in mapped.values()]
    place = {str(raw).strip().lower().replace(" ", "_").replace("-", "_"): raw for raw in free} | mapped
    for ours, others in ALIASES.items():
        known = [place[other] for other in others.split() if other in place]
        if known:
            place.setdefault(ours, known[0])
    found: dict[str, np.ndarray] = {}
    for name, raw in place.items():
        if name in TEXT:
            found[name] = frame[raw].fillna("").astype(str).to_numpy(dtype=object)
        else:
            numbers = np.array(pd.to_numeric(frame[raw], errors="coerce"), dtype=float)
            if np.isfinite(numbers).any() or name in NEEDED:
                found[name] = numbers
    if {"n_params", "training_flop"} <= set(found) and "n_tokens" not in found:
        found["n_tokens"] = found["training_flop"] / (6.0 * found["n_params"])
    return found

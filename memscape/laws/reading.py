"""Rows from anything, columns under our names: a result folder, CSV, Parquet, JSON or JSONL, a DataFrame, a list.

>>> columns([{"N": 1e5, "tokens": 1e4, "loss": 3.2}])["fresh_loss"]
array([3.2])
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memscape.errors import TableError, unknown
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

OURS = (
    *ALIASES, *TEXT, "seed", "epochs", "flops", "seq_len", "vocab_size", "floor", "uniform_loss", "train_loss_sem",
    "fresh_loss_sem", "best_fresh_loss", "best_train_loss", "best_fresh_epochs", "late_fall", "memorised_share",
    "memorised_bits", "data_bits",
)  # fmt: skip
"""Every column that a law or a check reads."""

SEPARATORS = {";": "semicolons", "\t": "tabs"}

NEEDED = ("n_params", "n_tokens", "train_loss", "fresh_loss")
"""Columns kept even without a number in them, so that their rows are refused aloud."""


def rows(source: Any) -> tuple[pd.DataFrame, str]:
    """Return rows and the name they are spoken of by."""
    if isinstance(source, str | Path):
        path = Path(source)
        path = path.parent if path.name == "fit.json" else path
        try:
            return (_folder(path), path.resolve().name) if path.is_dir() else (_file(path), str(path))
        except (OSError, ValueError, TypeError, AttributeError) as problem:  # pandas and pyarrow raise all four
            why = getattr(problem, "strerror", None) or (str(problem).strip().splitlines() or ["no text"])[0]
            raise TableError(
                f"expected a table of runs at {path}, got what cannot be read as one ({why.rstrip('.')}); check its "
                "permissions, convert it to UTF-8, or export it again."
            ) from problem
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


def _folder(path: Path) -> pd.DataFrame:
    files = sorted(path.glob("runs/*/result.json"))
    if files:
        return pd.DataFrame([read_json(file) for file in files])
    if (path / "fit.json").exists():
        table = read_json(path / "fit.json")["table"]["source"]
        raise TableError(f"{path} keeps a fit of {table} and not its runs; give that table in place of the folder.")
    raise TableError(f"expected finished runs at {path}/runs/*/result.json, found none: `memscape sweep`.")


def _file(path: Path) -> pd.DataFrame:
    readers = {
        ".csv": _csv,
        ".parquet": pd.read_parquet,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
        ".json": lambda path: pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))),
    }
    if not path.exists():
        raise TableError(f"expected a folder of runs or a table at {path}, found nothing; check the path.")
    if path.suffix.lower() not in readers:
        raise TableError(f"expected a folder of runs, or a table in {', '.join(readers)}, got {path}; convert it.")
    return readers[path.suffix.lower()](path)


def _csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    for mark, name in SEPARATORS.items():
        if mark in header and "," not in header:
            raise TableError(f"expected commas between the columns of {path}, got {name}; export it again with commas.")
    return pd.read_csv(path)


def how_to_map(ours: str) -> str:
    """Return how a column of another name is mapped to ours, on the command line and in Python."""
    return f"map it: --column {ours}=ITS_NAME, in Python columns={{{ours!r}: 'ITS_NAME'}}"


def columns(table: Any, mapped: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """Return columns under our names (`mapped`: ours -> theirs); a number that cannot be read is NaN."""
    frame, mapped = pd.DataFrame(table), dict(mapped or {})
    for ours, theirs in mapped.items():
        if ours not in OURS:
            raise unknown("column", ours, OURS, TableError)
        if theirs not in frame:
            have = ", ".join(map(str, frame))
            raise TableError(f"columns maps {ours!r} to {theirs!r}, which is no column; the table has {have}.")
        if twins := [name for name in mapped if name != ours and mapped[name] == theirs]:
            raise TableError(f"columns maps both {ours!r} and {twins[0]!r} to {theirs!r}; leave one out.")
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
    return found


def settle_tokens(found: dict[str, np.ndarray]) -> list[str]:
    """Add n_tokens = C / 6N where only FLOPs are given, and return the note that says so.

    All n_tokens keep nine digits: quotients of runs on the same data differ in their last bits.
    """
    notes = []
    if "n_tokens" not in found and {"n_params", "training_flop"} <= set(found):
        found["n_tokens"] = found["training_flop"] / (6.0 * found["n_params"])
        notes = ["n_tokens is inferred: training FLOPs / 6 n_params, every token seen once"]
    if "n_tokens" in found:
        found["n_tokens"] = np.array([float(f"{d:.9g}") for d in found["n_tokens"]])
    return notes

"""Show finished runs in a tracker: trackio (pip install 'memscape[track]') or wandb, whichever the user has.

    sweep(plan, "runs/book", track="trackio")

A run is logged once, when its pack has ended: its configuration, its history, its row of results. The folder stays the
only truth; a tracker that fails is reported and nothing else.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet

from memscape.errors import PlanError, unknown
from memscape.folder import read_json
from memscape.progress import say

TRACKERS = ("trackio", "wandb")


def tracker(name: str) -> ModuleType:
    """Return the tracker's module, which has `init`, `log` and `finish`.

    Raises:
        PlanError: unknown, or not installed; says how to install it.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise PlanError(f"tracker {name!r} is not installed; pip install {name}, or leave --track out.") from problem


def log_runs(module: ModuleType, project: str, folders: list[Path]) -> None:
    """Log finished runs, each from its folder."""
    for folder in folders:
        try:
            result: dict[str, Any] = read_json(folder / "result.json")
            module.init(project=project, name=folder.name, config=read_json(folder / "config.json")["memscape"])
            for row in pyarrow.parquet.read_table(folder / "metrics.parquet").drop(["run_id"]).to_pylist():
                step = int(row.pop("step"))
                module.log(row, step=step)
            module.log({f"result/{name}": value for name, value in result.items() if isinstance(value, int | float)})
            module.finish()
        except Exception as problem:  # a tracker is a guest: whatever it raises must not stop a sweep
            say(f"run {folder.name} was not tracked ({type(problem).__name__}: {problem}); its folder is whole.")

"""Plans, recipes, the packed trainer, run folders, engines (one machine, Ray)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memscape.training import recipes as recipes
    from memscape.training.bundles import bundle as bundle
    from memscape.training.config import RunConfig as RunConfig
    from memscape.training.plan import Plan as Plan
    from memscape.training.runs import Runs as Runs
    from memscape.training.runs import ls as ls
    from memscape.training.sweeps import sweep as sweep

_FILE_OF = {"Plan": "plan", "RunConfig": "config", "Runs": "runs", "bundle": "bundles", "ls": "runs", "sweep": "sweeps"}

__all__ = ["Plan", "RunConfig", "Runs", "bundle", "ls", "recipes", "sweep"]


def __getattr__(name: str):
    if name == "recipes":
        return importlib.import_module("memscape.training.recipes")
    if name not in _FILE_OF:
        raise AttributeError(f"module 'memscape.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"memscape.training.{_FILE_OF[name]}"), name)

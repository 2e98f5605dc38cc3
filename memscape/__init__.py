"""memscape maps what a transformer has memorised, how much it can memorise, and how big it should be for the data.

Every name below is imported when first used, so `import memscape` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOM_OF = {
    "Measured": "theory.measure",
    "Memory": "memory",
    "HopfieldAttention": "memory",
    "Retrieval": "memory",
    "retrieve": "memory",
    "recall": "memory",
    "recipes": "training.recipes",
    "sweep": "training",
    "ls": "training",
    "bundle": "training",
    "probe": "instruments",
    "fit": "laws",
    "advise": "laws",
    "audit": "claims",
    "study": "experiments",
    "reproduce": "experiments",
    "report": "pages",
    **dict.fromkeys(
        ("MemscapeError", "CorpusError", "FolderError", "ModelError", "PlanError", "ShapeError", "TableError"), "errors"
    ),
}
"""Public name -> the room that defines it."""


if TYPE_CHECKING:
    from memscape.claims import audit as audit
    from memscape.errors import CorpusError as CorpusError
    from memscape.errors import FolderError as FolderError
    from memscape.errors import MemscapeError as MemscapeError
    from memscape.errors import ModelError as ModelError
    from memscape.errors import PlanError as PlanError
    from memscape.errors import ShapeError as ShapeError
    from memscape.errors import TableError as TableError
    from memscape.experiments import reproduce as reproduce
    from memscape.experiments import study as study
    from memscape.instruments import probe as probe
    from memscape.laws import advise as advise
    from memscape.laws import fit as fit
    from memscape.memory import HopfieldAttention as HopfieldAttention
    from memscape.memory import Memory as Memory
    from memscape.memory import Retrieval as Retrieval
    from memscape.memory import recall as recall
    from memscape.memory import retrieve as retrieve
    from memscape.pages import report as report
    from memscape.theory.measure import Measured as Measured
    from memscape.training import bundle as bundle
    from memscape.training import ls as ls
    from memscape.training import recipes as recipes
    from memscape.training import sweep as sweep


def __getattr__(name: str):
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'memscape' has no attribute {name!r}")
    path = f"memscape.{_ROOM_OF[name]}"
    module = importlib.import_module(path)
    value = module if path.rsplit(".", 1)[1] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_ROOM_OF, "__version__"])

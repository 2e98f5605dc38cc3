"""The errors memscape raises on purpose: one line each that says what was expected, what came, and the next move.

Everything a user can cause derives from `MemscapeError`; the command line prints its message and exits 1. Any other
exception is a bug of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class MemscapeError(Exception):
    """Root of the family. The message is one line: expected, got, next move."""


class CorpusError(MemscapeError):
    """A corpus or tokenizer cannot be read, is empty, or is too short for what was asked."""


class ModelError(MemscapeError):
    """A model cannot be found, loaded or looked into."""


class PlanError(MemscapeError):
    """A recipe, plan or configuration cannot be carried out as given."""


class FolderError(MemscapeError):
    """A result folder cannot be written, holds another plan, or is damaged."""


class TableError(MemscapeError):
    """A table of runs lacks columns, mixes units, or has too few rows for the law."""


class ShapeError(MemscapeError):
    """Patterns, states or masks do not fit each other."""


def unknown(kind: str, name: str, known: Iterable[str], error: type[MemscapeError] = PlanError) -> MemscapeError:
    """Return the error for a name that is not in a list: it lists the known names and suggests the nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return error(f"{kind} {name!r} is unknown; known: {', '.join(names)}.{hint}")

"""Which versions decide the numbers of a result? Written beside every study and every experiment."""

import contextlib
import platform
from importlib import metadata

from memscape import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Return the version of Python, of memscape, and of each of `PACKAGES` that is installed."""
    found = {"python": platform.python_version(), "memscape": __version__}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

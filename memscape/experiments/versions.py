"""Which versions decide the numbers of a result? Written beside every study and every experiment."""

import platform
from importlib import metadata

PACKAGES = ("memscape", "torch", "transformers", "tokenizers", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Return the version of Python and of each of `PACKAGES`."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}

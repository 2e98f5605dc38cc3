"""Shared fixtures: nothing here may reach a network, and every torch run is seeded and single-threaded by default."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRITON_INTERPRET", "1")  # before any test imports triton: our kernels then run on the CPU

import pytest

from memscape.progress import be_quiet

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def talkative() -> None:
    """A command run with --quiet by one test silences its process, not the tests that follow in it."""
    be_quiet(False)


@pytest.fixture
def shared_data() -> Path:
    """The development data beside the repository: required in CI, skipped elsewhere."""
    if not SHARED.exists():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {SHARED}")
        pytest.skip("the development data is not beside this clone")
    return SHARED / "data"

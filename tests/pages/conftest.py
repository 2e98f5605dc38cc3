"""Folders that several tests read; none of them writes to one."""

from pathlib import Path

import pytest

from memscape.pages import report
from tests.pages.example import make


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study with its report."""
    folder = make(tmp_path_factory.mktemp("study"))
    report(folder)
    return folder

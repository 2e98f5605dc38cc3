"""The example in each docstring of the room does what it says."""

import doctest
import importlib
import pkgutil

import pytest

import memscape.data


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(memscape.data.__path__)])
def test_the_example_of_each_file_runs(name):
    """What a reader tries first works."""
    module = importlib.import_module(f"memscape.data.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0

"""What the page about laws and the files' examples show is what a reader gets."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import memscape.laws
from tests.laws.planted import WIDE_DATA, WIDE_SIZES, write_grid

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A folder that holds runs/book, as the examples have it."""
    place = tmp_path_factory.mktemp("place")
    write_grid(place / "runs/book", sizes=WIDE_SIZES[:4], data_sizes=WIDE_DATA[:6], rates=(1e-3,))
    return place


def test_the_blocks_of_the_page_run_in_order(book, monkeypatch):
    """Copied one after another into Python they work."""
    monkeypatch.chdir(book)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["found"].params["alpha"].value == pytest.approx(0.4, abs=0.01)


def test_every_law_and_outcome_stands_on_the_page():
    """Nothing that a user can ask for or get is undocumented."""
    text = PAGE.read_text()
    outcomes = memscape.laws.results.Outcome.model_fields["name"].annotation.__args__
    for name in (*memscape.laws.law.LAWS, *memscape.laws.table.FRONTIERS, *outcomes):
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(memscape.laws.__path__)])
def test_the_example_of_each_file_runs(name, book, monkeypatch):
    """What a reader tries first works."""
    monkeypatch.chdir(book)
    module = importlib.import_module(f"memscape.laws.{name}")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0

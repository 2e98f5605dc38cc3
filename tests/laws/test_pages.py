"""What the page about laws and the files' examples show is what a reader gets."""

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import memscape.laws
from memscape.cli import app
from tests.laws.planted import WIDE_DATA, WIDE_SIZES, write_grid

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "laws.md").read_text()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A folder that holds runs/book and our results, as the examples have them."""
    place = tmp_path_factory.mktemp("place")
    (place / "results").symlink_to(ROOT / "results")
    write_grid(place / "runs/book", sizes=WIDE_SIZES[:4], data_sizes=WIDE_DATA[:6], rates=(1e-3,))
    return place


@pytest.mark.slow
def test_the_python_of_the_page_runs_in_order(book, monkeypatch):
    """Copied one after another into Python the blocks work; the grid of random tokens is trained for three steps."""
    monkeypatch.chdir(book)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block.replace("1_500", "3"), "docs/laws.md", "exec"), names)
    assert len(names["plan"].runs) == 12
    assert names["found"].params["alpha"].value == pytest.approx(0.4, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("command", re.findall(r"```sh\nmemscape (.*?)\n```", PAGE))
def test_the_commands_of_the_page_say_what_it_quotes(command, monkeypatch):
    """Each runs; the first line of `fit` stands on the page word for word."""
    monkeypatch.chdir(ROOT)
    told = CliRunner().invoke(app, shlex.split(command))
    assert told.exit_code == 0
    if command.startswith("fit"):
        quoted = " ".join(PAGE.replace("\n> ", " ").split())
        assert told.stdout.splitlines()[0] in quoted
    else:
        assert "hours" in told.stdout
        assert "money" in told.stdout


def test_every_law_and_outcome_stands_on_the_page():
    """Nothing that a user can ask for or get is undocumented."""
    outcomes = memscape.laws.results.Outcome.model_fields["name"].annotation.__args__
    for name in (*memscape.laws.law.LAWS, *memscape.laws.table.FRONTIERS, *outcomes):
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(memscape.laws.__path__)])
def test_the_example_of_each_file_runs(name, book, monkeypatch):
    """What a reader tries first works."""
    monkeypatch.chdir(book)
    module = importlib.import_module(f"memscape.laws.{name}")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0

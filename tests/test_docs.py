"""The documentation cannot drift: pages made from code equal the code, and what they name exists."""

import re
import runpy
from pathlib import Path

import pytest
import typer

from memscape import _ROOM_OF
from memscape.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = set(typer.main.get_command(app).commands)


def test_pages_made_from_code_are_what_the_code_says():
    """docs/cli.md comes from the commands' help, the README's tree from the files; `make docs` makes both again."""
    made = runpy.run_path(str(ROOT / "docs" / "make_pages.py"))
    assert (ROOT / "docs" / "cli.md").read_text() == made["command_line"](), "run: python docs/make_pages.py"
    assert (ROOT / "README.md").read_text() == made["readme"](), "run: python docs/make_pages.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_named_in_the_pages_exist(page):
    """`memscape VERB` in code marks is a command, so that a reader can type what they read."""
    verbs = set(re.findall(r"`memscape ([a-z]+)", page.read_text())) | set(
        re.findall(r"^ {0,4}memscape ([a-z]+)", page.read_text(), flags=re.M)
    )
    assert verbs <= COMMANDS, verbs - COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_named_in_the_pages_exist(page):
    """Paths of our own files in code marks are there."""
    named = re.findall(
        r"`((?:memscape|tests|benchmarks|docs|results)/[\w./-]+\.(?:py|md|json|csv|png|svg))`", page.read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_the_readme_names_every_command_and_every_room():
    """The map shows the whole house."""
    text = (ROOT / "README.md").read_text()
    assert not [name for name in COMMANDS if f"memscape {name}" not in text]
    rooms = [p.name for p in (ROOT / "memscape").iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert not [room for room in rooms if f"{room}/" not in text]


def test_public_names_are_importable_from_the_top():
    """`memscape.NAME` works for every name that the top offers."""
    import memscape

    for name in _ROOM_OF:
        assert getattr(memscape, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = memscape.nonsense


def test_the_project_speaks_only_of_itself():
    """No path of a machine and no package host stands in a file that is shipped."""
    words = re.compile(r"(?<![\w.])/(?:work|farm|tmp)/|index-url|find-links")
    for file in [*ROOT.glob("*.*"), *(ROOT / "memscape").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]:
        if file.suffix in {".py", ".md", ".toml", ".lock", ".yml"}:
            found = words.search(file.read_text(encoding="utf-8"))
            assert not found, f"{file}: {found[0]}"

"""Write what code can say better than a person: docs/cli.md from the commands' help, the README's tree from the files.

python docs/make_pages.py
"""

import ast
import re
from pathlib import Path

import click
import typer

from memscape.cli import app

ROOT = Path(__file__).parents[1]
HEAD = "# Command line\n\nMade from `memscape --help` by `python docs/make_pages.py`; do not edit.\n"
ORDER = ["theory", "memory", "data", "models", "training", "instruments", "laws", "claims", "experiments", "pages"]
"""Rooms from the ground up, as imports allow."""


def command_line() -> str:
    """Return docs/cli.md: every command with its help, its example and its options."""
    group = typer.main.get_command(app)
    context = click.Context(group, info_name="memscape")
    parts = [HEAD, f"\n{group.help}\n"]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        text = command.get_help(click.Context(command, info_name=name, parent=context, terminal_width=100))
        parts.append(f"\n## memscape {name}\n\n```text\n{text.strip()}\n```\n")
    return "".join(parts)


def tree() -> str:
    """Return the map of the house: every file with the first sentence of its docstring."""
    lines = ["```text", "memscape/"]
    house = ROOT / "memscape"
    files = [(room, sorted((house / room).glob("*.py"))) for room in ORDER]
    for room, found in files:
        lines.append(f"  {room + '/':18} {_purpose(house / room / '__init__.py')}")
        lines += [f"    {file.name:16} {_purpose(file)}" for file in found if file.name != "__init__.py"]
    lines += [f"  {file.name:18} {_purpose(file)}" for file in sorted(house.glob("*.py")) if file.name != "__init__.py"]
    return "\n".join([*lines, "```"])


def readme() -> str:
    """Return the README with the tree of today between its marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = f"<!-- tree -->\n{tree()}\n<!-- /tree -->"
    return re.sub(r"<!-- tree -->.*<!-- /tree -->", lambda _: block, text, flags=re.S)


def _purpose(file: Path) -> str:
    first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    sentence = re.split(r"(?<=[^l][.?!])\s(?=[A-Z`])", " ".join(first.split()))[0].rstrip(".:")
    return sentence if len(sentence) <= 104 else sentence[:101].rsplit(" ", 1)[0] + " ..."


if __name__ == "__main__":
    (ROOT / "docs" / "cli.md").write_text(command_line(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")

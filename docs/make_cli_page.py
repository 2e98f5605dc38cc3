"""Write docs/cli.md from the command line's own help, so that the page cannot say anything else.

python docs/make_cli_page.py
"""

from pathlib import Path

import click
import typer

from memscape.cli import app

HEAD = "# Command line\n\nMade from `memscape --help` by `python docs/make_cli_page.py`; do not edit.\n"


def page() -> str:
    """Return the page: every command with its help, its example and its options."""
    group = typer.main.get_command(app)
    context = click.Context(group, info_name="memscape")
    parts = [HEAD, f"\n{group.help}\n"]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        text = command.get_help(click.Context(command, info_name=name, parent=context, terminal_width=100))
        parts.append(f"\n## memscape {name}\n\n```text\n{text.strip()}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(page(), encoding="utf-8")

"""The command line: each command parses, calls one function of a room, and prints what it returned or where it is.

Data goes to stdout, talk to stderr; `--json` makes the data machine-readable. Exit 0 is success, 1 an error of the
user's making told in one line, 2 wrong usage. Rooms are imported inside the commands, so that `--help` is instant.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from memscape.errors import MemscapeError

app = typer.Typer(
    help="Map what a transformer has memorised, how much it can memorise, and how big it should be for its data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr.")]
Out = Annotated[Path, typer.Option("--out", help="Result folder; repeating the command continues there.")]
Folder = Annotated[Path, typer.Argument(help="A result folder.")]
Corpus = Annotated[
    str, typer.Option("--corpus", help="sample, a file or folder, hf:NAME, question-formation, random:V.")
]
Model = Annotated[str, typer.Option("--model", help="Hub name, folder, .gguf file, package:NAME, or stories260K.")]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="Stop cleanly after this time: 90s, 9m, 1.5h.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print runs, tokens, FLOPs, memory and time, and stop.")]


def main() -> None:
    """Run the command line; an error of the user's making is one line on stderr and exit 1."""
    try:
        app()
    except MemscapeError as problem:
        print(f"memscape: {problem}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("memscape: stopped; repeat the command to continue.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        from memscape import __version__

        typer.echo(f"memscape {__version__}")
        raise typer.Exit


def _talk(quiet: bool) -> None:
    from memscape.progress import be_quiet

    be_quiet(quiet)


def _show(answer: Any, as_json: bool) -> None:
    """Print an answer for a person, or as JSON for a machine."""
    from memscape.folder import plain

    typer.echo(json.dumps(plain(answer), ensure_ascii=False, indent=1) if as_json else str(answer))

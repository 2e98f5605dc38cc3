"""The command line is quick, complete in its help, and tells an error of the user's making in one line."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from memscape import __version__, errors
from memscape.cli import app

GROUP = typer.main.get_command(app)


def memscape(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "memscape.cli", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def test_help_needs_no_heavy_room():
    """`--help` is instant because torch, transformers and the rooms are imported inside commands only."""
    code = "import sys; sys.argv = ['memscape', '--help']\nimport memscape.cli as c\n"
    code += "try: c.main()\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'scipy', 'duckdb', 'plotly'} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "study" in done.stdout


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_command_has_a_sentence_an_example_and_both_modes(name):
    """One sentence, a runnable example, --json for machines and --quiet."""
    command = GROUP.commands[name]
    assert "Example: memscape " + name in command.help
    options = {flag for parameter in command.params for flag in parameter.opts}
    assert {"--json", "--quiet"} <= options


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_option_is_explained(name):
    """An option without help is a riddle."""
    for parameter in GROUP.commands[name].params:
        assert parameter.help, f"{name}: {parameter.name}"


def test_wrong_usage_is_exit_2_and_a_wrong_input_exit_1(tmp_path):
    """The two are told apart, as scripts expect."""
    assert memscape("study", "--nonsense").returncode == 2
    wrong = memscape("probe", "stories260K", "--corpus", str(tmp_path / "absent.txt"), "--out", str(tmp_path / "out"))
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert wrong.stderr.strip().count("\n") == 0
    assert "absent.txt" in wrong.stderr
    assert not (tmp_path / "out" / "profile.json").exists()


def test_an_unexpected_error_keeps_its_traceback():
    """A bug of ours must not be dressed up as the user's."""
    code = "import memscape.cli as c\nc.app = lambda: 1 / 0\nc.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_json_is_data_on_stdout_and_talk_on_stderr(tmp_path):
    """A machine reads stdout; --quiet silences the rest."""
    arguments = ["probe", "stories260K", "--limit", "2048", "--context", "64", "--queries", "64", "--json"]
    loud = memscape(*arguments, "--out", str(tmp_path / "a"))
    assert json.loads(loud.stdout)["model"]["n_params"] == 260_032
    assert "reading" in loud.stderr
    again = memscape(*arguments, "--out", str(tmp_path / "a"), "--quiet")
    assert again.stderr == ""
    assert json.loads(again.stdout) == json.loads(loud.stdout)


def test_the_laws_of_any_table_make_a_page(tmp_path):
    """A table that no sweep made is fitted into a folder, and the folder has a page; one law alone makes none."""
    table = Path(__file__).parent.parent / "results" / "random_grid.csv"
    told = CliRunner().invoke(app, ["fit", str(table), "--out", str(tmp_path / "page")])
    assert told.exit_code == 0, told.stderr
    assert CliRunner().invoke(app, ["report", str(tmp_path / "page")]).exit_code == 0
    assert (tmp_path / "page" / "report.html").stat().st_size > 100_000
    assert CliRunner().invoke(app, ["fit", str(table), "--law", "capacity", "--out", str(tmp_path)]).exit_code == 2


def test_an_unknown_name_lists_the_known_ones():
    """With the nearest one as a guess."""
    message = str(errors.unknown("recipe", "lapto", ["laptop", "smoke"]))
    assert message == "recipe 'lapto' is unknown; known: laptop, smoke. Did you mean 'laptop'?"


def test_the_version_is_told_by_both_ways_of_calling():
    """`memscape --version` and `python -m memscape --version`."""
    done = subprocess.run([sys.executable, "-m", "memscape", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout == memscape("--version").stdout == f"memscape {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "stories260K", "--out", "s3://bucket/probe"),
        ("reproduce", "capacity", "--out", "s3://bucket/capacity"),
        ("probe", "stories260K", "--out", ""),
        ("probe", "stories260K", "--seed", "-1"),
        ("sweep", "smoke", "--out", ""),
    ],
)
def test_places_and_seeds_that_cannot_be_are_wrong_usage(arguments):
    """Said before a room is imported: a URL where only folders serve, an empty name (an unset variable), a seed < 0."""
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == 2
    assert "expected" in done.output or "greater than or equal" in done.output


def test_a_url_reaches_a_sweep_as_it_was_written(monkeypatch):
    """A path would fold its slashes, and train beside it."""
    seen = []
    monkeypatch.setattr("memscape.training.sweep", lambda plan, out, **_: seen.append(out))
    assert CliRunner().invoke(app, ["sweep", "smoke", "--out", "s3://bucket/book"]).exit_code == 0
    assert seen == ["s3://bucket/book"]


def test_names_with_commas_and_spaces_are_names(monkeypatch):
    """`--only C3,C21` as the help writes it."""
    seen = {}
    monkeypatch.setattr("memscape.claims.audit", lambda **options: seen.update(options))
    assert CliRunner().invoke(app, ["audit", "--only", "C3, C21", "--only", "C5"]).exit_code == 0
    assert seen["ids"] == ["C3", "C21", "C5"]


def test_an_interrupted_command_says_that_it_can_be_repeated(tmp_path):
    """Ctrl-C in the middle: one line, exit 130, no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "memscape", "audit"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline()  # its first claim is being checked
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "memscape: stopped; repeat the command to continue."
    assert "Traceback" not in said


def test_a_dry_run_looks_at_the_text():
    """What the run would refuse, the price refuses."""
    done = memscape("sweep", "smoke", "--corpus", "nope.txt", "--dry-run")
    assert done.returncode == 1
    assert "nope.txt does not exist" in done.stderr


def test_every_file_that_is_needed_is_in_the_package():
    """An installed package has what a checkout has: each file is Python or matches a pattern of package-data."""
    root = Path(__file__).parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["memscape"]
    files = [path for path in (root / "memscape").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    left = [p.name for p in files if p.suffix != ".py" and not any(p.match(x.removeprefix("**/")) for x in patterns)]
    assert not left


@pytest.mark.slow
def test_help_is_under_half_a_second():
    """The median of five starts of the real command."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        memscape("--help")
        times.append(time.perf_counter() - start)
    assert sorted(times)[2] < 0.5 * (2 if os.environ.get("CI") else 1)

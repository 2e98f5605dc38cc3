"""The main job, whole: real text, a real model, training, fits, a page; and nothing lost when it is killed."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memscape.data import open_corpus
from memscape.errors import FolderError, PlanError
from memscape.experiments import plan_study, study
from memscape.models.pretrained import SHIPPED

SMOKE = ["study", "--recipe", "smoke"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "memscape.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=500)


def results(folder: Path) -> dict[str, object]:
    """Everything a study found: all JSON but times, which the advice's cost is made of too."""
    files = [p for p in folder.rglob("*.json") if p.name != "timing.json" and "states" not in p.parts]
    found = {str(p.relative_to(folder)): json.loads(p.read_text()) for p in sorted(files)}
    found["advice.json"].pop("cost")
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of an uninterrupted smoke study."""
    out = tmp_path_factory.mktemp("study") / "whole"
    done = run(*SMOKE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == str(out / "report.html")
    return out


@pytest.mark.slow
def test_a_study_leaves_every_currency_of_the_house(finished):
    """Profile, runs, laws, advice, verdict and page lie where the tour says they do."""
    for name in ("study.json", "plan.json", "fit.json", "advice.json", "verdict.json", "timing.json", "report.html"):
        assert (finished / name).stat().st_size > 100
    profile = json.loads((finished / "probe" / "stories260K" / "profile.json").read_text())
    assert [layer["site"] for layer in profile["layers"]][-1] == "final norm"
    runs = [json.loads(p.read_text()) for p in finished.glob("runs/*/result.json")]
    assert len(runs) == len(json.loads((finished / "plan.json").read_text())["runs"])
    assert not list((finished / "probe").rglob("states/*/*.safetensors"))


@pytest.mark.slow
def test_every_loss_stands_above_its_floor_and_training_helped(finished):
    """The floor is a bound, and a model that trained for seconds beats a blind guess."""
    for path in finished.glob("runs/*/result.json"):
        row = json.loads(path.read_text())
        assert row["floor"] - 1e-6 <= row["train_loss"] < row["uniform_loss"]


@pytest.mark.slow
def test_repeating_a_finished_study_changes_nothing(finished):
    """The same command reads back what it finds."""
    before = results(finished)
    done = run(*SMOKE, "--out", finished, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"] == str(finished / "report.html")
    assert results(finished) == before


@pytest.mark.slow
def test_killed_three_times_it_continues_and_finds_the_same(finished, tmp_path):
    """kill -9 at three random moments: no finished run is trained twice, and every result is the undisturbed one."""
    out, moments = tmp_path / finished.name, random.Random(20240514)
    for _ in range(3):
        work = subprocess.Popen(
            command(*SMOKE, "--out", out, "--quiet"), stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(4, 14))
        if work.poll() is None:
            work.send_signal(signal.SIGKILL)
        work.wait()
        done = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/result.json")}
        time.sleep(1.5)  # orphaned workers of the killed driver must stop by themselves, or the next one is refused
    again = run(*SMOKE, "--out", out)
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert results(out) == results(finished)


@pytest.mark.slow
def test_any_text_and_any_model_folder_serve(tmp_path):
    """Another real input: a plain text file of 60 kB and a model in Hugging Face's layout."""
    text = "\n\n".join(d.text for d in open_corpus("sample").documents[:2])[:60_000]
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    shutil.copytree(SHIPPED["stories260K"], tmp_path / "model")
    out = tmp_path / "out"
    words = [*SMOKE, "--corpus", tmp_path / "book.txt", "--model", tmp_path / "model", "--out", out]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    again = run(*words)  # named by a path now, by what was loaded before: the same model all the same
    assert again.stdout == done.stdout, again.stderr
    assert json.loads((out / "study.json").read_text())["corpus"]["name"] == "book.txt"


def _bad_inputs(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("A few words only.\n" * 20)
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 400)
    (tmp_path / "file").write_text("")
    return {
        "missing": (["--corpus", str(tmp_path / "absent.txt")], "absent.txt"),
        "empty": (["--corpus", str(tmp_path / "empty.txt")], "empty"),
        "short": (["--corpus", str(tmp_path / "short.txt")], "too short: expected"),
        "binary": (["--corpus", str(tmp_path / "binary.txt")], "UTF-8"),
        "model": (["--model", str(tmp_path / "nowhere")], "nowhere"),
        "recipe": (["--recipe", "lapto"], "known: laptop, smoke. Did you mean 'laptop'?"),
        "unwritable": (["--out", str(tmp_path / "file" / "out")], "choose an --out folder"),
    }


@pytest.mark.parametrize("case", ["missing", "empty", "short", "binary", "model", "recipe", "unwritable"])
def test_bad_input_is_one_line_and_exit_1(tmp_path, case):
    """Expected, got, next move; and no half-made result folder that would refuse the corrected command."""
    arguments, words = _bad_inputs(tmp_path)[case]
    out = tmp_path / "out"
    done = run("study", "--recipe", "smoke", "--out", out, "--quiet", *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert words in done.stderr
    assert not (out / "report.html").exists()
    if case != "unwritable":
        assert plan_study(recipe="smoke").identity  # a corrected command would be taken:
        assert not (out / "study.json").exists()


def test_a_folder_of_another_study_is_refused(tmp_path):
    """Its results would be mixed up; the message says which field differs."""
    (tmp_path / "study.json").write_text(json.dumps({"recipe": "laptop"}))
    with pytest.raises(
        FolderError, match=r"belongs to another plan: its recipe is \"laptop\", this command's is \"smoke\""
    ):
        study(tmp_path, recipe="smoke")


def test_unknown_recipes_are_refused_in_python_too():
    """The same sentence as on the command line."""
    with pytest.raises(PlanError, match="known: laptop, smoke"):
        plan_study(recipe="desktop")


def test_a_price_comes_before_anything_is_written(tmp_path):
    """Runs, tokens, FLOPs, memory and seconds, from a calibration, not from a table."""
    price = plan_study(recipe="smoke").price()
    assert price.probe.tokens > 4096
    assert price.sweep.runs > 0
    assert 1 < price.seconds < 3600
    done = run(*SMOKE, "--out", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(done.stdout)["probe"]["flops"] > 1e9
    assert not (tmp_path / "out").exists()

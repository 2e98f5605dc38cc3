"""Experiments end to end at smoke scale: criteria first, verdicts from intervals, nothing lost when stopped."""

import contextlib
import html
import json
import platform
import subprocess
import sys
from importlib import metadata

import pytest

import memscape
from memscape.claims import ExperimentResult, audit
from memscape.errors import CorpusError, FolderError, MemscapeError, PlanError
from memscape.experiments import NAMES, cost, named, reproduce
from memscape.experiments.experiment import Criterion, Finding, Setting, over, slope
from memscape.experiments.versions import versions
from memscape.pages import page
from memscape.progress import OutOfBudget
from memscape.theory.measure import Measured


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """The folder that all smoke experiments write into, as `audit --results` reads it."""
    return tmp_path_factory.mktemp("results")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_leaves_a_verdict_that_the_audit_reads(name, results):
    """Every criterion is answered with unit, count and sentence, and each claim it names shows its evidence."""
    answer, this = reproduce(name, results / name, scale="smoke"), named(name)
    read = ExperimentResult.model_validate_json((results / name / "result.json").read_text())
    assert (read.experiment, read.scale) == (name, "smoke")
    assert sorted(trial.quantity for _, trial in answer.trials) == sorted(c.quantity for c in this.criteria)
    assert {(t.low, t.high) for _, t in answer.trials} == {(c.low, c.high) for c in this.criteria}
    assert set(read.claims) == set(this.claims)
    for id in this.claims:
        verdict = audit(ids=[id], results=results)[id]
        for trial in read.claims[id]:
            assert f"{name} at smoke scale: {trial.sentence}" in verdict.evidence
    page = (results / name / "README.md").read_text()
    assert answer.question in page
    assert "minutes on" in page
    assert (results / name / "report.html").stat().st_size > 10_000
    assert "measure" in json.loads((results / name / "timing.json").read_text())["seconds"]
    assert answer.command in html.unescape((results / name / "report.html").read_text())


@pytest.mark.slow
def test_a_stopped_experiment_ends_as_one_left_alone(tmp_path):
    """Stopped before anything, stopped on the way, then finished: the same result.json and table."""
    out, whole = tmp_path / "stopped", tmp_path / "whole"
    with pytest.raises(OutOfBudget):
        reproduce("z-loss", out, scale="smoke", budget=0.001)
    with contextlib.suppress(OutOfBudget):  # a quick machine may be done by then
        reproduce("z-loss", out, scale="smoke", budget=6.0)
    reproduce("z-loss", out, scale="smoke")
    reproduce("z-loss", whole, scale="smoke")
    for name in ("result.json", "table.csv", "criteria.json"):
        assert (out / name).read_text() == (whole / name).read_text()


@pytest.mark.slow
def test_without_a_page_the_result_stands(tmp_path, monkeypatch, capsys):
    """Where the page cannot be drawn verdict, table and text are kept, and one line says what is missing."""

    def missing() -> str:
        raise MemscapeError("expected the package plotly, found none.")

    monkeypatch.setattr(page, "_plotly", missing)
    reproduce("capacity", tmp_path, scale="smoke")
    assert "package plotly, found none. The result is complete" in capsys.readouterr().err
    assert {"result.json", "table.csv", "README.md"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "report.html").exists()


def test_a_checkout_that_is_not_installed_knows_its_version(monkeypatch):
    """memscape's own version is in its source; a package that is not there is left out."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert versions() == {"python": platform.python_version(), "memscape": memscape.__version__}


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_paper_scale_is_priced_and_not_run(name, tmp_path):
    """Parameters, memory and H100-hours, without training anything."""
    assert "H100-hours" in cost(name, scale="paper")
    with pytest.raises(PlanError, match="add --dry-run"):
        reproduce(name, tmp_path / "out", scale="paper")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_plans_of_one_experiment_differ_in_their_seeds(name):
    """Another seed shares no run: it is an independent repetition; and every scale makes a valid plan."""
    for scale in ("smoke", "laptop", "gpu"):
        plans = [named(name).plan(Setting(scale=scale, seed=seed)) for seed in (0, 1)]
        if None not in plans:
            seeds = [{(run.seed, run.data_seed) for run in plan.runs} for plan in plans]
            assert not seeds[0] & seeds[1]


def test_a_folder_keeps_its_criteria(tmp_path):
    """Criteria are written before anything runs; thresholds cannot be moved afterwards."""
    with pytest.raises(OutOfBudget):
        reproduce("capacity", tmp_path, scale="smoke", budget=0.001)
    written = json.loads((tmp_path / "criteria.json").read_text())
    assert not list(tmp_path.glob("runs/*/result.json"))
    written["criteria"][0]["low"] = 0.8
    (tmp_path / "criteria.json").write_text(json.dumps(written))
    with pytest.raises(FolderError, match=r"belongs to another plan: its low is 0.8"):
        reproduce("capacity", tmp_path, scale="smoke")


def test_wrong_names_are_told_and_leave_no_folder(tmp_path):
    """Unknown experiment, unknown scale, a corpus that is too short: one line, and nothing is written."""
    with pytest.raises(PlanError, match="Did you mean 'capacity'"):
        reproduce("capacitty", tmp_path / "out")
    with pytest.raises(PlanError, match="known: gpu, laptop, paper, smoke"):
        reproduce("capacity", tmp_path / "out", scale="tiny")
    with pytest.raises(CorpusError, match="too short"):
        reproduce("openelm", tmp_path / "out", scale="gpu")
    assert not (tmp_path / "out").exists()


def test_a_list_without_a_name():
    """`memscape reproduce` names every experiment in a line with its scales and times."""
    done = subprocess.run([sys.executable, "-m", "memscape.cli", "reproduce"], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert all("smoke" in line and "gpu" in line for line in lines)


@pytest.mark.parametrize(
    ("low", "high", "n", "reason", "word"),
    [
        (1.9, 2.1, 5, None, "supported"),
        (0.9, 1.1, 5, None, "contradicted"),
        (1.5, 2.1, 5, None, "undecided at this scale"),
        (None, None, 5, None, "undecided at this scale"),
        (1.9, 2.1, 2, None, "undecided at this scale"),
        (0.1, 1.1, 5, None, "undecided at this scale"),
        (1.9, 2.1, 5, "still training", "undecided at this scale"),
    ],
)
def test_the_verdict_is_a_function_of_the_interval(low, high, n, reason, word):
    """Inside the region, outside it, or neither; too few units, too wide, or unfinished training decide nothing."""
    criterion = Criterion(name="x", quantity="x", sentence="x", low=1.7, high=2.3, fewest=3, widest=0.3)
    found = Finding(Measured(value=1.0, unit="1", n=n, low=low, high=high), "Told.", reason)
    assert criterion.trial(found).outcome == f"empirical: {word}"


def test_intervals_are_student_s():
    """Three values and four points by hand: t quantiles 4.3027 and 4.3027 with two degrees of freedom."""
    found = over([1.0, 2.0, 3.0], "1")
    assert (found.value, found.n) == (2.0, 3)
    assert found.high - found.value == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    line = slope([0, 1, 2, 3], [0.0, 1.1, 1.9, 3.0])
    assert line.value == pytest.approx(0.98)
    assert line.high - line.value == pytest.approx(4.302653 * (0.018 / 2 / 5) ** 0.5, rel=1e-3)
    assert (over([4.0], "1").low, over([], "1").n) == (None, 0)

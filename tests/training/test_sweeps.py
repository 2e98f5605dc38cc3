"""Sweeps: once and only once, whatever is killed, filled or too large in between."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memscape.errors import CorpusError, FolderError, MemscapeError, PlanError
from memscape.folder import read_json
from memscape.training import Runs, engines, sweep, worker
from memscape.training.worker import run_pack
from tests.training.small import assert_same_runs, small_plan


def in_process(out, waiting, n_packs, device, budget):
    """An engine for tests: this process, one pack after another."""
    while waiting:
        pack_id = waiting.pop(0)
        yield pack_id, run_pack(out, pack_id, "cpu", engines.threads_for(n_packs, "cpu"), None)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "here", in_process)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of an undisturbed sweep of the small plan."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep(small_plan(), folder)
    return folder


def test_a_sweep_is_a_table_and_repeating_it_trains_nothing(undisturbed):
    """Two worker processes leave four rows in the order of the plan; again returns the same without touching a file."""
    plan = small_plan()
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file() and p.name != ".lock"}
    runs = sweep(plan, undisturbed)
    assert before == {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file() and p.name != ".lock"}
    assert [r["run_id"] for r in runs] == [r.run_id for r in plan.runs]
    assert runs.complete
    assert len(runs.to_frame()) == 4
    assert "4 runs finished" in str(runs)
    assert runs[0]["run_id"] in runs._repr_html_()
    assert not list(undisturbed.rglob("checkpoint.safetensors"))


def test_another_plan_is_refused(undisturbed):
    """The folder belongs to the plan that began it; the message names what differs."""
    with pytest.raises(FolderError, match="belongs to another plan"):
        sweep(small_plan(steps=130), undisturbed)


def test_a_text_that_cannot_serve_claims_nothing(tmp_path):
    """A mistyped corpus is refused, and the folder takes the command that was meant."""
    (tmp_path / "short.txt").write_text("too short")
    for corpus in ("nope.txt", str(tmp_path / "short.txt")):
        with pytest.raises(CorpusError):
            sweep(small_plan(corpus=corpus), tmp_path / "out")
    assert not (tmp_path / "out" / "plan.json").exists()
    assert sweep(small_plan(steps=2), tmp_path / "out", engine="here").complete


def test_an_edited_corpus_is_refused(tmp_path):
    """The same file name with another content is another sweep."""
    book = tmp_path / "book.txt"
    book.write_text("".join(f"Sentence number {i * 7919 % 10007} of a book. \n\n" for i in range(1500)))
    sweep(small_plan(str(book)), tmp_path / "out", engine="here")
    book.write_text(book.read_text() + "One more.")
    with pytest.raises(FolderError, match="belongs to another"):
        sweep(small_plan(str(book)), tmp_path / "out", engine="here")


def test_unknown_engines_and_devices_are_told(tmp_path):
    """Each in one line, before anything is written."""
    with pytest.raises(PlanError, match="known: ddp, fsdp, here, local, ray"):
        sweep(small_plan(), tmp_path / "a", engine="slurm")
    with pytest.raises(PlanError, match="expected cpu, cuda"):
        sweep(small_plan(), tmp_path / "b", device="tpu")


def test_a_spent_budget_keeps_what_is_finished(tmp_path):
    """Stopped before its start a sweep is empty, not broken; the same call without a budget finishes it."""
    plan = small_plan()
    runs = sweep(plan, tmp_path, budget=0)
    assert (len(runs), runs.left) == (0, 4)
    assert "4 left" in runs.summary
    assert sweep(plan, tmp_path, engine="here").complete


def test_a_pack_that_does_not_fit_is_split_and_the_plan_says_so(undisturbed, tmp_path, monkeypatch):
    """Out of memory with two members, fine with one: plan.json has the halves, and every run its result."""
    real = worker.run_pack

    def tight(folder, pack_id, *rest):
        pack = next(p for p in read_json(Path(folder) / "plan.json")["packs"] if p["pack_id"] == pack_id)
        if len(pack["run_ids"]) > 1:
            return {"event": "memory", "reason": "CUDA out of memory"}
        return real(folder, pack_id, *rest)

    monkeypatch.setattr(sys.modules[__name__], "run_pack", tight)
    plan = small_plan()
    runs = sweep(plan, tmp_path, engine="here")
    assert runs.complete
    packs = read_json(tmp_path / "plan.json")["packs"]
    assert sorted(p["pack_id"][-1] for p in packs) == ["a", "a", "b", "b"]
    whole = {r["run_id"]: r for r in Runs.load(undisturbed)}
    for row in runs:
        assert row["train_loss"] == pytest.approx(whole[row["run_id"]]["train_loss"], abs=1e-4)
    assert sweep(plan, tmp_path, engine="here").complete  # the plan as written, splits and all, is still this plan


def test_a_pack_that_is_lost_is_an_error_that_keeps_the_rest(tmp_path, monkeypatch):
    """Failed packs are named at the end, not passed over; what finished stays finished."""
    plan = small_plan()
    lost = plan.packs[0].pack_id

    def fragile(folder, pack_id, *rest):
        if pack_id == lost:
            return {"event": "lost", "reason": "its workers died 3 times"}
        return worker.run_pack(folder, pack_id, *rest)

    monkeypatch.setattr(sys.modules[__name__], "run_pack", fragile)
    with pytest.raises(MemscapeError, match=f"1 packs could not be trained .*{lost}"):
        sweep(plan, tmp_path, engine="here")
    assert len(Runs.load(tmp_path)) == 2


STEPS = 600
"""Of the sweeps that are killed: five deaths of less than 60 steps each cannot outlast them."""

DRIVER = f"""
import sys
from memscape.training import engines, sweep
from tests.training import mortal
from tests.training.small import small_plan
engines.Worker.module, engines.run_pack = mortal.__name__, mortal.run_pack
sweep(small_plan(steps={STEPS}), sys.argv[1], engine=sys.argv[2])
"""


def drive(folder: Path, deaths: list[str], engine: str) -> list[int]:
    """Repeat the sweep in processes of its own until it ends well, and return how each ended; all `deaths` happen.

    A process is waited for until its last worker has closed stderr: workers leave when their driver has died.
    """
    coming = folder.with_name(f"{folder.name}-deaths")
    coming.mkdir()
    for i, death in enumerate(deaths):
        (coming / str(i)).write_text(death)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEMSCAPE_CHECKPOINT_SECONDS": "0",
                   "MEMSCAPE_DEATHS": str(coming), "PYTHONPATH": str(Path(__file__).parents[2])}  # fmt: skip
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        command = [sys.executable, "-c", DRIVER, str(folder), engine]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=300)
        codes.append(done.returncode)
    assert codes[-1] == 0, done.stderr
    assert all(path.suffix == ".happened" for path in coming.iterdir())
    return codes


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The folder of an undisturbed sweep, long enough to be killed five times."""
    folder = tmp_path_factory.mktemp("calm") / "sweep"
    assert drive(folder, [], "local") == [0]
    return folder


@pytest.mark.slow
def test_killed_workers_and_drivers_leave_an_undisturbed_sweep(calm, tmp_path):
    """kill -9 of a worker twice and of the driver three times, at random moments; the same command ends it equal."""
    rng = random.Random(0)
    victims = ("worker", "driver", "driver", "worker", "driver")
    codes = drive(tmp_path / "killed", [f"{victim} {rng.randrange(1, 60)}" for victim in victims], "local")
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert_same_runs(calm, tmp_path / "killed")


@pytest.mark.slow
def test_ray_trains_the_same_and_retries_a_killed_worker(calm, tmp_path):
    """Two local Ray workers; one is killed mid-pack; the sweep ends equal to an undisturbed one."""
    pytest.importorskip("ray")
    assert drive(tmp_path / "ray", ["worker 100"], "ray") == [0]
    assert_same_runs(calm, tmp_path / "ray")


def test_a_worker_tells_an_error_of_the_users_making_as_one_event(tmp_path):
    """A corpus that is too short for the plan is `refused` with its class and sentence, not a dead worker."""
    book = tmp_path / "short.txt"
    book.write_text("Too short. " * 20)
    plan = small_plan(str(book))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    event = run_pack(tmp_path / "out", plan.packs[0].pack_id, "cpu", 1, None)
    assert (event["event"], event["kind"]) == ("refused", "CorpusError")
    assert "too short" in event["reason"]

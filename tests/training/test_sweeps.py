"""Sweeps: once and only once, whatever is killed, filled or too large in between."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memscape.errors import FolderError, MemscapeError, PlanError
from memscape.folder import read_json
from memscape.training import Runs, engines, sweep, worker
from memscape.training.worker import run_pack
from tests.training.small import assert_same_runs, small_plan


def in_process(folder, packs, n_packs, device, budget, sink):
    """An engine for tests: this process, one pack after another."""
    for pack in packs:
        waiting = [pack]
        while waiting:
            waiting += sink.ended(waiting[0], run_pack(folder, waiting[0], "cpu", 1, None))
            waiting.pop(0)


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
    with pytest.raises(PlanError, match="known: fsdp, here, local, ray"):
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
        pack = next(p for p in read_json(folder / "plan.json")["packs"] if p["pack_id"] == pack_id)
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


DRIVER = """
import sys
from memscape.training import sweep
from tests.training.small import small_plan
sweep(small_plan(steps=int(sys.argv[2])), sys.argv[1], engine=sys.argv[3])
"""


@pytest.fixture
def driver() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start sweeps in processes of their own; whatever happens, their pipes are closed at the end."""
    started: list[subprocess.Popen] = []

    def start(folder: Path, steps: int, engine: str = "local") -> subprocess.Popen:
        started.append(_driver(folder, steps, engine))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _driver(folder: Path, steps: int, engine: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEMSCAPE_CHECKPOINT_SECONDS": "0.2"}
    command = [sys.executable, "-c", DRIVER, str(folder), str(steps), engine]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def workers(pid: int) -> list[int]:
    """The driver's worker processes: threads start them, so each task of the driver is asked."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "memscape.training.worker" in line]


def at_work(process: subprocess.Popen, folder: Path, rng: random.Random) -> list[int]:
    """Wait until a worker has written a checkpoint, and a random moment more; return the workers."""
    start, deadline = time.time(), time.monotonic() + 120
    while not any(p.stat().st_mtime > start for p in folder.glob("packs/*/checkpoint.safetensors") if p.exists()):
        assert process.poll() is None, "the sweep ended before it could be killed: make it longer"
        assert time.monotonic() < deadline, "no checkpoint in two minutes"
        time.sleep(0.01)
    time.sleep(rng.random() / 2)
    return workers(process.pid)


@pytest.mark.slow
def test_killed_workers_and_drivers_leave_an_undisturbed_sweep(tmp_path, driver):
    """kill -9 of a worker twice and of the driver three times, at random moments; the same command ends it equal."""
    steps, rng, folder = 3500, random.Random(0), tmp_path / "killed"
    calm = driver(tmp_path / "calm", steps)
    assert calm.wait(timeout=300) == 0, calm.stderr.read()
    for life in range(3):
        process = driver(folder, steps)
        alive = at_work(process, folder, rng)
        if life < 2:
            os.kill(rng.choice(alive), signal.SIGKILL)
            alive = at_work(process, folder, rng)
        assert process.poll() is None, "the sweep ended before it could be killed: make it longer"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{p}").exists() for p in alive):
            assert time.monotonic() < deadline, "workers stay when their driver has died"
            time.sleep(0.02)
    last = driver(folder, steps)
    assert last.wait(timeout=300) == 0, last.stderr.read()
    assert_same_runs(tmp_path / "calm", folder)


@pytest.mark.slow
def test_ray_trains_the_same_and_retries_a_killed_worker(tmp_path, driver):
    """Two local Ray workers; one is killed mid-pack; the sweep ends equal to the local engine's."""
    pytest.importorskip("ray")
    steps = 1500
    calm = driver(tmp_path / "calm", steps)
    assert calm.wait(timeout=300) == 0, calm.stderr.read()
    process = driver(tmp_path / "ray", steps, "ray")
    at_work(process, tmp_path / "ray", random.Random(0))
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in found.splitlines()}

    def descends(pid: int) -> bool:
        while pid in parents and pid != process.pid:
            pid = parents[pid]
        return pid == process.pid

    mine = [int(line.split()[0]) for line in found.splitlines() if "ray::run_pack" in line]
    mine = [pid for pid in mine if descends(pid)]
    assert mine, "no Ray worker of this sweep was found"
    os.kill(mine[0], signal.SIGKILL)
    assert process.wait(timeout=300) == 0, process.stderr.read()
    assert_same_runs(tmp_path / "calm", tmp_path / "ray")


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

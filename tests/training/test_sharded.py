"""Runs shared by two processes (gloo, CPU) are those runs in one process, and a process that fails ends them both."""

import json

import pytest

from memscape.errors import FolderError, PlanError
from memscape.folder import writing
from memscape.models import scaled
from memscape.training import Plan, engines, sweep
from tests.training.small import small_plan

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def two_processes(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(engines, "n_cores", lambda: 2)


@pytest.mark.parametrize(("engine", "members"), [("ddp", 2), ("fsdp", 1), ("fsdp", 2)])
def test_two_processes_train_the_runs_of_one(engine, members, tmp_path):
    """Losses of the rows agree to 1e-5, dropout and weight decay on; the folder is that of any run."""
    whole = small_plan(steps=60, pack_size=2, weight_decay=0.1)
    plan = Plan.of(whole.runs[:members], name="few", pack_size=members)
    alone = sweep(plan, tmp_path / "alone")
    shared = sweep(plan, tmp_path / "shared", engine=engine, device="cpu")
    assert len(shared) == members
    for one, other in zip(alone, shared, strict=True):
        for name in ("train_loss", "fresh_loss", "other_loss"):
            assert other[name] == pytest.approx(one[name], abs=1e-5)
        assert other["steps"] == one["steps"] == 60
        config = json.loads((tmp_path / "shared" / "runs" / one["run_id"] / "config.json").read_text())
        assert config["memscape"]["run_id"] == one["run_id"]


def test_a_pack_that_cannot_be_cut_is_refused(tmp_path):
    """No axis behind the pack axis is even: one line names the parameter and the way out."""
    plan = Plan.grid(
        "odd", [scaled(15, 263, seq_len=15, n_heads=1)], n_tokens=(512,), learning_rates=(5e-3, 1e-2),
        steps=lambda model, n: 4, corpus="sample", batch_size=2, pack_size=2,
    )  # fmt: skip
    with pytest.raises(PlanError, match=r"cannot cut a parameter of \d+(x\d+)* into 2 .* 2; use pack_size=1 or"):
        sweep(plan, tmp_path, engine="fsdp", device="cpu")


def test_a_process_that_is_refused_does_not_leave_the_other_waiting(tmp_path):
    """Another program writes in the pack's folder: process 0 says so while process 1 has begun."""
    plan = Plan.of(small_plan().runs[:1], name="one", pack_size=1)
    with writing(tmp_path / "packs" / plan.packs[0].pack_id), pytest.raises(FolderError, match="another memscape"):
        sweep(plan, tmp_path, engine="ddp", device="cpu")


def test_processes_see_the_gpus_that_were_named(monkeypatch):
    """A GPU keeps its name among those that this process sees."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [engines.visible(f"cuda:{i}") for i in (1, 3)] == ["1", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-abc")
    assert engines.visible("cuda:1") == "GPU-abc"


def test_a_gpu_is_named_once(monkeypatch, tmp_path):
    """Two processes that share a pack do not share a GPU."""
    monkeypatch.setattr(engines, "devices", lambda device: device.split(","))
    with pytest.raises(PlanError, match="got cuda:0,cuda:0; name each GPU once"):
        next(engines.shared("ddp", str(tmp_path), ["000"], 1, "cuda:0,cuda:0", engines.Budget()))

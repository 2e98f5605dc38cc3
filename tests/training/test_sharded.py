"""One run shared by two processes (gloo, CPU) is that run in one process."""

import json

import pytest

from memscape.training import Plan, sweep
from tests.training.small import small_plan


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_train_the_run_of_one(engine, tmp_path):
    """Losses of the row agree to 1e-5, dropout and weight decay on; the folder is that of any run."""
    whole = small_plan(steps=60, pack_size=1, weight_decay=0.1)
    plan = Plan.of(whole.runs[:1], name="one", pack_size=1)
    (alone,) = sweep(plan, tmp_path / "alone")
    (shared,) = sweep(plan, tmp_path / "shared", engine=engine, device="cpu")
    for name in ("train_loss", "fresh_loss", "other_loss"):
        assert shared[name] == pytest.approx(alone[name], abs=1e-5)
    assert shared["steps"] == alone["steps"] == 60
    config = json.loads((tmp_path / "shared" / "runs" / plan.runs[0].run_id / "config.json").read_text())
    assert config["memscape"]["run_id"] == plan.runs[0].run_id

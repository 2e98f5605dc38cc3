"""Trackers see finished runs, and can break nothing."""

import sys
from types import ModuleType

import pytest

from memscape.errors import PlanError
from memscape.training import engines, sweep
from tests.training.small import small_plan
from tests.training.test_sweeps import in_process


class Tracker(ModuleType):
    """A tracker that remembers what it is told."""

    def __init__(self, broken=False):
        super().__init__("trackio")
        self.told, self.broken = [], broken

    def init(self, **options):
        if self.broken:
            raise ConnectionError("no route to host")
        self.told.append(("init", options["project"], options["name"], options["config"]["learning_rate"]))

    def log(self, metrics, step=None):
        self.told.append(("log", step, sorted(metrics)[0]))

    def finish(self):
        self.told.append(("finish",))


@pytest.mark.parametrize("broken", [False, True])
def test_every_finished_run_is_logged_once(tmp_path, monkeypatch, capsys, broken):
    """Configuration, four evaluations and the result of each of four runs; a broken tracker is a line on stderr."""
    module = Tracker(broken)
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setitem(engines.ENGINES, "here", in_process)
    assert sweep(small_plan(steps=20), tmp_path, engine="here", track="trackio").complete
    kinds = [event[0] for event in module.told]
    assert [kinds.count(kind) for kind in ("init", "log", "finish")] == ([0, 0, 0] if broken else [4, 4 * 5, 4])
    assert ("was not tracked (ConnectionError" in capsys.readouterr().err) == broken


def test_unknown_and_missing_trackers_are_told(tmp_path, monkeypatch):
    """Before anything is trained."""
    with pytest.raises(PlanError, match="known: trackio, wandb"):
        sweep(small_plan(), tmp_path, track="tensorbird")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(PlanError, match="pip install wandb"):
        sweep(small_plan(), tmp_path, track="wandb")

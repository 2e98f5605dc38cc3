"""Plans: every run in one pack, packs of one shape, halves when memory runs out."""

import pytest

from memscape.errors import PlanError
from memscape.models import build, scaled
from memscape.training import Plan, RunConfig, price, recipes
from memscape.training.plan import Pack
from tests.training.small import small_plan


def run(run_id, **fields):
    return RunConfig(**{"run_id": run_id, "model": scaled(16, 264), "n_tokens": 4096, "steps": 10, **fields})


def test_runs_of_one_shape_and_schedule_share_packs():
    """Seeds, rates and data sizes may differ inside a pack; shapes and steps may not; no pack exceeds its size."""
    runs = [run(f"a{i}", seed=i, learning_rate=1e-3 * (i + 1), n_tokens=1000 * (i + 1)) for i in range(5)]
    runs += [run("b", steps=20), run("c", model=scaled(32, 264))]
    plan = Plan.of(runs, name="x", pack_size=3)
    assert sorted(len(p.run_ids) for p in plan.packs) == [1, 1, 2, 3]
    assert sorted(i for p in plan.packs for i in p.run_ids) == sorted(r.run_id for r in runs)
    for pack in plan.packs:
        assert len({m.shape for m in plan.members(pack)}) == 1


def test_a_plan_survives_json():
    """What plan.json holds is the whole plan."""
    plan = recipes.smoke()
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_split_keeps_every_run_and_the_order():
    """The halves stand where the pack stood; a pack of one cannot be split and says so."""
    plan = Plan.of([run(f"a{i}", seed=i) for i in range(5)], name="x", pack_size=8)
    halved, names = plan.split(plan.packs[0])
    assert names == [p.pack_id for p in halved.packs]
    assert [p.run_ids for p in halved.packs] == [("a0", "a1", "a2"), ("a3", "a4")]
    single = Plan.of([run("a")], name="x")
    with pytest.raises(PlanError, match="lower its batch_size"):
        single.split(single.packs[0])


def test_wrong_plans_are_refused():
    """A run twice, a run in no pack, a pack of two shapes: each is told."""
    a, b = run("a"), run("b", steps=20)
    with pytest.raises(PlanError, match="names 1 runs twice"):
        Plan.of([a, a], name="x")
    with pytest.raises(PlanError, match="exactly one pack"):
        Plan(name="x", axes={}, runs=(a, b), packs=(Pack(pack_id="0", run_ids=("a",)),))
    with pytest.raises(PlanError, match="mixes shapes"):
        Plan(name="x", axes={}, runs=(a, b), packs=(Pack(pack_id="0", run_ids=("a", "b")),))
    with pytest.raises(PlanError, match=r"Did you mean 'laptop'\?"):
        recipes.named("labtop")


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_makes_a_plan_that_says_what_varies(name):
    """Scientific, nuisance and fixed axes are named, and at least two rates are tried for every model and data size."""
    plan = recipes.named(name)()
    assert set(plan.axes.scientific) == {"d_model", "n_tokens"}
    rates = {}
    for r in plan.runs:
        rates.setdefault((r.model, r.n_tokens), set()).add(r.learning_rate)
    assert min(map(len, rates.values())) >= (2 if name == "smoke" else 3)
    assert all(role in str(plan) for role in ("scientific", "nuisance", "fixed"))


def test_a_plan_is_priced_on_a_share_of_it(monkeypatch):
    """What takes a calibration too long is measured on fewer members and sequences, and the time is scaled up."""
    members = list(small_plan(batch_size=16, pack_size=4).runs)
    shapes = []
    monkeypatch.setattr(price, "_timed", lambda work, device: 1.0)
    monkeypatch.setattr(price, "build", lambda model, n: shapes.append(n) or build(model, n))
    assert price._calibrate(members, "cpu") == (1.0, 1.0 / 16)
    monkeypatch.setattr(price, "CALIBRATED", members[0].flops / members[0].steps / 2)  # half of one member's step
    assert price._calibrate(members, "cpu") == (8.0, 4.0 / 8)
    assert shapes == [4, 1]

"""One pack from start to end: it learns, stops where it should, and goes on exactly where it was stopped."""

import json
import math

import pyarrow.parquet
import pytest
import torch

from memscape.errors import FolderError
from memscape.models import huggingface, scaled
from memscape.progress import Budget
from memscape.training import Plan, checkpoint, trainer
from memscape.training.results import COLUMNS
from memscape.training.trainer import evaluation_steps, train
from tests.training.small import assert_same_runs, small_plan


class Countdown(Budget):
    """A budget of so many looks: it is spent at the n-th time it is asked."""

    def __init__(self, looks):
        super().__init__(None)
        self.looks = looks

    @property
    def spent(self):
        self.looks -= 1
        return self.looks < 0


def rows(folder):
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(folder.glob("runs/*/result.json"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A plan and the folder of its sweep, trained in one go."""
    folder, plan = tmp_path_factory.mktemp("undisturbed"), small_plan(steps=100)
    for pack in plan.packs:
        done = train(plan, pack, folder)
        assert done.finished
        assert 0 < done.step_tokens < done.tokens
        assert 0 < done.step_seconds < done.seconds
    return plan, folder


def test_a_stopped_pack_goes_on_exactly(undisturbed, tmp_path):
    """Stopped every few steps and begun again, a pack leaves the same results, weights and histories, and no parts."""
    plan, folder = undisturbed
    for pack in plan.packs:
        starts, place = 0, tmp_path / "packs" / pack.pack_id
        place.mkdir(parents=True)
        (place / ".checkpoint.safetensors.k2x0_aaa.safetensors").write_bytes(b"a killed write")
        while not train(plan, pack, tmp_path, budget=Countdown(1)).finished:
            starts += 1
            assert not (tmp_path / "runs").exists() or pack is not plan.packs[0]
        assert starts >= 2
        assert [p.name for p in place.iterdir()] == ["timing.json"]
        spent = json.loads((place / "timing.json").read_text())
        assert 0 <= spent["step_seconds"] < spent["seconds"]
        assert 0 <= spent["step_tokens"] < spent["tokens"]
    assert_same_runs(folder, tmp_path)


def test_a_run_is_the_same_in_another_pack(undisturbed, tmp_path):
    """One by one instead of two by two: losses agree to 1e-4 (sums differ in the last bit)."""
    plan, folder = undisturbed
    singles = Plan.of(plan.runs, name=plan.name, axes=plan.axes, pack_size=1)
    for pack in singles.packs:
        train(singles, pack, tmp_path)
    packed, alone = rows(folder), rows(tmp_path)
    for run_id, row in packed.items():
        for loss in ("train_loss", "fresh_loss", "other_loss"):
            assert row[loss] == pytest.approx(alone[run_id][loss], abs=1e-4)


def test_a_row_says_what_happened(undisturbed):
    """Counts, floors and losses of the row agree with the plan and with each other."""
    plan, folder = undisturbed
    for run_id, row in rows(folder).items():
        run = plan.by_id[run_id]
        assert (row["n_tokens"], row["n_sequences"], row["steps"]) == (run.n_tokens, run.n_tokens // 16, 100)
        assert row["epochs"] == pytest.approx(100 * 4 / row["n_sequences"])
        assert row["tokens_seen"] == 100 * 4 * 16
        assert row["uniform_loss"] == pytest.approx(math.log(256))
        assert row["floor"] <= math.log(row["n_sequences"]) / 16 + 1e-9
        assert row["floor"] < row["train_loss"] < row["uniform_loss"]
        assert row["status"] == "finished"
        assert row["n_eval_train"] == min(64, row["n_sequences"])
        bits = row["n_tokens"] * max(0.0, row["best_fresh_loss"] - row["train_loss"]) / math.log(2)
        assert row["memorised_bits"] == pytest.approx(bits)


def test_history_and_model_of_a_run_can_be_read(undisturbed):
    """metrics.parquet has a row an evaluation; the folder's weights give the loss that the row says."""
    plan, folder = undisturbed
    run_id, row = next((k, r) for k, r in rows(folder).items() if r["n_eval_train"] == r["n_sequences"])
    table = pyarrow.parquet.read_table(folder / "runs" / run_id / "metrics.parquet").to_pydict()
    assert [name for name in table if name != "run_id"] == COLUMNS
    assert table["step"] == evaluation_steps(plan.by_id[run_id])
    assert table["train_loss"][-1] == pytest.approx(row["train_loss"])
    best = table["fresh_loss"].index(min(table["fresh_loss"]))
    assert (row["best_train_loss"], row["best_fresh_loss"]) == (table["train_loss"][best], table["fresh_loss"][best])
    at = next(i for i, step in enumerate(table["step"]) if step >= 75)  # of 100
    assert row["late_fall"] == pytest.approx(table["train_loss"][at] - table["train_loss"][-1])
    split = trainer.prepare(plan, plan.by_id[run_id], folder)
    tokens = torch.from_numpy(split.subset(row["n_tokens"]).tokens.astype("int64"))
    inputs = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=split.tokenizer.bos_id)
    logits = huggingface.read(folder / "runs" / run_id)(inputs[None])[0]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).item()
    assert loss == pytest.approx(row["train_loss"], abs=1e-4)


def test_random_tokens_are_memorised_to_their_floor(tmp_path):
    """16 sequences of 16 random tokens: the loss comes within 5 % of ln 16 / 16 and the run stops there, converged."""
    plan = Plan.grid(
        "random", [scaled(32, 40, seq_len=16)], n_tokens=[256], learning_rates=[1e-2], steps=lambda m, n: 2000,
        corpus="random:32", batch_size=16, stop_within=0.05, evaluations=12, warmup=20,
    )  # fmt: skip
    train(plan, plan.packs[0], tmp_path)
    (row,) = rows(tmp_path).values()
    assert row["status"] == "converged"
    assert row["steps"] < 2000
    assert row["floor"] == pytest.approx(math.log(16) / 16)
    assert row["floor"] <= row["train_loss"] <= 1.05 * row["floor"]
    assert row["extracted_share"] == 1.0
    assert row["data_bits"] == 256 * 5
    assert row["memorised_bits"] == pytest.approx((256 * math.log(32) - 256 * row["train_loss"]) / math.log(2))
    assert row["fresh_loss"] > row["uniform_loss"]


def test_a_diverging_run_is_reported_and_its_neighbours_are_not(tmp_path):
    """A rate of 1e6 ends as `diverged`; the other member of the pack finishes with the loss it has without it."""
    plan = small_plan(dropout=0.0, pack_size=4)
    runs = [r.model_copy(update={"learning_rate": 1e6}) if "lr0.01" in r.run_id else r for r in plan.runs]
    wild = Plan.of(runs, name="wild", pack_size=4)
    train(plan, plan.packs[0], tmp_path / "calm")
    train(wild, wild.packs[0], tmp_path / "wild")
    calm, beside = rows(tmp_path / "calm"), rows(tmp_path / "wild")
    for run_id, row in beside.items():
        if "lr0.01" in run_id:
            assert row["status"] == "diverged"
        else:
            assert row == calm[run_id]


def test_a_damaged_checkpoint_is_reported_and_its_pack_starts_over(undisturbed, tmp_path, capsys):
    """The sentence names the file; the results are those of an undisturbed run."""
    plan, folder = undisturbed
    pack = plan.packs[0]
    train(plan, pack, tmp_path, budget=Countdown(1))
    place = tmp_path / "packs" / pack.pack_id / "checkpoint.safetensors"
    place.write_bytes(place.read_bytes()[:-100])
    assert train(plan, pack, tmp_path).finished
    assert "is damaged" in capsys.readouterr().err
    for run_id in pack.run_ids:
        name = f"runs/{run_id}/result.json"
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_disk_that_fills_stops_nothing_but_what_needs_it(undisturbed, tmp_path, monkeypatch, capsys):
    """Checkpoints that cannot be written are reported and training goes on; results that cannot be are an error."""
    plan, folder = undisturbed
    pack, save = plan.packs[0], checkpoint.save
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    tries = []

    def full(path, tensors, identity):
        tries.append(path)
        if len(tries) < 3:
            raise FolderError(f"the disk is full: {path} was not written; free some space and repeat the command.")
        save(path, tensors, identity)

    monkeypatch.setattr(checkpoint, "save", full)
    assert train(plan, pack, tmp_path).finished
    assert capsys.readouterr().err.count("Training goes on without a checkpoint") == 2
    for run_id in pack.run_ids:
        name = f"runs/{run_id}/result.json"
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    tries.clear()
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 1e9)
    with pytest.raises(FolderError, match="the disk is full"):
        train(plan, plan.packs[1], tmp_path)
    assert not list(tmp_path.glob(f"runs/{plan.packs[1].run_ids[0]}/result.json"))


def test_members_with_other_data_seeds_share_a_pack(tmp_path):
    """Each trains on and is held out from its own split: packed, losses are those of the runs alone."""
    base = small_plan(dropout=0.0).runs[0]
    runs = [base.model_copy(update={"run_id": f"data{seed}", "data_seed": seed}) for seed in (0, 1, 2)]
    together, apart = (Plan.of(runs, name="seeds", pack_size=n) for n in (3, 1))
    for plan, folder in ((together, tmp_path / "together"), (apart, tmp_path / "apart")):
        for pack in plan.packs:
            train(plan, pack, folder)
    packed, alone = rows(tmp_path / "together"), rows(tmp_path / "apart")
    assert len({row["floor"] for row in packed.values()} | {row["fresh_loss"] for row in packed.values()}) > 3
    for run_id, row in packed.items():
        for loss in ("train_loss", "fresh_loss", "other_loss"):
            assert row[loss] == pytest.approx(alone[run_id][loss], abs=1e-4)


def test_lines_of_different_lengths_are_trained_on_without_their_padding(tmp_path):
    """Question-Formation: losses are means over real tokens, the begin token is a target too (it ends each line)."""
    plan = Plan.grid(
        "lines", [scaled(16, 72, seq_len=40)], n_tokens=[2_000], learning_rates=[1e-2], steps=lambda m, n: 60,
        corpus="question-formation", tokenizer="words", batch_size=8, evaluations=3, n_evaluated=16, warmup=5,
    )  # fmt: skip
    train(plan, plan.packs[0], tmp_path)
    (row,) = rows(tmp_path).values()
    assert 1_900 <= row["n_tokens"] <= 2_000
    assert row["n_sequences"] < 2_000 / 15
    assert row["tokens_seen"] == pytest.approx(row["epochs"] * row["n_tokens"], abs=1)
    assert row["uniform_loss"] == pytest.approx(math.log(row["vocab_size"]))
    assert row["floor"] < row["train_loss"] < 0.8 * row["uniform_loss"]

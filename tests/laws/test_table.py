"""Tables from anywhere, checked before a law sees them: every bad table gets a clear sentence."""

import csv
import json
import math

import numpy as np
import pytest

from memscape.errors import TableError
from memscape.folder import write_json
from memscape.laws.table import RunTable
from tests.laws.planted import rows, write_grid

SMALL = {"sizes": (5_000, 14_000), "data_sizes": (4_000, 8_000), "rates": (1e-3,), "seeds": 1}


def changed(**columns):
    """The planted rows with every value of some columns replaced by a function of the row."""
    return [{**row, **{k: f(row) for k, f in columns.items()}} for row in rows(**SMALL)]


def test_csv_parquet_json_frames_columns_and_rows_are_one_table(tmp_path):
    """The same runs read the same from every source."""
    import pandas
    import pyarrow
    import pyarrow.parquet

    table = rows(**SMALL)
    with (tmp_path / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "runs.parquet")
    write_json(tmp_path / "runs.json", table)
    (tmp_path / "runs.jsonl").write_text("\n".join(json.dumps(row) for row in table))
    frame = pandas.DataFrame(table)
    sources = [tmp_path / f"runs.{kind}" for kind in ("csv", "parquet", "json", "jsonl")]
    sources += [frame, pyarrow.Table.from_pylist(table), frame.to_dict(orient="list")]
    expected = RunTable.read(table)
    for source in sources:
        found = RunTable.read(source)
        np.testing.assert_allclose(found.column("train_loss"), expected.column("train_loss"))
        assert list(found.column("run_id")) == list(expected.column("run_id"))


def test_a_result_folder_is_read_run_by_run(tmp_path):
    """runs/<id>/result.json, a row a run."""
    assert len(RunTable.read(write_grid(tmp_path, **SMALL))) == 4


def test_runs_that_were_still_memorising_are_said():
    """A frontier read from runs that end too soon measures their length, and the note says so."""
    calm, eager = (RunTable.read(changed(late_fall=lambda row, g=g: g * row["fresh_loss"])) for g in (0.001, 0.1))
    assert not calm.notes
    assert "still gained 10 % of the text's bits in their last quarter" in eager.notes[0]


def test_columns_are_known_by_other_names_and_by_the_callers():
    """N, tokens, lr and val_loss need no map; anything else is mapped."""
    table = RunTable.read([{"N": 1e5, "Tokens": 1e4, "LR": 1e-3, "Val Loss": 3.2, "w": 7}], columns={"seed": "w"})
    assert table.column("n_params")[0] == 1e5
    assert table.column("heldout_loss")[0] == 3.2
    assert table.column("seed")[0] == 7


def test_tokens_follow_from_training_flop():
    """D = C / 6N, as for the digitised Chinchilla runs."""
    table = RunTable.read([{"n_params": 1e9, "training_flop": 6e18, "loss_nats_per_token": 2.5}])
    assert table.column("n_tokens")[0] == pytest.approx(1e9)
    assert "n_tokens is inferred" in table.notes[0]


def test_bits_are_converted_when_named():
    """units='bits' divides every loss by log2 e."""
    nats, bits = (
        RunTable.read(rows(**SMALL)),
        RunTable.read(
            changed(
                **{
                    k: (lambda row, k=k: row[k] / math.log(2))
                    for k in ("train_loss", "fresh_loss", "floor", "uniform_loss")
                }
            ),
            units="bits",
        ),
    )
    np.testing.assert_allclose(bits.column("train_loss"), nats.column("train_loss"))


def test_where_keeps_the_matching_rows():
    """A selection by value; one that selects nothing is an error."""
    assert len(RunTable.read(rows(**SMALL), where={"n_params": 5_000})) == 2
    with pytest.raises(TableError, match="no row has n_params = 6000"):
        RunTable.read(rows(**SMALL), where={"n_params": 6_000})


def test_each_seed_is_read_at_the_rate_best_for_the_others():
    """Seed 0 alone would flatter rate a; what it is given is the rate that seed 1 prefers."""
    losses = {("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): 2.0, ("b", 1): 2.5}
    table = RunTable.read(
        [
            {
                "n_params": 1e4,
                "n_tokens": 1e4,
                "learning_rate": {"a": 1e-3, "b": 1e-2}[rate],
                "seed": s,
                "train_loss": v,
            }
            for (rate, s), v in losses.items()
        ]
    )
    assert sorted(table.cells("train_loss").seeds[0]) == [2.0, 3.0]


def test_choosing_a_rate_does_not_flatter_noise():
    """With three equal rates the mean over cells is the truth, not the minimum of the noise."""
    rng = np.random.default_rng(0)
    table = RunTable.read(
        [
            {
                "n_params": 1e4,
                "n_tokens": 1e3 * (1 + c),
                "learning_rate": r,
                "seed": s,
                "train_loss": 3 + rng.normal(0, 0.1),
            }
            for c in range(200)
            for r in (1e-3, 3e-3, 1e-2)
            for s in range(2)
        ]
    )
    assert table.cells("train_loss").value.mean() == pytest.approx(3.0, abs=0.02)


def test_one_seed_is_read_at_its_best_rate():
    """Without a second seed there is nothing else to go by."""
    table = RunTable.read(rows(**{**SMALL, "rates": (1e-3, 3e-3, 1e-2)}))
    assert all(runs[0].endswith("r1-s0") for runs in table.cells("heldout_loss").runs)


def test_runs_that_differ_in_epochs_are_cells_of_their_own():
    """The same size, data, rate and seed trained longer is another point of the repeated-data law."""
    base = {"n_params": 1e4, "n_tokens": 1e4, "seed": 0, "learning_rate": 1e-3}
    table = RunTable.read([{**base, "epochs": e, "tokens_seen": 1e4 * e, "loss": 4 - 0.1 * e} for e in (1, 4, 16)])
    assert len(table.cells("heldout_loss")) == 3


def test_held_out_loss_is_the_lowest_along_the_run():
    """The last loss of an overfitted model says how long it ran, not what the size can do."""
    plain, late = (RunTable.read(rows(history=h, **SMALL)) for h in (False, True))
    assert (late.column("fresh_loss") > plain.column("fresh_loss")).all()
    np.testing.assert_allclose(late.column("heldout_loss"), plain.column("heldout_loss"))
    assert "lowest along each run" in late.notes[0]


def test_a_run_without_its_loss_at_that_time_keeps_its_place():
    """Rows of an older folder lack the training loss at the lowest held-out loss: the last takes its place, aloud."""
    late = rows(history=True, **SMALL)
    whole = RunTable.read(late)
    half = RunTable.read([row | {"best_train_loss": math.nan if i % 2 else 0.5} for i, row in enumerate(late)])
    assert any(f"of {len(late) // 2} of {len(late)} runs the training loss" in note for note in half.notes)
    assert len(half.cells("best_train_loss")) == len(whole.cells("heldout_loss"))
    taken = half.column("best_train_loss")
    np.testing.assert_allclose(np.sort(taken[taken != 0.5]), np.sort(whole.column("train_loss")[1::2]))


def test_random_tokens_carry_capacity_and_no_law_of_loss():
    """Random tokens have nothing to generalise; their bits stand as they are."""
    worse = {"best_fresh_loss": lambda row: 1.3 * row["uniform_loss"]}  # after memorising they are sure and wrong
    table = RunTable.read(changed(corpus=lambda row: "random:512", **worse))
    assert table.carries("capacity")
    assert not table.carries("chinchilla")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ([], "found no rows"),
        ([{"n_params": 1e4, "loss": 3.0}], "expected a column 'n_tokens'.*--column n_tokens=.*columns={'n_tokens':"),
        ([{"n_params": 1e4, "n_tokens": 1e4}], "expected a loss.*--column fresh_loss="),
        ({"n_params": [1e4, 2e4], "n_tokens": [1e4]}, "columns of one length"),
        (3.5, "got float"),
        ("nowhere/at/all.csv", "found nothing"),
        ("nowhere", "found nothing; check the path"),
        ("x" * 300, "File name too long"),
        ([{"n_params": 1e4, "n_tokens": 1e4, "loss": math.nan}], "none of the 1 rows .* fresh_loss is not a number"),
        (changed(train_loss=lambda row: "n/a"), "none of the 4 rows .* train_loss is not a number"),
        (changed(n_params=lambda row: -1.0), "n_params is not positive"),
        (changed(status=lambda row: "diverged"), "the run diverged"),
        (changed(train_loss=lambda row: row["floor"] - 0.1), "4 of 4 training losses lie under their floor, by 0.1"),
        (changed(train_loss=lambda row: 1.44 * row["uniform_loss"]), "bits suspected; pass units='bits' in Python"),
        (changed(train_loss=lambda row: 40.0), "take ln of perplexities"),
        (changed(tokenizer=lambda row: f"bpe-{row['n_tokens']}"), "mixes 2 values of tokenizer"),
        (changed(run_id=lambda row: "same"), "two rows are called 'same' and disagree"),
    ],
)
def test_a_bad_table_is_refused_in_a_sentence(source, sentence):
    """Expected, got, next move; never a silent fit."""
    with pytest.raises(TableError, match=sentence) as problem:
        RunTable.read(source)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.csv", b"", "cannot be read as one"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "Expected 2 fields in line 3"),
        ("binary.csv", b"\x00\xff\x89PNG\n\n\xfe", "convert it to UTF-8"),
        ("wide.csv", "N,D,loss\n1,2,3\n".encode("utf-16"), "convert it to UTF-8"),
        ("bad.parquet", b"nope", "smaller than the minimum"),
        ("bad.jsonl", b'{"a":\n', "export it again"),
        ("numbers.json", b'{"a": 1}', "scalar values"),
        ("word.json", b'"abc"', "cannot be read as one"),
        ("cut.json", b"[{", "line 1 column 3"),
        ("semicolons.csv", b"N;D;loss\n1;2;3,5\n", "expected commas between the columns of .* got semicolons"),
        ("tabs.csv", b"N\tD\tloss\n1\t2\t3\n", "got tabs"),
        ("fit.json", b'{"table": {"source": "runs.csv"}}', "a fit of runs.csv and not its runs; give that table"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, name, content, sentence):
    """What pandas and pyarrow raise is one line that says which file, why and what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=sentence) as problem:
        RunTable.read(tmp_path / name)
    assert str(tmp_path) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_table_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    """Root may read everything, so the refusal is planted."""

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("memscape.laws.reading._csv", refused)
    (tmp_path / "runs.csv").write_text("N\n1\n")
    with pytest.raises(TableError, match=r"\(Permission denied\); check its permissions"):
        RunTable.read(tmp_path / "runs.csv")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"frobnicate": "D"}, "column 'frobnicate' is unknown; known: .*n_tokens"),
        ({"n_token": "D"}, "Did you mean 'n_tokens'"),
        ({"n_tokens": "D", "seed": "D"}, "maps both 'n_tokens' and 'seed' to 'D'"),
        ({"seed": "w"}, "maps 'seed' to 'w', which is no column"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(columns, sentence):
    """A name that no law reads would be taken without effect, a column under two names counted twice."""
    with pytest.raises(TableError, match=sentence):
        RunTable.read([{"N": 1e5, "D": 1e4, "loss": 3.2}], columns=columns)


def test_a_folder_without_runs_says_what_makes_them(tmp_path):
    """An empty folder is answered with the command."""
    with pytest.raises(TableError, match="memscape sweep"):
        RunTable.read(tmp_path)


def test_single_bad_rows_are_dropped_with_their_reasons():
    """A nan, a duplicate and a loss under its floor go; the rest stays, and the reasons are kept."""
    table = rows(**{**SMALL, "data_sizes": tuple(range(4_000, 14_000, 1_000))})
    table[0]["train_loss"] = math.nan
    table[1]["train_loss"] = 0.5 * table[1]["floor"]
    table.append(dict(table[2]))
    found = RunTable.read(table)
    assert len(found) == len(table) - 3
    reasons = found.describe()["dropped_reasons"]
    assert reasons == {
        "train_loss is not a number": 1,
        "the training loss lies under its floor": 1,
        "a duplicate of an earlier row": 1,
    }


def test_an_overfitted_last_loss_above_ln_v_is_no_unit_error():
    """Held-out loss may exceed ln V honestly when the lowest along the run is known."""
    table = [{**row, "fresh_loss": row["uniform_loss"] * 1.5} for row in rows(history=True, **SMALL)]
    assert len(RunTable.read(table)) == 4


def test_unmapped_columns_are_named():
    """A law that lacks a column says which there are, and both ways to map one."""
    with pytest.raises(TableError, match=r"the law needs 'floor'.*--column floor="):
        RunTable.read([{"N": 1e5, "D": 1e4, "loss": 3.2}]).column("floor")

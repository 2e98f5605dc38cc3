"""Tables in SQL: everything in the folder can be asked, nothing outside can be reached."""

import shutil
import tarfile
from pathlib import Path

import pytest

from memscape.errors import FolderError, TableError
from memscape.training import bundle, engines, ls, sweep
from tests.training.small import small_plan
from tests.training.test_sweeps import in_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tables") / "sweep"
    sweep(small_plan(steps=20), out)
    return out


def test_runs_metrics_and_packs_can_be_asked(folder):
    """A join over all three tables; without a query the finished runs."""
    answer = ls(
        folder,
        "select p.pack_id, count(*) as n, min(m.train_loss) as best from runs r join packs p using (run_id) "
        "join metrics m using (run_id) group by p.pack_id order by p.pack_id",
    )
    assert answer.n.tolist() == [8, 8]
    assert ls(folder).run_id.tolist() == [r.run_id for r in small_plan(steps=20).runs]


@pytest.mark.parametrize(
    "query",
    [
        "copy runs to '{out}/stolen.csv'",
        "attach '{out}/other.db'",
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "install httpfs",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "selec * from runs",
    ],
)
def test_nothing_outside_can_be_read_or_written(folder, query):
    """COPY, ATTACH, files, extensions and the switches themselves fail, in one line."""
    with pytest.raises(TableError, match=r"^the query cannot be answered: [^\n]*$"):
        ls(folder, query.format(out=folder))
    assert not list(folder.glob("stolen*"))


def test_python_variables_are_not_tables(folder):
    """DuckDB's habit of reading variables of the caller is off too."""
    import pandas

    secret = pandas.DataFrame({"x": [1]})
    with pytest.raises(TableError):
        ls(folder, "select * from secret")
    assert len(secret) == 1


def test_a_folder_without_a_sweep_is_told(tmp_path):
    """The message says what was expected."""
    with pytest.raises(FolderError, match=r"no plan\.json"):
        ls(tmp_path)


def test_a_bundle_holds_results_and_no_weights(folder):
    """Small, whole, and with the weights of exactly the runs that are asked for."""
    path = bundle(folder)
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert f"{folder.name}/plan.json" in names
    assert sum(name.endswith("result.json") for name in names) == 4
    assert not any(name.endswith((".safetensors", ".npy", ".lock")) for name in names)
    assert path.stat().st_size < 200_000
    assert not any("tokens" in Path(name).parts for name in names)
    with tarfile.open(bundle(folder, weights="*lr0.01-s0")) as archive:
        kept = [name for name in archive.getnames() if name.endswith("model.safetensors")]
    assert len(kept) == 2
    assert all("lr0.01-s0" in name for name in kept)
    with pytest.raises(FolderError, match="matches no run"):
        bundle(folder, weights="gpt3*")


def test_a_sweep_goes_on_from_an_unpacked_bundle(folder, tmp_path, monkeypatch):
    """On another machine only the runs that the bundle lacks are trained, and end as they would have here."""
    monkeypatch.setitem(engines.ENGINES, "here", in_process)
    with tarfile.open(bundle(folder)) as archive:
        archive.extractall(tmp_path, filter="data")
    there, lacking = tmp_path / folder.name, small_plan(steps=20).packs[0].run_ids
    for run_id in lacking:
        shutil.rmtree(there / "runs" / run_id)
    before = {path: path.stat().st_mtime_ns for path in there.glob("runs/*/result.json")}
    assert len(before) == 2
    assert sweep(small_plan(steps=20), there, engine="here").complete
    assert before.items() <= {path: path.stat().st_mtime_ns for path in there.glob("runs/*/result.json")}.items()
    for run_id in lacking:
        result = f"runs/{run_id}/result.json"
        assert (there / result).read_bytes() == (folder / result).read_bytes()

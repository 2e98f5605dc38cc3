"""A sweep whose folder is an fsspec URL ends with the same files there as one on a path."""

import pytest

from memscape.errors import FolderError
from memscape.progress import Budget
from memscape.training import sweep
from memscape.training.remote import Mirror
from memscape.training.worker import run_pack
from tests.training.small import assert_same_runs, small_plan


@pytest.mark.parametrize("url", ["file://{tmp_path}/there", "memory://there"])
def test_a_mirror_brings_and_sends_what_matches(tmp_path, url):
    """What is pushed can be pulled elsewhere; result.json goes last; unchanged files are not sent again."""
    url = url.format(tmp_path=tmp_path)
    here, sent = Mirror(url), []
    put, here.files.put_file = here.files.put_file, lambda path, remote: (sent.append(remote), put(path, remote))
    for name in ("result.json", "model.safetensors"):
        path = here.folder / "runs" / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    here.push("runs/*/*")
    assert [remote.rsplit("/", 1)[1] for remote in sent] == ["model.safetensors", "result.json"]
    here.push("runs/*/*")
    assert len(sent) == 2
    here.files.put_file = put
    other = Mirror(url)
    other.pull("runs/*/*.json")
    assert [p.name for p in (other.folder / "runs" / "a").iterdir()] == ["result.json"]
    assert (other.folder / "runs" / "a" / "result.json").read_text() == "result.json"


def test_an_unknown_scheme_is_told():
    """One line that names the URL."""
    with pytest.raises(FolderError, match="nowhere://x cannot be reached"):
        Mirror("nowhere://x")


@pytest.mark.slow
def test_a_sweep_on_a_url_equals_one_on_a_path(tmp_path):
    """Trained by worker processes through file://, stopped once in between."""
    plan, url = small_plan(), f"file://{tmp_path}/there"
    sweep(plan, tmp_path / "here")
    assert not sweep(plan, url, budget=0).complete
    runs = sweep(plan, url)
    assert runs.complete
    assert_same_runs(tmp_path / "here", tmp_path / "there")
    assert sweep(plan, url, budget=Budget(0)).complete  # nothing is left to do
    event = run_pack(url, plan.packs[0].pack_id, "cpu", 1, None)
    assert event["event"] == "finished"

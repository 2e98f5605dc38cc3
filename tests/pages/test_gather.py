"""What a folder holds, whole or in parts."""

import pytest

from memscape.errors import FolderError
from memscape.pages import gather
from tests.pages.example import make


def test_every_part_of_a_study_is_found(study):
    """The contract between rooms: files at their places."""
    story = gather(study)
    assert len(story.runs) == 20
    assert story.profiles == ("probe/SmolLM2-135M/profile.json",)
    assert {"fit.json", "advice.json", "audit.json", "study.json"} <= set(story.records.files)


def test_a_probe_folder_alone_is_a_story(tmp_path):
    """`memscape probe --out DIR` leaves the profile at the top of its folder."""
    folder = make(tmp_path, ("probe",)) / "probe" / "SmolLM2-135M"
    assert gather(folder).profiles == ("profile.json",)


def test_a_damaged_file_is_named_and_the_rest_is_told(tmp_path):
    """One broken run must not cost the page."""
    folder = make(tmp_path, ("runs",))
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "result.json").write_text('{"run_id": "b')
    (folder / "fit.json").write_text("[1, 2]")
    story = gather(folder)
    assert story.damaged == ("fit.json", "runs/broken/result.json")
    assert len(story.runs) == 20


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_results_says_what_was_looked_for(tmp_path, there):
    """Expected, got, next move."""
    folder = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(FolderError, match=r"expected .* found none.* run `memscape study"):
        gather(folder)

"""A result folder never holds half a file, never two plans, never two writers."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from memscape.errors import FolderError
from memscape.folder import claim, read_json, write_json, write_whole, writing
from memscape.theory.measure import Measured


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """An exception in the middle leaves the old file and no stray part of the new one."""
    path = write_json(tmp_path / "a.json", {"old": 1})

    def broken(part: Path) -> None:
        part.write_text("half of the new")
        raise ValueError("killed")

    with pytest.raises(ValueError, match="killed"):
        write_whole(path, broken)
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_numbers_of_numpy_models_and_paths_become_json(tmp_path):
    """What rooms hand over is written as plain values; a number that is not finite becomes null, never NaN."""
    measured = Measured(value=1.5, unit="nats", n=3)
    content = {"a": np.float32(0.5), "b": np.arange(3), "c": float("nan"), "d": measured, "e": tmp_path, 1: (1, 2)}
    found = read_json(write_json(tmp_path / "a.json", content))
    assert found["a"] == 0.5
    assert found["b"] == [0, 1, 2]
    assert found["c"] is None
    assert Measured.model_validate(found["d"]) == measured
    assert found["1"] == [1, 2]


def test_a_folder_belongs_to_the_plan_that_began_it(tmp_path):
    """The same identity continues; another is refused, and the message names the field that differs."""
    path = tmp_path / "study.json"
    assert claim(path, {"recipe": "laptop", "seed": 0}) is False
    assert claim(path, {"recipe": "laptop", "seed": 0}) is True
    with pytest.raises(FolderError, match=r"its seed is 0, this command's is 1; choose another --out"):
        claim(path, {"recipe": "laptop", "seed": 1})
    assert json.loads(path.read_text())["seed"] == 0


def test_a_damaged_file_is_named(tmp_path):
    """The message says which file to delete, and does not pretend that it was absent."""
    (tmp_path / "fit.json").write_text('{"laws": ')
    with pytest.raises(FolderError, match=r"fit\.json cannot be read as JSON.*delete it"):
        read_json(tmp_path / "fit.json")
    with pytest.raises(FolderError, match="found none"):
        read_json(tmp_path / "absent.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    """ENOSPC says what was not written and what to do."""

    def write(part: Path) -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100_000)

    with pytest.raises(FolderError, match="the disk is full"):
        write_whole(tmp_path / "a.json", write)


def test_a_full_disk_told_by_safetensors_is_the_same_line(tmp_path):
    """Its exception is no OSError, but the reader of the message need not know."""

    def write(part: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(FolderError, match="the disk is full"):
        write_whole(tmp_path / "a.safetensors", write)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_told_by_numpy_is_the_same_line(tmp_path):
    """A short write comes as two counts and no error number."""
    with pytest.raises(FolderError, match="the disk is full"):
        write_whole(tmp_path / "a.npy", lambda part: np.zeros(100_000).tofile("/dev/full"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    """A file where a folder is needed: works as root too, where permissions do not bind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="choose an --out folder"):
        write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(FolderError, match="choose an --out folder"), writing(tmp_path / "file" / "out"):
        pass


def _hold(folder: Path) -> None:
    with writing(folder):
        (folder / "held").touch()
        time.sleep(60)


def test_one_writer_at_a_time_and_a_killed_one_leaves_no_lock(tmp_path):
    """A second process is refused while the first works, and welcome once it is gone, however it went."""
    other = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,))
    other.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(FolderError, match="another memscape process"), writing(tmp_path):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with writing(tmp_path):
        pass

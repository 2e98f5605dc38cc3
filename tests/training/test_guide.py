"""docs/training.md leads from a text file to a trained, loadable grid: its commands are run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memscape.data import open_corpus
from memscape.training import Runs

GUIDE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.slow
def test_the_five_commands_of_the_guide(tmp_path):
    """On 60 kB as book.txt: each command ends well, the grid is complete, the archive has weights."""
    commands = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(commands) == 5
    text = "\n\n".join(document.text for document in open_corpus("sample", limit=60_000))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    outputs = []
    for command in commands:
        command = command.replace("memscape ", f"{sys.executable} -m memscape.cli ", 1)
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        outputs.append(done.stdout)
    assert "18 runs in" in outputs[0]
    assert Runs.load(tmp_path / "runs" / "book").complete
    assert "train_loss" in outputs[2]
    assert len(outputs[3].encode()) > 20
    archive = tmp_path / "runs" / "book.tar.gz"
    assert archive.exists()
    assert archive.stat().st_size > 100_000

"""Training runs on a bare GPU image: what it must not need, it does not import."""

import subprocess
import sys

SCRIPT = """
import sys, tempfile, pathlib
from memscape.training import sweep
from memscape.training.worker import run_pack
from tests.training.small import small_plan
plan = small_plan(steps=4)
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "plan.json").write_text(plan.model_dump_json())
assert run_pack(folder, plan.packs[0].pack_id, "cpu", 1, None)["event"] == "finished"
print(sorted({"duckdb", "plotly", "datasets", "transformers"} & set(sys.modules)))
"""


def test_training_imports_neither_duckdb_nor_plotly_nor_datasets():
    """A pack trained from start to end, its folder written, in a fresh interpreter; nor transformers."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"

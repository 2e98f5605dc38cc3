"""A plan of seconds for the tests of sweeps, and how to compare what two sweeps left."""

from pathlib import Path

import pyarrow.parquet
from safetensors.torch import load_file

from memscape.models import scaled
from memscape.training import Plan


def small_plan(corpus="sample", steps=60, pack_size=2, **fields) -> Plan:
    """Four runs in two packs (of one width, two rates and two data sizes) on short byte sequences."""
    return Plan.grid(
        "small",
        [scaled(16, 264, seq_len=16)],
        n_tokens=(512, 2048),
        learning_rates=(5e-3, 1e-2),
        steps=lambda model, n: steps,
        corpus=corpus, **{"batch_size": 4, "evaluations": 4, "n_evaluated": 16, "warmup": 10, "dropout": 0.1, **fields},
        pack_size=pack_size,
    )  # fmt: skip


def assert_same_runs(one: Path, other: Path) -> None:
    """Results byte for byte, weights bit for bit, histories row for row."""
    names = sorted(p.name for p in (one / "runs").iterdir())
    assert names == sorted(p.name for p in (other / "runs").iterdir())
    for name in names:
        a, b = one / "runs" / name, other / "runs" / name
        assert (a / "result.json").read_bytes() == (b / "result.json").read_bytes(), name
        first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
        assert all(first[key].equal(second[key]) for key in first | second), name
        tables = [pyarrow.parquet.read_table(x / "metrics.parquet") for x in (a, b)]
        assert tables[0].equals(tables[1]), name

"""The recall experiments: the textbook capacities at small size, and a folder that can be interrupted."""

import numpy as np
import pytest
import torch

from memscape.errors import FolderError
from memscape.folder import read_json
from memscape.memory import recall
from memscape.memory.capacity import Series, damaged, half_point, settle, signs, success
from memscape.memory.retrieval import retrieve
from memscape.progress import Budget


def test_damage_flips_the_share_it_says():
    """10 % of 24 signs is 2 or 3, 2.4 on average."""
    generator = torch.Generator().manual_seed(0)
    patterns = signs(4000, 24, generator=generator)
    flips = (damaged(patterns, 0.1, generator) != patterns).sum(1)
    assert set(flips.tolist()) == {2, 3}
    assert flips.double().mean().item() == pytest.approx(2.4, abs=0.03)


def test_many_networks_at_once_settle_as_one_alone():
    """The batched network reaches fixed points of the plain update, from the same cues."""
    generator = torch.Generator().manual_seed(1)
    patterns = signs(3, 5, 60, generator=generator)
    ends = settle(damaged(patterns, 0.1, generator), patterns, generator)
    for network in range(3):
        again = retrieve(ends[network], patterns[network], energy="classical").state
        assert torch.equal(again, ends[network])


def test_the_classical_network_fails_above_its_capacity():
    """n = 300: nearly all cues return at load 0.08, few at 0.25."""
    assert success("classical", 300, 24, 0.0, 6, 10, 0).mean() > 0.95
    assert success("classical", 300, 75, 0.0, 6, 10, 0).mean() < 0.2


def test_dense_and_exponential_memories_hold_more_than_n_patterns():
    """n = 40, degree 3: 60 patterns; exponential, n = 20: 100 patterns; the classical network holds neither."""
    assert success("dense", 40, 60, 0.1, 3, 20, 0).mean() > 0.8
    assert success("exponential", 20, 100, 0.1, 3, 20, 0).mean() > 0.8
    assert success("classical", 40, 60, 0.1, 3, 20, 0).mean() < 0.1


def test_the_half_point_is_interpolated():
    """Success 1, 0.75, 0.25: half way between the last two loads; 1, 0.75: as far again; no fall: none."""
    shares = np.array([[1.0], [0.75], [0.25]])
    assert half_point(np.array([0.1, 0.2, 0.3]), shares) == pytest.approx(0.25)
    assert half_point(np.array([0.1, 0.2]), shares[:2]) == pytest.approx(0.3)
    assert np.isnan(half_point(np.array([0.1, 0.2]), np.ones((2, 1))))
    assert np.isnan(half_point(np.array([0.1, 0.2]), shares[1:] - 0.5))


@pytest.mark.slow
def test_a_stopped_run_continues_and_another_plan_is_refused(tmp_path):
    """The budget stops it cleanly; the same command finishes it with the numbers of an unbroken run."""
    series = [Series("exponential", n, 0.1, (0.5, 2.0, 8.0), 8, 20) for n in (8, 10, 12)]
    stopped = recall(tmp_path / "a", series=series, budget=Budget(0.0))
    assert stopped.left == 9
    assert "9 points are left" in stopped.sentence
    whole = recall(tmp_path / "a", series=series)
    assert whole == recall(tmp_path / "b", series=series)
    rate = whole.capacity["exponential"]
    assert rate.low < rate.value < rate.high
    assert read_json(tmp_path / "a" / "recall.json")["capacity"]["exponential"]["value"] == rate.value
    assert "exponential up to 2^(a n)" in (tmp_path / "a" / "recall.html").read_text()
    with pytest.raises(FolderError, match="another plan"):
        recall(tmp_path / "a", series=series[:1])

"""The Memory object: what users store comes back, from memory and from disk."""

import math

import numpy as np
import pytest
import torch

import memscape
from memscape.errors import FolderError, MemscapeError, ShapeError
from memscape.memory import Memory, Shards
from memscape.memory import energies as e
from memscape.memory.layered import global_energy, layer_energies, mixture_step


def test_corrupted_cues_come_back_with_falling_energy():
    """Store, damage, recall: the state is the pattern, the energy trace falls, the sentence says so."""
    patterns = torch.randn(30, 20)
    memory = Memory(patterns, beta=2.0)
    answer = memory.recall(patterns + 0.2 * torch.randn(30, 20))
    assert torch.equal(answer.nearest, torch.arange(30))
    assert torch.allclose(answer.state, patterns, atol=1e-2)
    assert (answer.energies[1:] <= answer.energies[:-1] + 1e-4).all()
    assert "at a stored pattern" in answer.outcome


@pytest.mark.parametrize("kind", ["classical", "dense", "rectified", "exponential"])
def test_binary_memories_return_from_flipped_signs(kind):
    """Five patterns of 100 signs, ten flipped."""
    patterns = torch.randn(5, 100, generator=torch.Generator().manual_seed(1)).sign()
    cue = patterns.clone()
    cue[:, :10] *= -1
    memory = Memory(patterns, energy=kind)
    answer = memory.recall(cue, generator=torch.Generator().manual_seed(0))
    assert torch.equal(answer.state, patterns)
    assert torch.allclose(memory.energy(patterns).float(), answer.energies[-1], rtol=1e-5)


def test_energy_nearest_and_separation_equal_the_plain_functions():
    """The object adds no mathematics of its own; single states keep their shape."""
    patterns = torch.randn(50, 8, dtype=torch.float64)
    state = torch.randn(8, dtype=torch.float64, requires_grad=True)
    memory = Memory(patterns, beta=0.4)
    assert torch.allclose(memory.energy(state), e.distance_energy(state, patterns, 0.4))
    (gradient,) = torch.autograd.grad(memory.energy(state), state)
    assert torch.allclose(gradient, e.distance_gradient(state.detach(), patterns, 0.4))
    assert memory.nearest(state.detach(), 3).index.shape == (1, 3)
    away = torch.cdist(patterns, patterns).fill_diagonal_(torch.inf).amin(1)
    assert torch.allclose(memory.separation(), away)
    assert Memory(patterns, energy="mchn", beta=0.4).energy(state).shape == ()


def test_patterns_are_added_deleted_saved_and_loaded(tmp_path):
    """A round trip through safetensors keeps patterns, energy and beta."""
    memory = Memory(energy="mchn", beta=0.1 + 0.2).store(torch.randn(4, 3))
    assert memory.add(torch.ones(3)) == 4
    memory.delete([0, -2])
    assert len(memory) == 3
    assert torch.equal(memory[2], torch.ones(3))
    loaded = Memory.load(memory.save(tmp_path / "memory.safetensors"))
    assert torch.equal(loaded.patterns, memory.patterns)
    assert (loaded.kind, loaded.beta) == ("mchn", memory.beta)
    memory.delete([0, 1, 2])
    assert len(memory) == 0


def test_a_folder_of_shards_is_a_memory(tmp_path):
    """Recall, energy and separation from disk equal those from memory."""
    patterns = torch.randn(90, 5)
    Shards.write(tmp_path, patterns.split(40))
    disk, plain = Memory.load(tmp_path), Memory(patterns)
    assert torch.allclose(disk.energy(patterns[:4]), plain.energy(patterns[:4]), rtol=1e-4, atol=1e-4)
    assert torch.allclose(disk.separation(), plain.separation(), rtol=1e-5)
    assert torch.equal(disk[89], patterns[89])
    with pytest.raises(ShapeError, match="shards on disk"):
        disk.store(patterns)


def test_the_family_of_errors_is_at_the_top():
    """Whoever catches what memscape refuses needs no inner module."""
    assert memscape.MemscapeError is MemscapeError
    assert issubclass(memscape.ShapeError, memscape.MemscapeError)


def test_mistakes_get_one_line():
    """Empty memories, unknown energies, missing files, wrong widths and indices."""
    with pytest.raises(ShapeError, match="store"):
        Memory().recall(torch.ones(3))
    with pytest.raises(MemscapeError, match="Did you mean 'distance'"):
        Memory(energy="distanse")
    with pytest.raises(FolderError, match="found none"):
        Memory.load("/nowhere")
    with pytest.raises(ShapeError, match="width 3"):
        Memory(torch.ones(2, 3)).recall(torch.ones(4))
    with pytest.raises(ShapeError, match="below 2"):
        Memory(torch.ones(2, 3)).delete(5)
    with pytest.raises(ShapeError, match="finite numbers, got NaN"):
        Memory(torch.ones(2, 3)).recall(torch.tensor([1.0, math.nan, 0.0]))


@pytest.mark.parametrize("kind", ["distance", "mchn", "classical"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_arrays_and_whole_numbers_are_patterns_and_cues(kind, dtype):
    """What numpy holds is stored and recalled, whatever the types of the two."""
    patterns = np.sign(np.random.default_rng(0).normal(size=(3, 64))).astype(dtype)
    memory = Memory(patterns, energy=kind, beta=2.0)
    assert memory.patterns.is_floating_point()
    for cue in (patterns[1], torch.as_tensor(patterns[1]).float(), patterns[1].astype(float)):
        assert memory.recall(cue).nearest.tolist() == [1]
        assert memory.nearest(cue).index.tolist() == [[1]]
        assert memory.energy(cue).isfinite()
    assert memory.add(patterns[0]) == 3
    assert len(Memory().store(patterns)) == 3


def test_an_answer_prints_what_a_person_asks():
    """Nearest pattern, energy from and to, steps, outcome: not 64 numbers."""
    memory = Memory(torch.eye(4), beta=8.0)
    told = str(memory.recall(torch.tensor([0.9, 0.2, 0.0, 0.1])))
    assert told.startswith("nearest pattern 0, at squared distance ")
    assert "; energy fell from 0.06 to " in told
    assert told.endswith("steps\nThe state stood still within 3 steps, all at a stored pattern.")
    many = str(memory.recall(torch.eye(4).repeat(3, 1))).splitlines()
    assert len(many) == 10
    assert many[1].startswith("cue 1: nearest pattern 1")
    assert many[8] == "and 4 more cues"


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_inverse_temperature_is_refused(beta):
    """Where the memory is made, and where a recall brings its own."""
    with pytest.raises(ShapeError, match="finite beta above 0"):
        Memory(torch.eye(4), beta=beta)
    with pytest.raises(ShapeError, match="finite beta above 0"):
        Memory(torch.eye(4)).recall(torch.ones(4), beta=beta)


@pytest.fixture
def stack() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(m, 3, generator=generator, dtype=torch.float64) for m in (4, 1, 7)]
    return parts, torch.randn(10, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.3, 1.0, 7.0])
def test_the_global_energy_is_the_energy_of_the_union(stack, beta):
    """Exactly, in any order of layers, weighted or not (eq. 7)."""
    parts, x = stack
    union = e.distance_energy(x, torch.cat(parts), beta)
    assert torch.allclose(global_energy(layer_energies(x, parts, beta), beta), union, rtol=2e-15, atol=2e-15)
    assert torch.allclose(global_energy(layer_energies(x, parts[::-1], beta), beta), union, rtol=2e-15, atol=2e-15)
    shares = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    weights = torch.repeat_interleave(shares, torch.tensor([4, 1, 7]))
    weighted = e.distance_energy(x, torch.cat(parts), beta, weights)
    assert torch.allclose(global_energy(layer_energies(x, parts, beta), beta, shares), weighted, atol=1e-13)


def test_the_mixture_of_layers_steps_as_the_union_does(stack):
    """Layers weighted by softmax(-beta E_t), each its own mean shift: the mean shift of all patterns."""
    parts, x = stack
    union = torch.cat(parts)
    assert torch.allclose(mixture_step(x, parts, 0.7), e.responsibilities(x, union, 0.7) @ union, atol=1e-12)

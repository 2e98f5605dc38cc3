"""The Memory object: what users store comes back, from memory and from disk."""

import pytest
import torch

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

"""Retrieval: energies that never rise, the bounds that promise a return, and outcomes that tell the truth."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from memscape.errors import MemscapeError, ShapeError
from memscape.memory import separation as s
from memscape.memory.retrieval import BINARY, CONTINUOUS, retrieve
from memscape.memory.shards import Shards


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(CONTINUOUS), beta=st.floats(0.05, 10), a=st.floats(0.1, 2.0))
@settings(max_examples=100, deadline=None)
def test_continuous_updates_never_raise_the_energy(seed, kind, beta, a):
    """Damped mean shift descends for 0 <= a <= 2 (by (2a - a^2)|m - x|^2), attention undamped."""
    generator = torch.Generator().manual_seed(seed)
    patterns = 2 * torch.randn(9, 4, generator=generator, dtype=torch.float64)
    cue = 2 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    answer = retrieve(cue, patterns, energy=kind, beta=beta, damping=a if kind == "distance" else 1.0, max_steps=30)
    assert (answer.energies[1:] <= answer.energies[:-1] + 1e-10).all()


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(BINARY), n_patterns=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_flips_never_raise_the_energy_and_end_at_fixed_points(seed, kind, n_patterns):
    """Asynchronous signs, every F: no sweep raises the energy, and a second retrieval changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(n_patterns, 16, generator=generator, dtype=torch.float64).sign()
    cue = torch.randn(5, 16, generator=generator, dtype=torch.float64).sign()
    answer = retrieve(cue, patterns, energy=kind, degree=4, generator=generator)
    assert (answer.energies[1:] <= answer.energies[:-1] + 1e-9).all()
    assert answer.converged.all()
    again = retrieve(answer.state, patterns, energy=kind, degree=4, generator=generator)
    assert torch.equal(again.state, answer.state)


@given(seed=st.integers(0, 10**6), beta=st.floats(1, 30))
@settings(max_examples=60, deadline=None)
def test_certified_patterns_draw_every_start_in_their_ball_to_one_point(seed, beta):
    """The storage certificate: three starts on the ball's surface end at one fixed point inside it."""
    generator = torch.Generator().manual_seed(seed)
    patterns = 2 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    radius = 0.3 * s.separation(patterns).min().item()
    sure = s.stored(s.to_others(patterns), radius, beta)
    way = torch.nn.functional.normalize(torch.randn(3, 6, 4, generator=generator, dtype=torch.float64), dim=2)
    ends = retrieve(patterns + radius * way, patterns, beta=beta, max_steps=200, tolerance=1e-12).state.view(3, 6, 4)
    assert ((ends - patterns).norm(dim=2) <= radius + 1e-9)[:, sure].all()
    assert torch.allclose(ends[0][sure], ends[1][sure], atol=1e-6)
    assert torch.allclose(ends[0][sure], ends[2][sure], atol=1e-6)


def test_streamed_retrieval_agrees_with_the_plain_one(tmp_path):
    """Patterns on disk: the same states, energies and neighbours."""
    patterns = torch.randn(200, 6)
    cue = patterns[:9] + 0.1 * torch.randn(9, 6)
    plain = retrieve(cue, patterns, beta=3.0)
    streamed = retrieve(cue, Shards.write(tmp_path, patterns.split(70)), beta=3.0)
    assert torch.allclose(plain.state, streamed.state, atol=1e-4)
    assert torch.equal(plain.nearest, streamed.nearest)
    assert torch.allclose(plain.energies[0], streamed.energies[0], rtol=1e-4, atol=1e-4)


def test_outcomes_tell_what_happened():
    """A pattern found, a mixture found, and no time left are three sentences."""
    patterns = torch.eye(4, dtype=torch.float64)
    cue = torch.tensor([[0.9, 0.2, 0.0, 0.1]], dtype=torch.float64)
    assert "all at a stored pattern" in retrieve(cue, patterns, beta=8.0).outcome
    assert "0 of 1 at a stored pattern" in retrieve(cue, patterns, beta=0.1).outcome
    stopped = retrieve(cue, patterns, beta=1.0, max_steps=2)
    assert "raise max_steps" in stopped.outcome
    assert not stopped.converged.any()
    assert stopped.steps.tolist() == [2]


def test_wrong_cues_are_refused_in_one_line():
    """Width, unknown energies and states that are no signs."""
    patterns = torch.ones(2, 4)
    with pytest.raises(ShapeError, match="width 4"):
        retrieve(torch.ones(3), patterns)
    with pytest.raises(MemscapeError, match="known: classical"):
        retrieve(torch.ones(4), patterns, energy="hopfield")
    with pytest.raises(ShapeError, match="take their sign"):
        retrieve(torch.rand(4), patterns, energy="classical")

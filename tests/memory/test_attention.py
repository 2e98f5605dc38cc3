"""HopfieldAttention against PyTorch's own attention, and its energy against descent."""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from memscape.errors import MemscapeError, ShapeError
from memscape.memory import energies as e
from memscape.memory.attention import HopfieldAttention


@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_multihead_attention_with_converted_weights(bias):
    """Same outputs to 1e-6 in float32, both ways of conversion, with masks and a separate memory."""
    theirs = torch.nn.MultiheadAttention(32, 4, bias=bias, batch_first=True)
    ours = HopfieldAttention.from_multihead(theirs)
    x, memory = torch.randn(3, 7, 32), torch.randn(3, 9, 32)
    mask = torch.rand(7, 9) > 0.3
    mask[:, 0] = True
    expected = theirs(x, memory, memory, attn_mask=~mask)[0]
    assert torch.allclose(ours(x, memory, mask=mask), expected, atol=1e-6)
    assert torch.allclose(ours.to_multihead()(x, memory, memory, attn_mask=~mask)[0], expected, atol=1e-6)


def test_one_update_is_scaled_dot_product_attention():
    """A head's update on its own keys: softmax(q K / sqrt(d)) K, and one unit step down the mchn energy."""
    q, k = torch.randn(5, 16, dtype=torch.float64), torch.randn(11, 16, dtype=torch.float64)
    read = scaled_dot_product_attention(q[None], k[None], k[None])[0]
    assert torch.allclose(q - e.mchn_gradient(q, k, 1 / math.sqrt(16)), read, atol=1e-12)


def test_distance_attention_is_attention_with_a_key_norm_bias():
    """softmax(2 beta q.k - beta |k|^2) equals the responsibilities softmax(-beta |q - k|^2)."""
    q, k = torch.randn(5, 16, dtype=torch.float64), torch.randn(11, 16, dtype=torch.float64)
    beta = 1 / (2 * math.sqrt(16))
    shares = e.responsibilities(q, k, beta)
    scores = (q @ k.mT) / math.sqrt(16) - k.square().sum(1) / (2 * math.sqrt(16))
    assert torch.allclose(scores.softmax(1), shares, atol=1e-12)


@pytest.mark.parametrize("kind", ["mchn", "distance"])
def test_the_energy_never_rises_over_50_steps_in_1000_cases(kind):
    """1,000 queries among random keys of random scale: no step of 50 raises the energy."""
    torch.manual_seed(0)
    layer = HopfieldAttention(8, 2, energy=kind).double()
    scale = torch.logspace(-1, 1.5, 100, dtype=torch.float64)[:, None, None]
    levels = layer.trace(
        scale * torch.randn(100, 5, 8, dtype=torch.float64), scale * torch.randn(100, 6, 8).double(), 50
    )
    assert levels.shape == (51, 100, 2, 5)
    assert (levels[1:] - levels[:-1] <= 1e-10 * (1 + levels[:-1].abs())).all()


def test_more_steps_follow_the_trace():
    """The forward pass with two steps reads its values at the state after one update on the keys."""
    layer = HopfieldAttention(12, 3, energy="distance", steps=2).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    heads = lambda v: v.unflatten(-1, (3, 4)).transpose(1, 2)  # noqa: E731
    q, k, v = heads(layer.query(x)), heads(layer.key(x)), heads(layer.value(x))
    for _ in range(2):
        shares = e.responsibilities(q, k.unsqueeze(2), layer.beta)
        q, read = shares @ k, shares @ v
    assert torch.allclose(layer(x), layer.out(read.transpose(1, 2).flatten(2)), atol=1e-12)
    assert torch.equal(layer.energy(x), layer.trace(x, steps=3)[0])


@pytest.mark.parametrize("kind", ["mchn", "distance"])
def test_causal_attention_has_no_gradient_from_later_tokens(kind):
    """The gradient after the token is exactly zero."""
    layer = HopfieldAttention(8, 2, energy=kind, steps=2).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64, requires_grad=True)
    layer(x, is_causal=True)[0, 2].sum().backward()
    assert (x.grad[0, 3:] == 0).all()
    assert (x.grad[0, :3] != 0).any()


def test_wrong_shapes_are_refused():
    """Heads that do not divide, unknown energies, attention of several widths."""
    with pytest.raises(ShapeError, match="must divide"):
        HopfieldAttention(10, 3)
    with pytest.raises(MemscapeError, match="known: distance, mchn"):
        HopfieldAttention(10, 2, energy="dense")
    with pytest.raises(ShapeError, match="one width"):
        HopfieldAttention.from_multihead(torch.nn.MultiheadAttention(8, 2, kdim=4))

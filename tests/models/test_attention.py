"""Positions and sparse attention: what they keep, and where they end."""

import torch

from memscape.models.attention import attend_top_k, rotate, score_bias


def test_rotary_keeps_norms_and_depends_on_distance_alone():
    """Turned queries and keys keep their lengths, and their product is a function of the distance between them."""
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(2, 1, 1, 12, 8)
    turned_q, turned_k = rotate(q), rotate(k)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    scores = (turned_q @ turned_k.mT)[0, 0]
    for distance in range(4):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)


def test_alibi_slopes_are_the_published_ones():
    """Eight heads: 1/2, 1/4, ... 1/256 (Press et al. 2022, section 3)."""
    bias = score_bias(8, 3, None, "alibi")
    assert bias[:, 1, 0].tolist() == [-(2.0**-i) for i in range(1, 9)]
    assert torch.isinf(bias[:, 0, 1]).all()


def test_top_k_with_all_keys_is_plain_attention():
    """Keeping every score changes nothing; keeping one returns the value of the nearest key."""
    q, k, v = torch.randn(3, 2, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    full = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(attend_top_k(q, k, v, 6, None), full)
    scores = (q @ k.mT).masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -torch.inf)
    best = v.gather(2, scores.argmax(-1, keepdim=True).expand(-1, -1, -1, 4))
    torch.testing.assert_close(attend_top_k(q, k, v, 1, None), best)

"""Dropout masks: the right share, scaled right, and functions of nothing but seed, step, site and position."""

import torch

from memscape.models.dropout import Noise, dropout, mix


def noise(seeds, step=0, rates=(0.3,)):
    return Noise.draw(
        torch.tensor(seeds, dtype=torch.int32), torch.tensor(step, dtype=torch.int32), torch.tensor(rates)
    )


def test_the_share_dropped_is_the_rate_and_the_mean_stays():
    """Of 200,000 ones a share within 5 standard errors of the rate is zeroed; the rest is 1 / (1 - rate)."""
    rates = (0.0, 0.1, 0.5, 0.9)
    out = dropout(torch.ones(4, 10, 200, 100), noise((1, 2, 3, 4), rates=rates))
    for p, rate in enumerate(rates):
        zero = (out[p] == 0).float().mean().item()
        assert abs(zero - rate) <= 5 * (rate * (1 - rate) / 200_000) ** 0.5
        kept = out[p][out[p] != 0]
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)))


def test_masks_differ_by_seed_step_and_site_and_repeat_otherwise():
    """Two masks of different seed, step or site agree no more often than chance."""
    x = torch.ones(1, 10, 100, 100)
    base = dropout(x, noise((5,)).at(3)) == 0
    assert torch.equal(base, dropout(x, noise((5,)).at(3)) == 0)
    for other in (noise((6,)).at(3), noise((5,), step=1).at(3), noise((5,)).at(4)):
        agree = (base == (dropout(x, other) == 0)).float().mean().item()
        assert abs(agree - (0.3**2 + 0.7**2)) < 0.01


def test_the_mixer_is_lowbias32():
    """The hash equals its definition in unbounded integers, for all bit patterns that matter."""

    def reference(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    values = [0, 1, 2, 2**31 - 1, -1, -(2**31), 123_456_789]
    hashed = mix(torch.tensor(values, dtype=torch.int32))
    assert [h % 2**32 for h in hashed.tolist()] == [reference(v % 2**32) for v in values]

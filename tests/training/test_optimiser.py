"""Our AdamW against torch's, clipping against torch's, and what happens to a member that loses its numbers."""

import math

import pytest
import torch
from torch import nn

from memscape.models import build, scaled
from memscape.models.packed import initialise
from memscape.training import optimiser
from memscape.training.optimiser import Rows, Rule, adamw, schedule


def quadratic(weights, targets, step):
    """Gradients of a wobbling quadratic: large at first, so that clipping bites, small later."""
    return (weights - targets) * (1 + math.sin(step))


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_row_equals_torchs_adamw(clip):
    """80 steps of each of three members, own rate and decay, equal torch.optim.AdamW with clip_grad_norm_."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    targets = 5 * torch.randn(3, 40, generator=generator, dtype=torch.float64)
    rates, decays = [1e-3, 1e-2, 1e-1], [0.0, 0.1, 0.5]
    theirs = [nn.Parameter(row.clone()) for row in start]
    optimisers = [
        torch.optim.AdamW([p], lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=wd)
        for p, lr, wd in zip(theirs, rates, decays, strict=True)
    ]
    weights, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    ours = Rule(torch.tensor(rates, dtype=torch.float64), torch.tensor(decays, dtype=torch.float64), clip=clip)
    active = torch.ones(3, dtype=torch.bool)
    for step in range(80):
        gradients, at = quadratic(weights, targets, step), torch.tensor(step, dtype=torch.int32)
        _, active = adamw(Rows(weights, first, second), gradients, ours, at, active)
        for p, other, target in zip(theirs, optimisers, targets, strict=True):
            p.grad = quadratic(p.detach(), target, step)
            if clip:
                nn.utils.clip_grad_norm_([p], clip)
            other.step()
    torch.testing.assert_close(weights, torch.stack([p.detach() for p in theirs]), atol=1e-7, rtol=0)


def test_a_member_without_numbers_is_frozen_and_nobody_notices():
    """A gradient of NaN or infinity leaves the member's last good row and moments; the others are as without it."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4, 10, generator=generator)
    rule = Rule(torch.full((4,), 0.1), torch.zeros(4))

    def run(spoil):
        weights, first, second = torch.ones(4, 10), torch.zeros(4, 10), torch.zeros(4, 10)
        active = torch.ones(4, dtype=torch.bool)
        for step in range(3):
            g = gradients.clone()
            if spoil and step >= 1:
                g[1, 3], g[2, 0] = math.nan, math.inf
            _, active = adamw(Rows(weights, first, second), g, rule, torch.tensor(step, dtype=torch.int32), active)
            if step == 0:
                after_one = weights.clone()
        return weights, active, after_one

    clean, _, _ = run(spoil=False)
    spoiled, active, after_one = run(spoil=True)
    assert active.tolist() == [True, False, False, True]
    assert torch.equal(spoiled[[0, 3]], clean[[0, 3]])
    assert torch.equal(spoiled[[1, 2]], after_one[[1, 2]])


def test_parts_that_lie_apart_are_moved_as_a_row_is():
    """The same formula through PyTorch's fused kernel: clipped, decayed in part, one member without numbers."""
    generator = torch.Generator().manual_seed(0)
    start, targets = torch.randn(2, 3, 40, generator=generator)
    rule = Rule(
        torch.tensor([1e-3, 1e-2, 1e-1]), torch.tensor([0.0, 0.1, 0.5]), decayed=(torch.arange(40) < 24).float()
    )
    rows, one = Rows(start.clone(), *torch.zeros(2, 3, 40)), torch.ones(3, dtype=torch.bool)
    flat, other = Rows(start.clone(), *torch.zeros(2, 3, 40)), one.clone()
    for step in range(30):
        gradients, at = quadratic(rows.weights, targets, step), torch.tensor(step, dtype=torch.int32)
        gradients[1, 5] = math.nan if step == 20 else gradients[1, 5]
        norm, one = adamw(rows, gradients, rule, at, one)
        members = [
            optimiser.Parts(*(list(x[p].split(24)) for x in (*flat, gradients.clone())), [decay, 0.0])
            for p, decay in enumerate((0.0, 0.1, 0.5))
        ]
        other = optimiser.adamw_by_part(members, rule, at, other, norm)
        assert one.tolist() == other.tolist() == [True, step < 20, True]
    for ours, theirs in zip(flat, rows, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_decay_reaches_matrices_and_tables_alone():
    """Biases, gains and the gaps of the layout are not decayed."""
    model = build(scaled(16, 40), 2)
    slots, n = optimiser.lay_out(model)
    mask = optimiser.decayed(slots, n)
    for slot in slots:
        inside = mask[slot.start : slot.start + slot.size]
        assert bool((inside == float(slot.name.endswith("weight"))).all()), slot.name
    assert mask.sum() == sum(slot.size for slot in slots if slot.name.endswith("weight"))


def test_the_flat_matrix_is_the_model():
    """After flattening, parameters are views: moving a row moves that member; gradients land in the same places."""
    model = build(scaled(16, 40), 2)
    initialise(model, [0, 1])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    slots, n = optimiser.lay_out(model)
    flat = optimiser.flatten(model, slots, n, torch.float32)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
    flat[1] += 1
    for name, p in model.named_parameters():
        assert torch.equal(p[0], before[name][0])
        assert torch.equal(p[1], before[name][1] + 1)
    again = optimiser.in_rows([p.detach() for p in model.parameters()], slots, n)
    used = torch.zeros(n, dtype=torch.bool)
    for slot in slots:
        used[slot.start : slot.start + slot.size] = True
    assert torch.equal(again[:, used], flat[:, used])
    assert (again[:, ~used] == 0).all()


def test_by_row_is_the_same_update():
    """The CPU's fused rows equal the formula, decay mask, clipping, frozen members and NaN included."""
    start = torch.randn(4, 33, generator=torch.Generator().manual_seed(0))
    decayed = (torch.arange(33) < 20).float()
    rule = Rule(torch.tensor([1e-3, 1e-2, 0.1, 0.1]), torch.tensor([0.0, 0.1, 0.5, 0.0]), decayed)
    found = []
    for update in (adamw, optimiser.adamw_by_row):
        weights, first, second = start.clone(), torch.zeros(4, 33), torch.zeros(4, 33)
        active = torch.tensor([True, True, True, False])
        for step in range(20):
            gradients = torch.randn(4, 33, generator=torch.Generator().manual_seed(step)) * (1 + step % 3)
            if step > 5:
                gradients[2, 1] = torch.nan
            at = torch.tensor(step, dtype=torch.int32)
            norm, active = update(Rows(weights, first, second), gradients, rule, at, active)
        found.append((weights, first, second, active, norm))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, equal_nan=True)
    assert found[1][3].tolist() == [True, True, False, False]
    assert torch.equal(found[1][0][3], start[3])


@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_the_rate_rises_and_falls_as_named(kind):
    """Linear to 1 at the last warm-up step, then down to the final share at the last step (or level)."""
    rate = [schedule(torch.tensor(s, dtype=torch.int32), 100, 10, 0.1, kind).item() for s in range(100)]
    assert rate[0] == pytest.approx(0.1)
    assert rate[9] == pytest.approx(1.0)
    assert rate[99] == pytest.approx(1.0 if kind == "constant" else 0.1)
    assert rate[54] == pytest.approx(1.0 if kind == "constant" else 0.1 + 0.9 / 2, abs=1e-6)

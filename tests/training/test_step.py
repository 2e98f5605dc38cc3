"""The packed step: many models at once are those models, one by one."""

import os
import subprocess
import sys

import pytest
import torch

from memscape.models import build, scaled
from memscape.models.packed import initialise
from memscape.training.config import RunConfig
from memscape.training.step import PackedStep, begin, losses_and_gradient

CONFIG = scaled(16, 40, seq_len=12)


def runs(n, **fields):
    """n members that differ in seed, rate, decay and dropout."""
    return [
        RunConfig(
            run_id=str(i), model=CONFIG, n_tokens=1, steps=40, batch_size=3, seed=10 + i, warmup=5,
            learning_rate=2e-3 * (1 + i), weight_decay=0.05 * i, dropout=0.1 * (i % 3), z_loss=1e-3 * i, **fields,
        )
        for i in range(n)
    ]  # fmt: skip


def data(n, steps=25, seed=0):
    return torch.randint(0, 39, (steps, n, 3, 12), generator=torch.Generator().manual_seed(seed))


def losses(members, batches):
    """Losses step by step (steps, P) and the step at its end."""
    model = build(CONFIG, len(members))
    initialise(model, [run.seed for run in members])
    step = PackedStep(model, members, bos=39)
    curve = []
    for targets in batches:
        step(targets)
        curve.append(step.loss_P.clone())
    return torch.stack(curve), step


def test_a_pack_of_eight_is_eight_single_runs():
    """Losses agree step by step to 1e-5 with own seeds, rates, decays, z-losses and dropouts, one member diverging."""
    members = runs(8)
    members[5] = members[5].model_copy(update={"learning_rate": 1e4})
    batches = data(8)
    packed, _ = losses(members, batches)
    for p, run in enumerate(members):
        alone, _ = losses([run], batches[:, p : p + 1])
        if p == 5:
            assert alone[-1] > 100  # it has lost itself, in the pack as alone
            torch.testing.assert_close(packed[:4, p], alone[:4, 0], atol=1e-5, rtol=1e-5)
        else:
            torch.testing.assert_close(packed[:, p], alone[:, 0], atol=1e-5, rtol=0)


def test_the_others_do_not_notice_a_member_that_diverges():
    """Seven members' losses are the same whether the eighth trains at a sane rate or at one that explodes."""
    members, batches = runs(8), data(8)
    wild = [*members[:5], members[5].model_copy(update={"learning_rate": 1e4}), *members[6:]]
    calm, _ = losses(members, batches)
    beside, _ = losses(wild, batches)
    others = [p for p in range(8) if p != 5]
    assert torch.equal(calm[:, others], beside[:, others])


def test_a_member_that_turns_nan_is_frozen_and_counted():
    """Weights of NaN in one member end its training at that step and leave the others bit for bit alone."""
    members, batches = runs(3), data(3)
    clean, clean_step = losses(members, batches)
    model = build(CONFIG, 3)
    initialise(model, [run.seed for run in members])
    step = PackedStep(model, members, bos=39)
    for i, targets in enumerate(batches):
        if i == 10:
            step.weights[1, 0] = torch.nan
        step(targets)
        assert torch.equal(step.loss_P[[0, 2]], clean[i, [0, 2]])
    assert step.active.tolist() == [True, False, True]
    assert step.taken_P.tolist() == [25, 10, 25]
    assert torch.equal(step.weights[[0, 2]], clean_step.weights[[0, 2]])


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_the_closed_form_gradient_is_autograds(z_loss):
    """Loss and gradient in closed form, padding and z-loss included, equal autograd in float64."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 3, 5, 7, generator=generator)).requires_grad_()
    targets = torch.randint(0, 7, (2, 3, 5), generator=generator)
    targets[0, 1, 3:] = -1
    loss_P, gradient = losses_and_gradient(
        logits.detach(), targets, torch.full((2,), z_loss), (targets >= 0).sum((1, 2))
    )
    wide = logits.double()
    real = targets >= 0
    nll = torch.nn.functional.cross_entropy(wide.flatten(0, 2), targets.flatten(), reduction="none", ignore_index=-1)
    mean = nll.view(2, 3, 5).sum((1, 2)) / real.sum((1, 2))
    z = ((wide.logsumexp(-1) ** 2) * real).sum((1, 2)) / real.sum((1, 2))
    (want,) = torch.autograd.grad((mean + z_loss * z).sum(), logits)
    torch.testing.assert_close(loss_P, mean.float().detach())
    torch.testing.assert_close(gradient, want, atol=1e-7, rtol=1e-5)


def test_inputs_begin_and_stop_one_short():
    """The begin token comes first, the last target is never an input, padding is not a token."""
    targets = torch.tensor([[5, 6, 7, -1, -1]])
    assert begin(targets, 9).tolist() == [[9, 5, 6, 7, 9]]


COMPILED = """
import torch
from tests.training.test_step import CONFIG, data, losses, runs
from memscape.models import build
from memscape.models.packed import initialise
from memscape.training.step import PackedStep

members, batches = runs(3), data(3, steps=8)
want, _ = losses(members, batches)
model = build(CONFIG, 3)
initialise(model, [run.seed for run in members])
step = PackedStep(model, members, bos=39, compiled=True)
for targets, loss in zip(batches, want):
    step(targets)
    assert (step.loss_P - loss).abs().max() < 1e-4, (step.loss_P - loss)
print("equal")
"""


@pytest.mark.slow
def test_the_compiled_step_is_the_eager_step():
    """Losses agree to 1e-4 under torch.compile, dropout masks included (shape checks off: it cannot trace them)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment)
    if "InvalidCxxCompiler" in done.stderr or "No working C++ compiler" in done.stderr:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "equal"

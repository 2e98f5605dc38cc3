"""The GPU kernels, run on the CPU by Triton's interpreter, against plain PyTorch."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
import math, torch
from memscape.models import kernels as k

torch.manual_seed(0)
for Z, T, H, K in ((3, 16, 2, 16), (2, 37, 3, 32), (1, 64, 1, 16)):
    qkv = torch.randn(Z, T, 3 * H * K, requires_grad=True)
    q, key, v = (x.view(Z, T, H, K).transpose(1, 2) for x in qkv.split(H * K, dim=-1))
    want = torch.nn.functional.scaled_dot_product_attention(q, key, v, is_causal=True)
    want = want.transpose(1, 2).reshape(Z, T, H * K)
    got = k.short_attention(qkv, H)
    cotangent = torch.randn_like(want)
    (d_want,) = torch.autograd.grad(want, qkv, cotangent)
    (d_got,) = torch.autograd.grad(got, qkv, cotangent)
    assert torch.allclose(got, want, atol=2e-6), (got - want).abs().max()
    assert torch.allclose(d_got, d_want, atol=5e-6), (d_got - d_want).abs().max()

for N, V in ((7, 264), (5, 5000), (4, 9000)):
    logits = (3 * torch.randn(N, V)).requires_grad_()
    targets = torch.randint(0, V, (N,))
    targets[2] = -1
    weights, z_weights = torch.rand(N), torch.rand(N)
    weights[2] = z_weights[2] = 0.0
    nll, gradient = k.loss_and_gradient(logits.detach().clone(), targets, weights, z_weights)
    want = torch.nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=-1)
    objective = (weights * want + z_weights * logits.logsumexp(-1) ** 2).sum()
    (d_want,) = torch.autograd.grad(objective, logits)
    assert torch.allclose(nll, want, atol=1e-5)
    assert torch.allclose(gradient, d_want, atol=1e-5), (gradient - d_want).abs().max()
    assert torch.allclose(k.losses(logits.detach(), targets), want, atol=1e-5)

for N, D in ((1, 3), (700, 70), (1024, 64)):
    states = (1000 + torch.randn(N, D)) * torch.arange(1, D + 1)
    mean, variance = k.joined(*k.moments(states), N)
    want, around = states.double().mean(0), states.double().var(0, correction=0)
    assert torch.allclose(mean.double(), want, rtol=1e-6), (mean - want).abs().max()
    assert torch.allclose(variance.double(), around, rtol=1e-3), (variance / around - 1).abs().max()
for n in (1, 3000):
    codes = torch.randint(-(2**15), 2**15, (n, 2), dtype=torch.int16)
    table = torch.randint(-(2**15), 2**15, (2**16,), dtype=torch.int16)
    assert torch.equal(k.looked_up(codes, table), table[codes.int() & 0xFFFF])
print("equal")
"""


def test_kernels_equal_plain_pytorch():
    """Short attention, loss, their gradients, moments far from zero, tables; odd sizes and padding included."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "equal"

"""A recorded pass: which modules are tables of half-precision numbers, and that tables leave every bit as it was."""

from unittest.mock import patch

import pytest
import torch
from torch import nn

from memscape.instruments import replay
from tests.instruments.tiny import some_contexts, tiny


class Centred(nn.Module):
    """No parameters, one shape in and out, yet every number depends on its neighbours."""

    def forward(self, x):
        return x - x.mean(-1, keepdim=True)


class Told(nn.Module):
    """A function of single numbers that is told more than a number."""

    def forward(self, x, factor):
        return x * factor


class Folded(nn.Module):
    """It wants rows of 32 numbers."""

    def forward(self, x):
        return x.view(-1, 32).flip(1).view(x.shape[0], 32)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.act, self.drop, self.centre, self.told, self.fold = nn.GELU(), nn.Dropout(), Centred(), Told(), Folded()

    def forward(self, x):
        return self.fold(self.told(self.centre(self.drop(self.act(x))), 2.0))


@pytest.fixture
def look_up(monkeypatch):
    """The lookup in plain PyTorch: the kernel has its own test."""

    def plain(x, table):
        return table[x.view(torch.int16).int() & 0xFFFF]

    monkeypatch.setattr(replay, "look_up", plain)
    return plain


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_table_is_made_of_functions_of_single_numbers_only(look_up, kind):
    """Of an activation, but neither of what mixes numbers, hands its input on, or is told more; not in float32."""
    model = Model().eval()
    x = torch.randn(64, 32).to(kind)
    found = replay.tables(lambda: model(x), model, lambda *_: True)
    assert list(found) == [model.act]
    codes = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(kind)
    assert torch.equal(found[model.act].view(torch.int16), model.act(codes).view(torch.int16))
    assert not replay.tables(lambda: model(x.float()), model, lambda *_: True)
    assert not replay.tables(lambda: model(x), model, lambda *_: False)


def test_a_module_that_disagrees_once_has_no_table(look_up):
    """It is asked at every call: a function that changes between calls is left alone."""

    class Fickle(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += len(x) != 2**16
            return torch.sigmoid(x) if self.calls < 2 else torch.tanh(x)

    module = nn.Sequential(Fickle())
    x = torch.randn(8, 4).bfloat16()
    assert len(replay.tables(lambda: module(x), module, lambda *_: True)) == 1
    module[0].calls = 0
    assert not replay.tables(lambda: (module(x), module(x)), module, lambda *_: True)


def test_logits_with_tables_are_those_without(look_up):
    """GPT-2 in bfloat16: every layer's activation has one, and the logits keep their bits."""
    model = tiny("gpt2").bfloat16().eval()
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1])

    @torch.no_grad()
    def run():
        return model(input_ids=tokens, use_cache=False).logits

    found, bare = replay.tables(run, model, lambda *_: True), run()
    assert len(found) == model.config.n_layer
    for module, table in found.items():
        patcher = patch.object(module, "forward", lambda x, table=table: look_up(x, table))
        patcher.start()
    assert torch.equal(run(), bare)
    patch.stopall()
    assert all("forward" not in vars(module) for module in found)

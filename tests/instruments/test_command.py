"""`memscape probe` as it is typed: the guide's commands, one clear line for every bad input, and a kill survived."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memscape import cli
from memscape.data import open_corpus
from memscape.folder import read_json
from tests.instruments.tiny import run_folder, tiny, tokenizer

GUIDE = Path(__file__).parents[2] / "docs" / "probing.md"
SMALL = ("--limit", "1024", "--context", "32", "--queries", "64")


def saved(folder: Path, family: str = "gpt2", vocabulary: int | None = None, spoiled: bool = False) -> str:
    """Write a Hugging Face folder: with fewer tokens than its tokenizer has, or with a weight that is no number."""
    model = tiny.__wrapped__(family)
    if vocabulary is not None:
        model.resize_token_embeddings(vocabulary)
    if spoiled:
        model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def short(folder: Path) -> str:
    (folder / "short.txt").write_text("A text of few words.")
    return str(folder / "short.txt")


BAD = {
    "a corpus shorter than one context": (
        lambda at: ("stories260K", "--corpus", short(at)),
        r"corpus '.*short.txt': no document fills a context of 257 tokens, the longest has \d+; .*smaller --context",
    ),
    "activations that are not finite": (
        lambda at: (saved(at / "nan", spoiled=True), *SMALL),
        "the states at 'layer 2' are not finite; run the model in --dtype float32",
    ),
    "a tokenizer of another model": (
        lambda at: (saved(at / "few", vocabulary=100), *SMALL),
        "the tokenizer has 257 tokens but the model embeds 100; give the tokenizer that the model was trained with",
    ),
    "a context longer than the model reads": (
        lambda at: (saved(at / "gpt2"), "--context", "65"),
        "a context of 65 tokens is longer than the model's 64; give a smaller --context",
    ),
    "a model that is not there": (lambda at: (str(at / "none"),), "model folder .*none does not exist"),
    "an instrument that is not there": (
        lambda at: ("stories260K", "--instruments", "basin"),
        "Did you mean 'basins'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(name, tmp_path, monkeypatch, capsys):
    """Expected, got, next move on stderr; nothing on stdout; exit 1; no profile."""
    arguments, line = BAD[name]
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["memscape", "probe", *arguments(tmp_path), "--out", str(out), "--quiet"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code == 1
    assert said.out == ""
    assert re.fullmatch(rf"memscape: .*{line}.*\n", said.err)
    assert not (out / "profile.json").exists()


def memscape(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "memscape.cli", *arguments]


@pytest.mark.slow
def test_a_probe_that_was_killed_ends_as_if_it_had_not_been(tmp_path):
    """SIGKILL while layers are measured: the same command continues, and the profile is the same to the last bit."""
    setting = ("probe", "stories260K", "--limit", "2048", "--context", "64", "--queries", "64", "--instruments", "all")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(memscape(*setting, "--out", str(whole)), check=True, capture_output=True)
    work = subprocess.Popen(memscape(*setting, "--out", str(cut)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(cut.glob("parts/site 002.json")):
        assert work.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    work.send_signal(signal.SIGKILL)
    work.wait()
    assert not (cut / "profile.json").exists()
    subprocess.run(memscape(*setting, "--out", str(cut)), check=True, capture_output=True)
    assert read_json(cut / "profile.json") == read_json(whole / "profile.json")


@pytest.mark.slow
def test_the_commands_of_the_guide(tmp_path, monkeypatch, capsys):
    """docs/probing.md as it stands, on small texts and runs of the names it uses: each ends well and says its point."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    for i, document in enumerate(open_corpus("sample", limit=120_000)):
        place = tmp_path / ("private" if i % 2 else "public") / f"{i}.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text(document.text, encoding="utf-8")
    (tmp_path / "secrets.txt").write_text("My card number is {4917 2209}.\n")
    for seed, name in enumerate(("early", "late")):
        run_folder(tmp_path / "runs" / name, seed=seed)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0, command
    said = capsys.readouterr().out
    for point in ("predicted radius", "extractable: ", "membership, best score", "checkpoint  "):
        assert point in said
    assert {p.parent.name for p in tmp_path.rglob("report.html")} == {"probe", "training"}

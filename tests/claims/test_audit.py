"""The audit: the ledger's verdicts, files, results of experiments, and how it prints."""

import json
import re
from pathlib import Path

import pytest

import memscape
from memscape.claims import LEDGER, ExperimentResult, Trial, audit, table
from memscape.errors import FolderError, PlanError
from memscape.theory.measure import Measured

UNTESTED = {
    "C9": "capacity",
    "C10": "fractions",
    "C11": "correlation",
    "C26": "radius",
    "C28": "openelm",
    "C32": "editing",
}
EXPECTED = {
    "holds": {"C1", "C2", "C12"},
    "holds with correction": {"C5", "C6", "C7", "C8", "C13", "C18", "C19", "C29", "C31"},
    "not implied": {"C20", "C22", "C23", "C24", "C30"},
    "refuted by counterexample": {"C3", "C4", "C14", "C15", "C16", "C17", "C21", "C25", "C27"},
    "empirical: untested": set(UNTESTED),
}
QUICK = ["C15", "C16", "C17", "C18", "C19", "C20", "C22", "C23", "C24", "C25", "C31"]


@pytest.mark.slow
def test_every_claim_gets_the_verdict_of_the_theory(tmp_path):
    """All 32 claims, the memorisation run included, at full numbers of draws."""
    (tmp_path / "none").mkdir()
    answer = audit(out=tmp_path, results=tmp_path / "none")
    assert {word: {v.id for v in answer.claims if v.status == word} for word in answer.counts()} == EXPECTED
    assert answer["C21"].figures["train_loss"] < 0.08
    assert answer["C21"].figures["steps"] <= 200
    assert answer["C1"].figures["violations"] == 0


def test_the_ledger_runs_from_c1_to_c32():
    """In order, no id twice."""
    assert list(LEDGER) == [f"C{i}" for i in range(1, 33)]


def test_the_files_hold_what_is_printed_and_no_times(tmp_path):
    """audit.json is the same for every run; seconds stand in timing.json beside what others wrote there."""
    (tmp_path / "timing.json").write_text('{"train_seconds": 3}')
    answer = audit(out=tmp_path, ids=QUICK)
    first = (tmp_path / "audit.json").read_text()
    audit(out=tmp_path, ids=QUICK)
    assert (tmp_path / "audit.json").read_text() == first
    content = json.loads(first)["claims"]
    assert [c["id"] for c in content] == QUICK
    assert {"id", "claim", "as_stated", "status", "verdict", "evidence", "figures"} <= content[0].keys()
    assert "seconds" not in first
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["train_seconds"] == 3
    assert timing["audit_seconds"].keys() == set(QUICK) == answer.seconds.keys()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_terminal_table_keeps_within_its_width(width):
    """Every claim with statement, verdict and evidence, whatever the terminal."""
    answer = audit(ids=["C15", "C20", "C23", "C32"])
    text = table(answer, width)
    assert max(map(len, text.splitlines())) <= max(width, 42 + max(len(v.verdict) for v in answer.claims[-1:]))
    for verdict in answer.claims:
        assert verdict.id in text
        assert verdict.status in text
    assert "4 claims" in text


def test_the_notebook_view_escapes_what_it_shows():
    """A < in a claim is text, not a tag."""
    html = audit(ids=["C16", "C17"])._repr_html_()
    assert "&lt;" in html or "<script" not in html
    assert html.count("<tr>") == 3


def test_claims_are_chosen_by_id_in_any_case():
    """And an unknown one is named with its nearest."""
    assert [v.id for v in audit(ids=["c17", "C15"]).claims] == ["C17", "C15"]
    with pytest.raises(PlanError, match="C33"):
        audit(ids=["C33"])
    with pytest.raises(PlanError, match="C1"):
        _ = audit(ids=["C17"])["C1"]


@pytest.mark.parametrize("id", UNTESTED)
def test_what_only_an_experiment_decides_waits_for_its_result(id, tmp_path):
    """Untested until the result file exists; then its intervals decide, and another interval decides otherwise."""
    name = UNTESTED[id]
    before = audit(ids=[id], results=tmp_path)[id]
    assert before.verdict == f"empirical: untested (needs reproduce {name})"
    words = []
    for low, high in ((0.1, 0.3), (1.8, 2.1), (0.5, 3.0)):
        measured = Measured(value=(low + high) / 2, unit="1", n=12, low=low, high=high, interval="95 % bootstrap")
        trial = Trial(quantity="exponent", measured=measured, low=1.75, high=2.25, sentence="A planted result.")
        result = ExperimentResult(experiment=name, scale="smoke", claims={id: [trial]})
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "result.json").write_text(result.model_dump_json())
        after = audit(ids=[id], results=tmp_path)[id]
        assert "A planted result." in after.evidence
        assert "n = 12" in after.evidence
        words.append(after.status.removeprefix("empirical: "))
    assert words == ["contradicted", "supported", "undecided at this scale"]


def test_an_experiment_adds_evidence_to_a_decided_claim(tmp_path):
    """C30 stays decided by its check; the run's sentence is printed beside it."""
    measured = Measured(value=0.0, unit="nats/token", n=3, low=-0.01, high=0.01, interval="range of 3 seeds")
    trial = Trial(quantity="change of the cross-entropy", measured=measured, low=0.05, sentence="Three strengths.")
    (tmp_path / "z-loss").mkdir()
    result = ExperimentResult(experiment="z-loss", scale="smoke", claims={"C30": [trial]})
    (tmp_path / "z-loss" / "result.json").write_text(result.model_dump_json())
    verdict = audit(ids=["C30"], results=tmp_path)["C30"]
    assert verdict.status == "not implied"
    assert "Three strengths." in verdict.evidence


def test_a_damaged_result_is_named(tmp_path):
    """One line: which file, and what to do."""
    (tmp_path / "radius").mkdir()
    (tmp_path / "radius" / "result.json").write_text('{"experiment": "radius"}')
    with pytest.raises(FolderError, match=r"radius/result\.json"):
        audit(ids=["C26"], results=tmp_path)


def test_the_audit_is_at_the_top_of_the_package():
    """`memscape.audit`."""
    assert memscape.audit is audit


PAGE = Path(__file__).parents[2] / "docs" / "theory.md"


def test_the_theory_page_says_what_the_audit_says():
    """Every claim with its statement, verdict, truth and command; the counts in the text are the table's."""
    text = PAGE.read_text(encoding="utf-8")
    word_of = {id: word for word, ids in EXPECTED.items() for id in ids}
    for id, claim in LEDGER.items():
        word = f"the experiment *{claim.experiment}* decides" if claim.decided_by_experiment else word_of[id]
        cells = [id, claim.as_stated, word, claim.corrected, f"`memscape audit --only {id}`"]
        assert "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" in text, id
    words = ("holds", "holds with correction", "not implied", "refuted by counterexample")
    counts = [len(EXPECTED[word]) for word in words]
    said = "{} hold as stated, {} with a correction, {} are not implied, {} are refuted".format(*counts)
    assert said in text


def test_the_example_of_the_theory_page_runs(capsys):
    """A reader can paste it; eight slopes around 1 contradict an exponent of 2."""
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1], {})
    assert capsys.readouterr().out.strip() == "empirical: contradicted"

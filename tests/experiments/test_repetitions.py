"""The experiments that were run twice: what a second seed may change of a result, and what it may not."""

import json
from pathlib import Path

import pytest

from memscape.claims import ExperimentResult, Trial
from memscape.claims.evidence import experimental_status

RESULTS = Path(__file__).parents[2] / "results"
REPEATED = sorted(place.parent.name for place in RESULTS.glob("*/seed-1"))


def answer(place: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return claim -> verdict and quantity -> outcome, judged anew from the intervals."""
    text = (place / "result.json").read_text(encoding="utf-8")
    claims = ExperimentResult.model_validate_json(text).claims
    others = [Trial.model_validate(trial) for trial in json.loads(text)["questions"].values()]
    trials = [*others, *(trial for found in claims.values() for trial in found)]
    verdicts = {claim: experimental_status(found) for claim, found in claims.items()}
    return verdicts, {trial.quantity: trial.outcome.removeprefix("empirical: ") for trial in trials}


@pytest.mark.parametrize("name", REPEATED)
def test_a_second_seed_leaves_the_verdicts_as_they_were(name):
    """Claims keep their verdict; a single trial may fall to undecided or rise from it, but never turn round."""
    (verdicts, outcomes), (again, repeated) = answer(RESULTS / name), answer(RESULTS / name / "seed-1")
    assert verdicts == again
    assert outcomes.keys() == repeated.keys()
    turned = {q for q in outcomes if {outcomes[q], repeated[q]} == {"supported", "contradicted"}}
    assert not turned

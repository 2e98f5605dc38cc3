"""From predicates and intervals to status words."""

import pytest

from memscape.claims.evidence import Evidence, Trial, experimental_status, status
from memscape.theory.measure import Measured


@pytest.mark.parametrize(
    ("predicates", "word"),
    [
        ({"printed": True}, "holds"),
        ({"printed": True, "corrected": True}, "holds"),
        ({"printed": False, "amended": True}, "holds with correction"),
        ({"printed": False, "amended": False, "corrected": True}, "refuted by counterexample"),
        ({"printed": False}, "refuted by counterexample"),
        ({"premises": True, "conclusion": False}, "not implied"),
        ({"premises": True, "conclusion": True}, "undecided"),
        ({"premises": False, "conclusion": False}, "undecided"),
        ({"printed": True, "corrected": False}, "our correction fails"),
        ({"premises": True, "conclusion": False, "corrected": False}, "our correction fails"),
        ({}, "undecided"),
    ],
)
def test_the_status_follows_from_the_predicates(predicates, word):
    """The whole table of the mapping; a failing correction of ours outranks everything."""
    assert status(Evidence(sentence="", **predicates)) == word


def trial(low, high, region=(1.9, 2.1)):
    """A measured exponent with its interval, beside the region in which the claim is true."""
    measured = Measured(value=2.0, unit="1", n=9, low=low, high=high, interval="95 % bootstrap over 9 seeds")
    return Trial(quantity="exponent", measured=measured, low=region[0], high=region[1], sentence="Measured.")


SUPPORTED, CONTRADICTED = trial(1.95, 2.05), trial(1.2, 1.5)
OPEN, POINT = trial(1.5, 2.5), trial(None, None)


def test_a_trial_compares_its_interval_with_the_region():
    """Inside, outside, across, and no interval at all."""
    words = [t.outcome for t in (SUPPORTED, CONTRADICTED, OPEN, POINT, trial(5, 6, (None, 7)), trial(5, 6, (7, None)))]
    assert [w.removeprefix("empirical: ") for w in words] == [
        "supported",
        "contradicted",
        "undecided at this scale",
        "undecided at this scale",
        "supported",
        "contradicted",
    ]


@pytest.mark.parametrize(
    ("trials", "word"),
    [
        ([], "untested"),
        ([SUPPORTED, SUPPORTED], "supported"),
        ([SUPPORTED, OPEN], "undecided at this scale"),
        ([SUPPORTED, CONTRADICTED, OPEN], "contradicted"),
    ],
)
def test_support_must_be_unanimous_and_one_contradiction_suffices(trials, word):
    """How several trials of one claim make one word."""
    assert experimental_status(trials) == f"empirical: {word}"

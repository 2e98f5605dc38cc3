"""The first screen."""

import json

import pytest

from memscape.pages import gather, verdict
from tests.pages.example import make


def test_the_first_line_says_how_far_the_advice_is_extrapolated(study):
    """A size for a text fifty times the grid's is a guess, and says so before anything else."""
    assert (
        str(verdict(gather(study)))
        .splitlines()[0]
        .startswith("extrapolated × 46: on 3\u202fM tokens, train 4.21\u202fM parameters")
    )


def test_inside_the_grid_the_first_line_makes_no_such_claim(tmp_path):
    """The warning means something only if it can be absent."""
    first = str(verdict(gather(make(tmp_path, ("advice",), inside_grid=True)))).splitlines()[0]
    assert first.startswith("On 3\u202fM tokens")


def test_a_size_known_to_no_better_than_a_hundredfold_is_called_a_guess(tmp_path):
    """A recommendation whose interval spans decades is none, whatever its best value."""
    folder = make(tmp_path, ("advice",), inside_grid=True)
    advice = json.loads((folder / "advice.json").read_text())
    advice["recommended"]["n_params"] |= {"low": 7_300.0, "high": 1.4e10}
    (folder / "advice.json").write_text(json.dumps(advice))
    answer = verdict(gather(folder))
    assert "cannot tell the size" in str(answer).splitlines()[0]
    assert answer.cards[0].unsure
    assert "[7,300, 14\u202fB]" in str(answer.cards[0].text)


def test_a_capacity_that_the_fit_does_not_pin_down_is_marked(tmp_path):
    """A fit that ended badly speaks with its own sentence."""
    folder = make(tmp_path, ("fit",))
    fits = json.loads((folder / "fit.json").read_text())
    fits["laws"]["capacity"]["outcome"] = {"name": "ill-conditioned", "sentence": "add sizes at both ends."}
    (folder / "fit.json").write_text(json.dumps(fits))
    card = next(card for card in verdict(gather(folder)).cards if str(card.title) == "What a parameter holds")
    assert card.unsure
    assert "add sizes at both ends" in str(card.text)


@pytest.mark.parametrize("cannot_tell", [True, False])
def test_an_exponent_that_cannot_be_told_is_not_given(tmp_path, cannot_tell):
    """Where several theories lie inside the interval the card says so instead of a number."""
    answer = verdict(gather(make(tmp_path, ("fit",), cannot_tell=cannot_tell)))
    card = next(card for card in answer.cards if str(card.title) == "Size against data")
    assert card.unsure == cannot_tell
    assert (str(card.big) == "cannot tell") == cannot_tell
    assert ("1.06" in str(card.big)) != cannot_tell


def test_a_fit_without_enough_sizes_has_no_exponent(tmp_path):
    """Too few points: the card tells which runs to add."""
    folder = make(tmp_path, ("fit",))
    text = (
        (folder / "fit.json")
        .read_text()
        .replace("gamma = 1.06 [0.92, 1.20]: 1.0 lies", "gamma: cannot tell. Three sizes are needed; 1.0 lies")
    )
    (folder / "fit.json").write_text(text)
    card = next(card for card in verdict(gather(folder)).cards if card.unsure)
    assert "Three sizes are needed" in str(card.text)


def test_between_three_and_five_cards_tell_a_whole_study(study):
    """More is a table, fewer is a slogan."""
    assert 3 <= len(verdict(gather(study)).cards) <= 5


def test_each_number_of_the_json_carries_value_and_source(study):
    """`verdict.json` is for machines: nothing in it needs to be parsed out of a sentence."""
    answer = verdict(gather(study)).plain()
    numbers = answer["numbers"] + [n for card in answer["cards"] for n in card["numbers"]]
    records = gather(study).records
    assert len(numbers) > 15
    assert all(records.values(n["src"], n["op"]) == [n["value"]] for n in numbers)


@pytest.mark.parametrize(
    ("part", "words"),
    [("audit", "claims hold"), ("probe", "nats per token"), ("runs", "runs, from"), ("fit", "exponent")],
)
def test_each_part_alone_has_a_headline(tmp_path, part, words):
    """A folder of one command is reported like a study."""
    assert words in str(verdict(gather(make(tmp_path, (part,)))).headline)

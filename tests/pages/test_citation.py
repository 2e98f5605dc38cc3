"""Values that know where they were read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscape.pages.citation import Records, Sentence, join, say, shown, step
from tests.pages.provenance import read_number

RECORDS = Records(
    {
        "runs/b/result.json": {"n": 2, "loss": 2.5},
        "runs/a/result.json": {"n": 4},
        "fit.json": {
            "gamma": {"value": 1.904, "unit": "1", "n": 3, "low": None, "high": 2.4, "interval": "none"},
            "a/b": [[1, 2], [3, 4]],
        },
    }
)


def test_stars_keep_the_rows_of_all_columns_aligned():
    """A run without a field yields None, so that the third value of every column is the third run."""
    assert RECORDS.values("runs/*/result.json#/n") == [4, 2]
    assert RECORDS.values("runs/*/result.json#/loss") == [None, 2.5]
    assert RECORDS.values("runs/*/result.json#/n | runs/*/result.json#/loss", "difference") == [None, -0.5]


def test_pointers_reach_into_lists_and_odd_names():
    """JSON pointers are those of RFC 6901."""
    assert RECORDS.values(f"fit.json#/{step('a/b')}/*/*") == [1, 2, 3, 4]
    assert RECORDS.values("fit.json#/a~1b/1/0") == [3]
    assert RECORDS.values("fit.json#/a~1b/9/0") == [None]


def test_a_missing_number_is_none_and_so_is_its_sentence():
    """A page leaves out what a folder does not have."""
    assert RECORDS.number("fit.json#/nothing") is None
    assert RECORDS.number("nowhere.json#/x") is None
    assert say("It is {x}.", x=RECORDS.number("fit.json#/nothing")) is None
    assert join(" ", [None, None]) is None


def test_a_measured_number_shows_the_end_that_it_has():
    """An interval with one open end is not printed as if both were known, nor as if there were none."""
    assert str(RECORDS.measured("fit.json#/gamma")) == "1.90 [below 2.40]"


def test_a_digit_among_the_words_is_refused():
    """The only way onto a page leads through a result file."""
    with pytest.raises(ValueError, match="cite it"):
        Sentence("It is 1.9.")
    with pytest.raises(ValueError, match="cite it"):
        say("It is {x}.", x="1.9")


def test_text_from_a_file_is_escaped():
    """A corpus may hold anything, script elements too."""
    records = Records({"a.json": {"name": "<script>alert(1)</script>"}})
    sentence = say("{name} & co", name=records.text("a.json#/name"))
    assert sentence is not None
    assert "<script>" not in sentence.__html__()
    assert "&lt;script&gt;" in sentence.__html__()
    assert "&amp; co" in sentence.__html__()


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (4_210_000, "count", "4.21\u202fM"),
        (4096, "count", "4,096"),
        (16_384, "count", "16.4\u202fk"),
        (999_999, "count", "1\u202fM"),
        (0.31, "percent", "31\u202f%"),
        (0.0042, "percent", "0.42\u202f%"),
        (1.0, "percent", "100\u202f%"),
        (2.5, "sig3", "2.50"),
        (-52.3561, "sig4", "−52.36"),
        (6.0, "sig2", "6"),
        (4.4e-16, "sig2", "0"),
        (0.000_123_4, "sig3", "0.00012"),
        (-2.36e-5, "percent", "−0.0024\u202f%"),
        (0.9, "short3", "0.9"),
        (0.0866, "sig3", "0.0866"),
        (3.3649, "fixed3", "3.365"),
        (True, "sig3", "yes"),
    ],
)
def test_numbers_are_shown_as_people_write_them(value, style, text):
    """Three digits and a suffix read faster than seven digits."""
    assert shown(value, style) == text


@given(
    st.floats(-1e13, 1e13, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-12),
    st.sampled_from(["sig2", "sig3", "sig4", "count", "fixed3", "percent"]),
)
def test_what_is_shown_is_the_value_at_its_own_precision(value, style):
    """An independent reader of the shown text gets the value back within half a unit of the last digit."""
    read, half = read_number(shown(value, style))
    assert abs(read - value) <= half * (1 + 1e-9) + 1e-14 * abs(value)

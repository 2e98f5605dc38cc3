"""Quantities as people write them."""

import pytest

from memscape.errors import TableError
from memscape.laws.quantity import format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3M", 3e6),
        ("64k", 64e3),
        ("1.5e6", 1.5e6),
        ("2_000_000", 2e6),
        ("1,000", 1e3),
        ("7B", 7e9),
        (" 2 t ", 2e12),
        (5, 5.0),
    ],
)
def test_quantities_are_read(text, value):
    """Suffixes are powers of a thousand."""
    assert parse_quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "M", "-3M", "3 Mega", "nan", 0, -1.0, float("inf")])
def test_what_is_no_positive_quantity_is_refused(text):
    """The message shows how to write one."""
    with pytest.raises(TableError, match="3M"):
        parse_quantity(text)


@pytest.mark.parametrize("value", [1, 999, 1_000, 12_345, 9.996e5, 3e6, 4.2e9, 1e12])
def test_written_quantities_read_back_to_three_digits(value):
    """Writing and reading are inverse up to rounding."""
    assert parse_quantity(format_quantity(value)) == pytest.approx(value, rel=5e-3)

"""A measured number as text."""

import math

import pytest

from memscape.theory.measure import Measured


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (None, None, "1.81"),
        (0.5, 2.0, "1.81 [0.5, 2]"),
        (0.61, None, "1.81 [0.61, ∞]"),
        (0.61, math.inf, "1.81 [0.61, ∞]"),
        (None, 2.0, "1.81 [-∞, 2]"),
    ],
)
def test_an_open_end_is_said(low, high, text):
    """One end without the other is knowledge too."""
    assert str(Measured(value=1.81, unit="1", n=3, low=low, high=high)).startswith(f"{text} (")

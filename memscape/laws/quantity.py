"""Quantities as people write them: `3M`, `1.5e6`, `2_000_000`, `64k`.

>>> parse_quantity("3M"), format_quantity(3_000_000)
(3000000.0, '3M')
"""

import math
import re

from memscape.errors import TableError

_FACTOR = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_SHAPE = re.compile(r"([0-9][0-9_,]*\.?[0-9]*(?:e[+-]?[0-9]+)?)\s*([kmbgt]?)", re.IGNORECASE)


def parse_quantity(text: str | float) -> float:
    """Return the positive number that `text` names; k, M, B (or G) and T are powers of a thousand."""
    if isinstance(text, int | float):
        value = float(text)
    else:
        match = _SHAPE.fullmatch(text.strip())
        if match is None:
            raise TableError(
                f"expected a quantity such as 3M, 64k or 1.5e6, got {text!r}; write digits and k, M, B or T."
            )
        value = float(match[1].replace("_", "").replace(",", "")) * _FACTOR[match[2].lower()]
    if not (math.isfinite(value) and value > 0):
        raise TableError(f"expected a positive quantity, got {text!r}; write for example 3M.")
    return value


def format_quantity(value: float) -> str:
    """Return `value` with three digits and a suffix: 1234567 -> 1.23M."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"

"""docs/data.md shows what the code prints: its blocks are run in order and their comments compared."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_every_block_prints_what_the_page_says():
    """A newcomer who copies a block sees the lines below it."""
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        promised = re.findall(r"^# (.*)$", block, re.MULTILINE)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(block, names)
        assert printed.getvalue().splitlines() == promised

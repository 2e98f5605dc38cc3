"""Question-Formation lines: a sentence, then the same as a statement or a question, from files or without end.

The task of McCoy, Frank & Linzen (2020, arXiv 2001.03632) on which Niu et al. train. Two sources: the files, read line
by line, and a generator that draws (template, form) as often as the real lines have it and every word afresh, so that
a model fed with it can learn the language and memorise nothing.

>>> lines = never_repeated(seed=0)
>>> next(lines).split()[-1] in {".", "?"}
True
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from memscape.data.documents import read_text
from memscape.errors import CorpusError
from memscape.theory.grammar import FORMS, QUESTION_FORMATION, Template, line, read_line

_FOLDER = Path(__file__).parent / "question_formation_lines"

SHIPPED_LINES = [_FOLDER / "question.dev.gz", _FOLDER / "question.test.gz"]
"""The 1,000 development and 10,000 test lines."""

WORDS = sorted({word for words in QUESTION_FORMATION.classes.values() for word in words} | {"?", *FORMS})
"""The 68 words of the language."""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file (also .gz, .xz), each checked against the grammar; CorpusError shows a wrong one."""
    path = Path(path)
    if not os.path.exists(path):  # False where the name is no name
        raise CorpusError(f"{path} does not exist; expected a file of lines 'sentence . decl|quest<TAB>output'.")
    lines = read_text(path).splitlines()
    for number, text in enumerate(lines, 1):
        try:
            read_line(text)
        except (CorpusError, ValueError) as problem:  # ValueError: a line of no words
            why = str(problem) if text.strip() else "it is blank; leave it out."
            raise CorpusError(
                f"{path}, line {number}: {why} Other text is named without question-formation: before it."
            ) from problem
    return lines


@cache
def shipped_mix() -> dict[tuple[Template, str], float]:
    """Return (template, form) -> its share among the 11,000 shipped lines: the real mix, questions included."""
    counts = Counter(read_line(text) for file in SHIPPED_LINES for text in read_lines(file))
    return {key: n / counts.total() for key, n in sorted(counts.items())}


def never_repeated(seed: int, avoid: Iterable[str] = ()) -> Iterator[str]:
    """Yield lines without end, no line twice: on these a model's loss is its knowledge of the language alone.

    Which lines come depends on `seed` and `avoid` alone. Sentences of the shortest templates run out first (there are
    some thousands of them); a repetition is drawn again, template included.
    """
    rng = np.random.default_rng(seed)
    keys, shares = list(shipped_mix()), np.array(list(shipped_mix().values()))
    seen = set(avoid)
    while True:
        for k in rng.choice(len(keys), size=1024, p=shares):
            template, form = keys[k]
            text = line(QUESTION_FORMATION.fill(template, rng), template, form)
            if text not in seen:
                seen.add(text)
                yield text

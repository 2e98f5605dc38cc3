"""Question-Formation: the published facts of the files, and a generator with the real mix that never repeats itself."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from memscape.data.question_formation import (
    SHIPPED_LINES,
    WORDS,
    never_repeated,
    read_lines,
    shipped_mix,
)
from memscape.errors import CorpusError
from memscape.theory.grammar import file_floor, read_line, subject_clause

DEV, TEST = map(read_lines, SHIPPED_LINES)


def generate(n_lines, **which):
    return list(islice(never_repeated(**which), n_lines))


def test_the_shipped_files_are_the_published_ones():
    """1,000 and 10,000 lines, all distinct, 68 words, at most 35 tokens; their length is that of theory."""
    assert (len(DEV), len(TEST), len(set(DEV + TEST))) == (1000, 10_000, 11_000)
    assert {word for text in DEV + TEST for word in text.split()} == set(WORDS)
    assert len(WORDS) == 68
    assert max(len(text.split()) for text in DEV + TEST) == 35
    mean = np.mean([len(text.split()) + 1 for text in DEV])
    assert mean == pytest.approx(23.448, abs=5e-4)


def test_generated_lines_are_new_valid_and_reproducible():
    """Every line is of the grammar, none is avoided text, the seed decides all."""
    lines = generate(3000, seed=3, avoid=TEST)
    assert len(set(lines)) == 3000
    assert not set(lines) & set(TEST)
    assert all(read_line(text) for text in lines)
    assert generate(100, seed=3, avoid=TEST) == lines[:100]
    assert generate(100, seed=4) != lines[:100]


def test_the_mix_is_the_real_one():
    """(template, form) shares within sampling error of the files; no question about a subject with a clause."""
    mix, n = shipped_mix(), 10_000
    drawn = Counter(read_line(text) for text in islice(never_repeated(seed=0), n))
    assert not any(form == "quest" and subject_clause(template) for template, form in drawn)
    forms = sum(share for (_, form), share in mix.items() if form == "quest")
    assert sum(m for (_, form), m in drawn.items() if form == "quest") / n == pytest.approx(forms, abs=0.015)
    common = sorted(mix, key=lambda k: mix[k])[-20:]
    for key in common:
        error = 4 * np.sqrt(mix[key] / n) + 0.1 * mix[key]  # the shortest templates repeat and are drawn again
        assert drawn[key] / n == pytest.approx(mix[key], abs=error)


def test_the_floor_of_generated_lines_is_the_real_one():
    """0.9953 nats/token is what dev and test together leave to a model that knows the language (by their mix)."""
    generated = file_floor(generate(10_000, seed=1), elsewhere=DEV + TEST).elsewhere
    assert generated == pytest.approx(0.9953, abs=0.012)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("the walrus does move . decl\tthe walrus doesn't move .", "the walrus does move"),
        ("hello there . decl\thello there .", "the grammar has no word 'hello'"),
        ("", "it is blank"),
    ],
)
def test_a_line_outside_the_grammar_is_shown(tmp_path, wrong, message):
    """A file of something else is refused before anything trains on it: file, line, next move."""
    (tmp_path / "lines").write_text(f"{DEV[0]}\n{wrong}\n")
    with pytest.raises(CorpusError, match=f"lines, line 2: .*{message}.* without question-formation:"):
        read_lines(tmp_path / "lines")


def test_a_name_too_long_is_no_file():
    """The system's own error names no next move."""
    with pytest.raises(CorpusError, match="does not exist; expected a file of lines"):
        read_lines(Path("x" * 300))


def test_the_training_file_has_the_published_length(shared_data):
    """423,932 word tokens in the 20,000 lines that are at hand, and none of them is a shipped line."""
    lines = read_lines(shared_data / "question-formation" / "question.train20k.gz")
    assert len(lines) == len(set(lines)) == 20_000
    assert sum(len(text.split()) for text in lines) == 423_932
    assert not set(lines) & set(DEV + TEST)

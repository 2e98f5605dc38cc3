"""The Question-Formation grammar: its entropy, its templates, and the floors of the real files."""

import gzip
import math

import numpy as np
import pytest

from memscape.errors import CorpusError
from memscape.theory import grammar
from memscape.theory.grammar import GRAMMAR_MIX, QUESTION_FORMATION, file_floor, line, read_line


def test_the_exact_entropy_and_length():
    """20.395221 nats a sentence of 9.666667 tokens, 272 templates, 68 words with the marks."""
    assert QUESTION_FORMATION.entropy() == pytest.approx(20.395221, abs=1e-6)
    assert QUESTION_FORMATION.mean_length() == pytest.approx(9.666667, abs=1e-6)
    assert len(QUESTION_FORMATION.templates) == 272
    assert sum(map(len, QUESTION_FORMATION.classes.values())) + len(("?", "decl", "quest")) == 68


def test_the_entropy_is_that_of_the_enumerated_language():
    """Independently of the recursion: -Σ p ln p over templates plus their words."""
    templates = QUESTION_FORMATION.templates
    assert sum(templates.values()) == pytest.approx(1)
    nats = sum(p * (QUESTION_FORMATION.word_nats(t) - math.log(p)) for t, p in templates.items())
    assert nats == pytest.approx(QUESTION_FORMATION.entropy(), abs=1e-9)
    assert sum(p * len(t) for t, p in templates.items()) == pytest.approx(QUESTION_FORMATION.mean_length())


def test_a_line_is_read_back_as_it_was_written():
    """Template and form survive; the question fronts the auxiliary of the main clause."""
    rng = np.random.default_rng(0)
    for template, form in GRAMMAR_MIX:
        assert read_line(line(QUESTION_FORMATION.fill(template, rng), template, form)) == (template, form)
    words = ["her", "yak", "who", "doesn't", "eat", "does", "comfort", "the", "newts", "."]
    assert line(words, QUESTION_FORMATION.tags(words), "quest").endswith(
        "\tdoes her yak who doesn't eat comfort the newts ?"
    )


@pytest.mark.parametrize(
    "text",
    [
        "the newt does eat . decl\tthe newt does eat",
        "the newt do eat . decl\tthe newt do eat .",
        "a cat . decl\ta cat .",
    ],
)
def test_a_line_outside_the_language_is_refused(text):
    """A wrong output, a wrong number, a foreign word."""
    with pytest.raises(CorpusError, match="expected"):
        read_line(text)


@pytest.fixture(scope="module")
def files():
    """The published files, where they are."""
    from tests.conftest import SHARED

    folder = SHARED / "data" / "question-formation"
    if not folder.exists():
        pytest.skip("the development data is not beside this clone")
    return {
        name: gzip.open(folder / f"question.{name}.gz", "rt").read().splitlines()
        for name in ("dev", "test", "train20k", "gen")
    }


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("dev", "test", (23.448, 1.0171, 0.9841, 0.9931)),
        ("test", "train20k", (23.375, 1.0197, 0.9956, 1.0008)),
        ("train20k", "test", (22.197, 1.0100, 0.9929, 1.0041)),
    ],
)
def test_the_floors_of_the_published_files(files, name, other, expected):
    """The plateau that the paper calls 1 is the entropy of the language: 0.98 to 1.02 by every estimate."""
    floor = file_floor(files[name], files[other])
    got = (floor.tokens_per_line, floor.grammar, floor.sample, floor.elsewhere)
    assert got == pytest.approx(expected, abs=5e-4)


def test_dev_and_test_together(files):
    """23.272 nats over 23.381 tokens: 0.9953."""
    floor = file_floor(files["dev"] + files["test"])
    assert floor.sample == pytest.approx(0.9953, abs=5e-4)
    assert floor.sample * floor.tokens_per_line == pytest.approx(23.272, abs=5e-3)


def test_the_generalisation_file_asks_what_the_grammar_mix_never_asks(files):
    """Its subjects have relative clauses, so the floor under the training mix is infinite, not a crash."""
    assert file_floor(files["gen"][:200]).grammar == math.inf
    assert all(grammar.subject_clause(read_line(text)[0]) for text in files["gen"][:200])

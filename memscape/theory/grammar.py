"""The Question-Formation grammar as data, and its exact entropy: below it nothing is learnt, only memorised.

Which loss does a model reach that knows the language of McCoy, Frank & Linzen (2020, arXiv 2001.03632) and has
memorised none of it? Niu et al. report training losses that settle at 1 and read that as a universal bound; it is this
number.

>>> round(QUESTION_FORMATION.entropy(), 6), round(QUESTION_FORMATION.mean_length(), 6)
(20.395221, 9.666667)
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict

from memscape.errors import CorpusError

Template = tuple[str, ...]
"""The word classes of a sentence in order, full stop included."""


class Grammar(BaseModel):
    """A weighted context-free grammar without recursion: rules by symbol, words by class, words uniform in a class."""

    model_config = ConfigDict(frozen=True)

    root: str
    rules: dict[str, tuple[tuple[float, Template], ...]]
    """Symbol -> (weight, right-hand side); the weights of one symbol are relative."""
    classes: dict[str, tuple[str, ...]]
    """Word class -> its words."""

    def entropy(self, symbol: str | None = None) -> float:
        """Return the entropy of the phrases of `symbol` in nats: H(A) = H(rule) + Σ p(rule) Σ H(children).

        Exact for an unambiguous grammar, where a phrase has one derivation.
        """
        symbol = symbol or self.root
        if symbol in self.classes:
            return math.log(len(self.classes[symbol]))
        return sum(p * (sum(map(self.entropy, right)) - math.log(p)) for p, right in self._choices(symbol))

    def mean_length(self, symbol: str | None = None) -> float:
        """Return the expected number of words of the phrases of `symbol`."""
        symbol = symbol or self.root
        if symbol in self.classes:
            return 1.0
        return sum(p * sum(map(self.mean_length, right)) for p, right in self._choices(symbol))

    @cached_property
    def templates(self) -> dict[Template, float]:
        """Every sentence template with its probability."""
        return self._templates(self.root)

    def fill(self, template: Template, rng: np.random.Generator) -> list[str]:
        """Return a sentence of this template, each word drawn uniformly from its class."""
        return [self.classes[tag][rng.integers(len(self.classes[tag]))] for tag in template]

    def tags(self, words: Iterable[str]) -> Template:
        """Return the word classes of `words`; CorpusError names a word that the grammar lacks."""
        try:
            return tuple(self._class_of[word] for word in words)
        except KeyError as unknown:
            raise CorpusError(
                f"the grammar has no word {unknown}; expected one of its {len(self._class_of)} words."
            ) from None

    def word_nats(self, template: Template) -> float:
        """Return Σ ln(class size) over the template: the nats that its words add to it."""
        return sum(math.log(len(self.classes[tag])) for tag in template)

    @cached_property
    def _class_of(self) -> dict[str, str]:
        return {word: tag for tag, words in self.classes.items() for word in words}

    def _choices(self, symbol: str) -> list[tuple[float, Template]]:
        total = sum(weight for weight, _ in self.rules[symbol])
        return [(weight / total, right) for weight, right in self.rules[symbol]]

    def _templates(self, symbol: str) -> dict[Template, float]:
        if symbol in self.classes:
            return {(symbol,): 1.0}
        found: dict[Template, float] = {}
        for p, right in self._choices(symbol):
            partial = {(): p}
            for child in right:
                ends = self._templates(child)
                partial = {a + b: q * r for a, q in partial.items() for b, r in ends.items()}
            for template, q in partial.items():
                found[template] = found.get(template, 0.0) + q
        return found


def _rules(x: str) -> dict[str, tuple[tuple[float, Template], ...]]:
    """The rules whose words agree in number: x is `s` or `p`."""
    noun, aux = f"N_{x}", f"Aux_{x}"
    return {
        f"NP_{x}": ((1, ("Det", noun)), (1, ("Det", noun, "Prep", "Det", "N")), (1, ("Det", noun, f"RC_{x}"))),
        f"VP_{x}": ((1, (aux, "V_intr")), (1, (aux, "V_trans", "NP_O"))),
        f"RC_{x}": (
            (2, ("Rel", aux, "V_intr")),
            (1, ("Rel", "Det", "N_s", "Aux_s", "V_trans")),
            (1, ("Rel", "Det", "N_p", "Aux_p", "V_trans")),
            (2, ("Rel", aux, "V_trans", "Det", "N")),
        ),
    }


_WORDS = """
Det the some my your our her
N_s newt orangutan peacock quail raven salamander tyrannosaurus unicorn vulture walrus xylophone yak zebra
V_intr giggle smile sleep swim wait move change read eat
V_trans entertain amuse high_five applaud confuse admire accept remember comfort
Aux_s does doesn't
Aux_p do don't
Prep around near with upon by behind above below
Rel who that
Stop .
"""
_CLASSES = {name: tuple(words) for name, *words in map(str.split, _WORDS.strip().splitlines())}

QUESTION_FORMATION = Grammar(
    root="ROOT",
    rules={
        "ROOT": ((1, ("S", "Stop")),),
        "S": ((1, ("NP_s", "VP_s")), (1, ("NP_p", "VP_p"))),
        "N": ((1, ("N_s",)), (1, ("N_p",))),
        "NP_O": tuple((1, right) for x in "sp" for _, right in _rules(x)[f"NP_{x}"]),
        **_rules("s"),
        **_rules("p"),
    },
    classes={**_CLASSES, "N_p": tuple(noun + ("es" if noun.endswith("s") else "s") for noun in _CLASSES["N_s"])},
)
"""The grammar of McCoy et al.; 64 words and the full stop. `?`, `decl` and `quest` complete the 68 of the files."""

FORMS = ("decl", "quest")
"""What the line asks for after the sentence: a copy, or the question."""


def main_auxiliary(template: Template) -> int:
    """Return the place of the auxiliary that a question fronts: the second if the subject has a relative clause."""
    places = [i for i, tag in enumerate(template) if tag.startswith("Aux")]
    return places[1] if subject_clause(template) else places[0]


def subject_clause(template: Template) -> bool:
    """Return whether a relative clause modifies the subject; the training lines never ask such a question."""
    return template[2] == "Rel"


def line(words: list[str], template: Template, form: str) -> str:
    """Return a line of the data: `sentence . form<TAB>output`, the output a copy (`decl`) or the question (`quest`)."""
    output = words
    if form == "quest":
        at = main_auxiliary(template)
        output = [words[at], *words[:at], *words[at + 1 : -1], "?"]
    return f"{' '.join(words)} {form}\t{' '.join(output)}"


def read_line(text: str) -> tuple[Template, str]:
    """Return template and form of one line, checked in full: grammar, form and output must agree."""
    source, _, _ = text.rstrip("\n").partition("\t")
    *words, form = source.split()
    template = QUESTION_FORMATION.tags(words)
    if (
        form not in FORMS
        or template not in QUESTION_FORMATION.templates
        or line(words, template, form) != text.rstrip("\n")
    ):
        raise CorpusError(
            f"expected 'sentence . decl|quest<TAB>output' of the grammar, got {text[:80]!r}; check the file."
        )
    return template, form


class FileFloor(BaseModel):
    """What knowing the language leaves to the loss of a file, in nats/token, by three models of its templates."""

    model_config = ConfigDict(frozen=True)

    n_lines: int
    tokens_per_line: float
    """Sentence, full stop, form, output and end-of-line token."""
    grammar: float
    """Templates by the grammar's own weights; form 50:50 where a question is allowed."""
    sample: float
    """Templates and forms by their frequencies in this very file: biased low by what the file repeats."""
    elsewhere: float | None
    """Templates and forms by their add-½ frequencies in another file: biased high, nothing of this file is known."""


def file_floor(lines: Iterable[str], elsewhere: Iterable[str] | None = None) -> FileFloor:
    """Return the floor of a file: NLL(line) = -ln p(template, form) + Σ_words ln(class size); total over total tokens.

    Infinite where a line asks what the training lines never ask: a question whose subject has a relative clause.
    """
    counts = Counter(map(read_line, lines))
    if not counts:
        raise CorpusError("expected at least one line of Question-Formation data, got none; check the file.")
    n = counts.total()
    n_tokens = sum(m * (2 * len(template) + 2) for (template, _), m in counts.items())
    words = sum(m * QUESTION_FORMATION.word_nats(template) for (template, _), m in counts.items())

    def floor(probability: Mapping[tuple[Template, str], float]) -> float:
        if not counts.keys() <= probability.keys():
            return math.inf
        return (words - sum(m * math.log(probability[key]) for key, m in counts.items())) / n_tokens

    other = None
    if elsewhere is not None:
        seen = Counter(map(read_line, elsewhere))
        other = floor({key: (seen[key] + 0.5) / (seen.total() + 0.5 * len(GRAMMAR_MIX)) for key in GRAMMAR_MIX})
    return FileFloor(
        n_lines=n,
        tokens_per_line=n_tokens / n,
        grammar=floor(GRAMMAR_MIX),
        sample=floor({key: m / n for key, m in counts.items()}),
        elsewhere=other,
    )


GRAMMAR_MIX = {
    (template, form): p if subject_clause(template) else p / 2
    for template, p in QUESTION_FORMATION.templates.items()
    for form in FORMS
    if form == "decl" or not subject_clause(template)
}
"""(template, form) -> probability, when the grammar chooses the template and a fair coin the form where both exist."""

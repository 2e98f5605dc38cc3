"""What is the answer? Three to five cards in plain words, with numbers and intervals, from whatever a folder holds.

The first line is what a reader takes home. It says "extrapolated × k" when the advice lies far outside the grid; a card
says "cannot tell" where the exponent cannot be told.
"""

from dataclasses import dataclass
from typing import Any

from memscape.pages.citation import Cited, Measure, Sentence, between, join, say
from memscape.pages.gather import RUNS, Story

MOST_CARDS = 5

WIDE = 100.0
"""A size known to no better than this factor is a guess, and is called one."""

LOUD = 10.0
"""An advice further outside the grid of runs than this factor says so in the first line."""


@dataclass(frozen=True)
class Card:
    """One answer: a short title, the number (or words) that carry it, a sentence or two."""

    title: Sentence
    big: Cited | Sentence
    unit: Cited | str
    text: Sentence
    unsure: bool = False
    """Whether the big words say that the data do not decide."""


@dataclass(frozen=True)
class Verdict:
    """The first screen of a report; prints as plain text."""

    headline: Sentence
    warning: Sentence | None
    """Stands before the headline: how far outside the measured grid the advice lies."""
    cards: tuple[Card, ...]

    def __str__(self) -> str:
        first = f"{self.warning}: {self.headline}" if self.warning else str(self.headline)
        blocks = [f"{card.title}: {card.big} {card.unit}".rstrip() + f"\n  {card.text}" for card in self.cards]
        return "\n".join([first, *blocks])

    def plain(self) -> dict[str, Any]:
        """Return the JSON of `verdict.json`: every sentence, and each of its numbers with its source."""
        cited = lambda *parts: [c.plain() | {"value": c.value} for part in parts for c in _cited(part)]  # noqa: E731
        return {
            "headline": str(self).splitlines()[0],
            "numbers": cited(self.warning, self.headline),
            "cards": [
                {
                    "title": str(c.title),
                    "big": f"{c.big} {c.unit}".rstrip(),
                    "text": str(c.text),
                    "unsure": c.unsure,
                    "numbers": cited(c.big, c.text),
                }
                for c in self.cards
            ],
        }


def verdict(story: Story) -> Verdict:
    """Return the verdict on a folder; what is missing from it is left out."""
    builders = [_size, _exponent, _capacity, _probe, _memorised, _claims]
    cards = _trials(story) + [card for build in builders if (card := build(story))]
    return Verdict(_headline(story), _warning(story), tuple(cards[:MOST_CARDS]))


def _headline(story: Story) -> Sentence:
    number, model = story.records.number, story.profiles[0] if story.profiles else ""
    size = story.records.measured("advice.json#/recommended/n_params", "count")
    epochs = number("advice.json#/recommended/epochs/value", "sig2")
    candidates = [
        say(
            "on {tokens} tokens these runs cannot tell the size; their best guess is {size} parameters.",
            tokens=number("advice.json#/tokens", "count"),
            size=size.value if _wide(size) else None,
        )
        if size
        else None,
        say(
            f"on {{tokens}} tokens, train {{size}} parameters for {{epochs}} epoch{'s' * (str(epochs) != '1')}.",
            tokens=number("advice.json#/tokens", "count"),
            size=size and size.value,
            epochs=epochs,
        ),
        _outcome(story),
        say("{sentence}", sentence=story.records.text("fit.json#/sentence")),
        say("{sentence}", sentence=story.records.text("recall.json#/sentence")),
        say(
            "{model} reads this text at {loss} nats per token; the same words shuffled cost it {shuffled}.",
            model=story.model(model),
            loss=number(f"{model}#/loss/mean/value"),
            shuffled=number(f"{model}#/loss/shuffled/value"),
        ),
        say("{model}, layer by layer.", model=story.model(model)),
        say(
            "{holds} of {n} claims hold as they are stated.",
            holds=number("audit.json#/claims/*/status", "count", "where=holds") if story.has("audit.json") else None,
            n=number("audit.json#/claims/*/id", "count", "count") if story.has("audit.json") else None,
        ),
        say(
            "{n} runs, from {small} to {large} parameters.",
            n=number(f"{RUNS}#/run_id", "count", "count") if story.runs else None,
            small=number(f"{RUNS}#/n_params", "count", "min"),
            large=number(f"{RUNS}#/n_params", "count", "max"),
        ),
        Sentence("The results of a memscape folder."),
    ]
    chosen = next(candidate for candidate in candidates if candidate)
    if _warning(story) is None and chosen.words[:1].islower():
        chosen = Sentence(chosen.words[0].upper() + chosen.words[1:], chosen.values)
    return chosen


def _warning(story: Story) -> Sentence | None:
    """How far outside the grid the advice lies; advice without any grid says that instead."""
    factor = story.records.number("advice.json#/extrapolation/factor", "sig2")
    if factor is None:
        return say("{sentence}", sentence=story.records.text("advice.json#/extrapolation/sentence"))
    return say("extrapolated × {factor}", factor=factor) if factor.value > LOUD else None


def _bare(measure: Measure | None) -> Sentence | None:
    return measure.bare if measure else None


def _wide(measure: Measure) -> bool:
    """Return whether the interval spans so much that the value is no recommendation."""
    return bool(measure.low and measure.high and measure.high.value > WIDE * measure.low.value)


def _size(story: Story) -> Card | None:
    records, base = story.records, "advice.json#/recommended"
    size = records.measured(f"{base}/n_params", "count")
    if size is None:
        return None
    text = join(
        " ",
        [
            say("Best guess {size} parameters.", size=size.value) if _wide(size) else None,
            say("Interval {span}.", span=between(size.low, size.high)) or say("From {basis}.", basis=size.interval),
            say("Passes over the text: {epochs}.", epochs=_bare(records.measured(f"{base}/epochs", "sig2"))),
            say("Expect a held-out loss of {loss} nats per token.", loss=_bare(records.measured(f"{base}/fresh_loss"))),
            say(
                "It would memorise {share} of the text.",
                share=_bare(records.measured(f"{base}/memorised_share", "percent")),
            ),
            say(
                "All of it takes {all} parameters.",
                all=_bare(records.measured("advice.json#/memorise/n_params", "count")),
            ),
        ],
    )
    title, told = Sentence("The size for this text"), text or Sentence("")
    return (
        Card(title, Sentence("cannot tell"), "", told, True)
        if _wide(size)
        else Card(title, size.value, "parameters", told)
    )


def _trials(story: Story) -> list[Card]:
    """What an experiment measured, and whether it stands: claims first, then what failed."""
    cards = []
    for trial in sorted(story.trials(), key=lambda trial: (not trial.of_claim, trial.outcome != "contradicted")):
        measured = trial.measured
        if measured is None or trial.quantity is None or not trial.outcome:
            continue
        told = join(", ", [trial.quantity, between(measured.low, measured.high), measured.interval])
        text = join(" ", [say("“{asked}” Measured:", asked=trial.asked), told])
        title = Sentence(f"{{name}}: {trial.outcome}", {"name": trial.name})
        cards.append(Card(title, measured.value, measured.unit or "", text or title, "undecided" in trial.outcome))
    return cards


def _outcome(story: Story) -> Sentence | None:
    """What became of each claim of an experiment, by all of its trials, and how many of its own questions stand."""
    claims: dict[str, list] = {}
    for trial in story.trials():
        if trial.of_claim:
            claims.setdefault(trial.name.value, []).append(trial)
    parts = []
    for trials in claims.values():
        words = {trial.outcome for trial in trials}
        word = "contradicted" if "contradicted" in words else words.pop() if len(words) == 1 else "undecided"
        parts.append(Sentence(f"{{claim}}: {word}", {"claim": trials[0].name}))
    source = "result.json#/questions/*/outcome"
    counts = [
        say(f"{{n}} {word}", n=story.records.number(source, "count", f"where=empirical: {word}"))
        for word in ("contradicted", "undecided at this scale", "supported")
        if f"empirical: {word}" in story.records.values(source)
    ]
    n = story.records.number(source, "count", "count")
    words = f"{{n}} {'further ' if claims else ''}question{'s' * (str(n) != '1')}: {{counts}}"
    parts.append(say(words, n=n, counts=join(", ", counts)))
    return say("{outcome}.", outcome=join("; ", parts))


def _exponent(story: Story) -> Card | None:
    law = story.law("frontier")
    told = story.records.text(f"{law}/verdict") if law else None
    if told is None:
        return None
    title = Sentence("Size against data")
    text = Sentence("{told}", {"told": told})
    gamma = story.records.number(f"{law}/params/gamma/value")
    if gamma is None or "cannot tell" in told.value or "undecided" in told.value:
        return Card(title, Sentence("cannot tell"), "", text, unsure=True)
    return Card(title, gamma, "exponent", text)


def _capacity(story: Story) -> Card | None:
    source = story.capacity()
    bits = story.records.measured(source) if source else None
    if source is None or bits is None:
        return None
    law = source.split("/params/")[0]
    firm = story.records.first(f"{law}/outcome/name") == "converged"
    text = join(
        " ",
        [
            say(
                "Where these models are full, by the fit{span}.",
                span=say(": {span}", span=between(bits.low, bits.high)) or "",
            ),
            None if firm else say("Not firm: {why}", why=story.records.text(f"{law}/outcome/sentence")),
            say(
                "The whole text is {data} bits and asks for {size} parameters.",
                data=story.records.number("advice.json#/memorise/bits/value", "count"),
                size=story.records.number("advice.json#/memorise/n_params/value", "count"),
            ),
        ],
    )
    return Card(Sentence("What a parameter holds"), bits.value, "bits per parameter", text or Sentence(""), not firm)


def _probe(story: Story) -> Card | None:
    if not story.profiles:
        return None
    profile, records = story.profiles[0], story.records
    loss = records.measured(f"{profile}#/loss/mean")
    model = story.model(profile)
    if loss is None or model is None:
        return None
    last = len(records.first(f"{profile}#/layers") or []) - 1
    cell = f"{profile}#/layers/{last}/radius"
    text = join(
        " ",
        [
            say(
                "A blind guess costs {uniform}, the same words shuffled {shuffled}.",
                uniform=records.measured(f"{profile}#/loss/uniform"),
                shuffled=_bare(records.measured(f"{profile}#/loss/shuffled")),
            ),
            say(
                "At the {site} half the distance to the nearest other state is {radius}; untrained weights give "
                "{untrained}, theory predicts {predicted}.",
                site=records.text(f"{profile}#/layers/{last}/site"),
                radius=records.number(f"{cell}/trained/value"),
                untrained=records.number(f"{cell}/untrained/value"),
                predicted=records.number(f"{cell}/predicted"),
            ),
        ],
    )
    return Card(
        say("How well {model} knows it", model=model) or Sentence(""),
        loss.value,
        "nats per token",
        text or Sentence(""),
    )


def _memorised(story: Story) -> Card | None:
    shares = story.run_values("memorised_share")
    known = [i for i, share in enumerate(shares) if share is not None]
    if not known:
        return None
    run = story.runs[max(known, key=lambda i: shares[i])]
    number = story.records.number
    text = join(
        " ",
        [
            say(
                "The most any of {n} runs memorised: {size} parameters on {tokens} tokens.",
                n=number(f"{RUNS}#/run_id", "count", "count"),
                size=number(f"{run}#/n_params", "count"),
                tokens=number(f"{run}#/n_tokens", "count"),
            ),
            say(
                "Its training loss is {train} nats per token over a floor of {floor}; on text it never saw, {fresh}.",
                train=number(f"{run}#/train_loss"),
                floor=number(f"{run}#/floor"),
                fresh=number(f"{run}#/fresh_loss"),
            ),
        ],
    )
    big = number(f"{run}#/memorised_share", "percent")
    return Card(Sentence("Learnt by heart"), big, "of its training text", text or Sentence("")) if big else None


def _claims(story: Story) -> Card | None:
    if not story.has("audit.json"):
        return None
    status = "audit.json#/claims/*/status"
    number = story.records.number
    n = number("audit.json#/claims/*/id", "count", "count")
    holds = number(status, "count", "where=holds")
    text = say(
        "{corrected} more hold with a correction, {refuted} are refuted by a counterexample, {implied} do not "
        "follow; experiments support {supported} and contradict {contradicted}; still open: {open}.",
        corrected=number(status, "count", "starts=holds with"),
        refuted=number(status, "count", "starts=refuted"),
        implied=number(status, "count", "starts=not implied"),
        supported=number(status, "count", "where=empirical: supported"),
        contradicted=number(status, "count", "where=empirical: contradicted"),
        open=number(status, "count", "starts=empirical: un"),
    )
    if not (n and holds and text):
        return None
    return Card(
        Sentence("Does the paper hold?"), say("{holds} of {n}", holds=holds, n=n) or holds, "claims, as stated", text
    )


def _cited(part: Any) -> list[Cited]:
    return [part] if isinstance(part, Cited) else part.cited() if part else []

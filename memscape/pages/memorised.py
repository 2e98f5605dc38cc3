"""What of the text can be got back from the model, and do scores tell what it was trained on?

The answer of a privacy review: extraction with its reference and canaries, membership scores, and what neither can say.
"""

from dataclasses import dataclass

from memscape.pages.citation import Cited, Sentence, join, say, step
from memscape.pages.figure import Table, table
from memscape.pages.gather import Story


@dataclass(frozen=True)
class Memorised:
    """What the section shows: an answer in words, its tables, its limits."""

    answer: Sentence
    tables: list[Table]
    limits: list[Cited]


def memorised(story: Story, profile: str) -> Memorised | None:
    """Return what extraction and membership found, or None where neither was asked."""
    answer = join(" ", [_extraction(story, profile), _reference(story, profile), _membership(story, profile)])
    if answer is None:
        return None
    tables = [_spans(story, profile), _canaries(story, profile), _scores(story, profile)]
    said = story.records.first(f"{profile}#/extraction/cannot_say") or []
    told = [story.records.text(f"{profile}#/extraction/cannot_say/{i}") for i in range(len(said))]
    return Memorised(answer, [it for it in tables if it], [line for line in told if line])


def _extraction(story: Story, profile: str) -> Sentence | None:
    base, records = f"{profile}#/extraction", story.records
    return say(
        "Given {prompt} tokens of this text, greedy decoding goes on as the text does in {share} of the windows; it "
        "guesses {right} of single tokens; the longest span it repeats has {longest} tokens.",
        prompt=records.number(f"{base}/prompt", "count"),
        share=(share := records.measured(f"{base}/extractable", "percent")) and share.bare,
        right=(right := records.measured(f"{base}/right", "percent")) and right.bare,
        longest=records.number(f"{base}/longest_span", "count"),
    )


def _reference(story: Story, profile: str) -> Sentence | None:
    base, records = f"{profile}#/extraction/reference", story.records
    return say(
        "On reference text it is {share}; a document of this text costs less than one of the reference with chance "
        "{below} (an even chance means no trace).",
        share=(share := records.measured(f"{base}/extractable", "percent")) and share.bare,
        below=(below := records.measured(f"{base}/below", "fixed2")) and below.bare,
    )


def _membership(story: Story, profile: str) -> Sentence | None:
    base, records = f"{profile}#/membership", story.records
    control = records.measured(f"{base}/control", "fixed2")
    if control is None:
        return None
    if records.first(f"{base}/void"):
        return say("Membership is void: the words alone tell members from others ({control}).", control=control.bare)
    best = records.first(f"{base}/best")
    return say(
        "Members are told from others best by {best}: AUROC {auroc}; words alone give {control}.",
        best=records.text(f"{base}/best"),
        auroc=(score := records.measured(f"{base}/scores/{step(str(best))}", "fixed2")) and score.bare,
        control=control.bare,
    )


def _spans(story: Story, profile: str) -> Table | None:
    base, records = f"{profile}#/extraction/spans", story.records
    rows = [
        [
            records.text(f"{base}/{i}/title"),
            records.number(f"{base}/{i}/length", "count"),
            records.text(f"{base}/{i}/before"),
            records.text(f"{base}/{i}/text"),
        ]
        for i in range(len(records.first(base) or []))
    ]
    return table("spans", {"document": True, "tokens": False, "prompt": True, "repeated by heart": True}, rows)


def _canaries(story: Story, profile: str) -> Table | None:
    base, records, told = f"{profile}#/extraction/canaries", story.records, story.records.text
    rows = [
        [told(f"{at}/canary"), records.measured(f"{at}/exposure"), records.number(f"{at}/most")]
        for at in (f"{base}/{i}" for i in range(len(records.first(base) or [])))
    ]
    return table("canaries", {"canary": True, "exposure": False, "largest possible": False}, rows)


def _scores(story: Story, profile: str) -> Table | None:
    base, records = f"{profile}#/membership/scores", story.records
    rows = [
        [Cited(name, at, "key"), (score := records.measured(at, "fixed3")) and score.bare]
        for name in records.first(base) or {}
        if records.has(at := f"{base}/{step(name)}")
    ]
    return table("membership", {"score": True, "AUROC": False}, rows)

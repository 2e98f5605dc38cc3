"""What does the model make of a passage? The tokens as text, and for each switch of the page one number a token."""

from memscape.pages.citation import Cited, Sentence, join, say, step
from memscape.pages.figure import Figure, anchor, columns
from memscape.pages.gather import Story


def passage(story: Story, profile: str) -> Figure | None:
    """A passage as the page shades it: the tokens as text, one column of numbers for each switch."""
    base = f"{profile}#/passage"
    content = story.records.first(base)
    if not isinstance(content, dict) or not content.get("tokens"):
        return None
    units = content.get("units") or {}
    measures = [
        k for k, v in content.items() if isinstance(v, list) and len(v) == len(content["tokens"]) and k != "tokens"
    ]
    measures = [m for m in measures if all(isinstance(v, int | float | None) for v in content[m])]
    data = columns(
        story.records,
        tokens=(f"{base}/tokens/*", ""),
        **{m: (f"{base}/{step(m)}/*", units.get(m, "")) for m in measures},
    )
    caption = join(
        " ",
        [
            say(
                "Deep ink is low: {model} expects the token (loss), or its state lies near a stored one (energy).",
                model=story.model(profile) or "the model",
            ),
            say(
                "Over the whole text the loss is {mean}, on shuffled words {shuffled}, for a blind guess {uniform}.",
                mean=story.records.measured(f"{profile}#/loss/mean"),
                shuffled=story.records.measured(f"{profile}#/loss/shuffled"),
                uniform=story.records.measured(f"{profile}#/loss/uniform"),
            ),
            say(
                "The rank correlation of a state's energy with the loss of its next token is {together}.",
                together=(rank := story.records.measured(f"{profile}#/energy_and_loss")) and rank.bare,
            ),
        ],
    )
    return (
        Figure(anchor("passage", profile), "A passage, token by token", caption or Sentence(""), data, [], {})
        if measures
        else None
    )


def passage_text(story: Story, profile: str) -> Cited:
    """The passage as one string, to be read and copied."""
    source = f"{profile}#/passage/tokens/*"
    return Cited(story.records.values(source, "joined")[0], source, "text", "joined")

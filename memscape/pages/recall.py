"""How many patterns come back? The share of cues retrieved against load, a figure a memory, a line a size."""

from memscape.pages.citation import Sentence, join, say, step
from memscape.pages.figure import Figure, columns, shade
from memscape.pages.gather import Story

FILE = "recall.json"


def figures(story: Story) -> list[Figure]:
    """Return a figure for each memory that was run."""
    curves = story.records.first(f"{FILE}#/curves") or []
    return [_figure(story, memory, curves) for memory in sorted({c["memory"] for c in curves if c.get("load")})]


def _figure(story: Story, memory: str, curves: list[dict]) -> Figure:
    records, data, traces = story.records, {}, []
    mine = [i for i, curve in enumerate(curves) if curve["memory"] == memory and curve.get("load")]
    for place, i in enumerate(mine):
        at, key = f"{FILE}#/curves/{i}", f"curve {i}"
        ends = {f"{key} {end}": (f"{at}/success/*/{end}", "share") for end in ("value", "low", "high")}
        data |= columns(records, **{f"{key} load": (f"{at}/load/*", "")}, **ends)
        flipped = records.number(f"{at}/flipped", "percent")
        traces.append(
            {"kind": "line", "x": f"{key} load", "y": f"{key} value", "low": f"{key} low", "high": f"{key} high"}
            | {"look": shade(place, len(mine)), "marks": True, "tag": True}
            | {"label": say("n = {n}, {flipped} flipped", n=records.number(f"{at}/n"), flipped=flipped)}
        )
    capacity, told = (
        records.measured(f"{FILE}#/capacity/{step(memory)}"),
        records.text(f"{FILE}#/theory/{step(memory)}"),
    )
    caption = join(
        " ",
        [
            say("Theory: {told}.", told=told),
            say("Measured over the sizes: {capacity} ({note}).", capacity=capacity, note=capacity and capacity.note),
            say("Bars: {how}.", how=records.text(f"{FILE}#/curves/{mine[0]}/success/0/interval")),
        ],
    )
    axes = {
        "x": {"title": "patterns over the scale of the theory", "scale": "log"},
        "y": {"title": "share of cues retrieved"},
    }
    title = say("The {memory} memory", memory=Sentence(memory)) or Sentence(memory)
    return Figure(f"recall-{memory}", title, caption or title, data, traces, axes)

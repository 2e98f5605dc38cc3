"""How does the energy lie around stored states, and does it fall on a model's way through its layers?

The descent from layer to layer beside the straight line between its ends; the energy in the plane of three states.
"""

from memscape.pages.citation import Sentence, join, say
from memscape.pages.figure import Figure, anchor, columns
from memscape.pages.gather import Story


def descent(story: Story, profile: str) -> Figure | None:
    """Energy along depth on the way the model takes and on the straight line between its ends."""
    base = f"{profile}#/descent/trained"
    unit = next((u for u in story.records.values(f"{base}/energy/*/unit") if u), "")
    data = columns(
        story.records,
        depth=(f"{profile}#/layers/*/depth", "layers"),
        model=(f"{base}/energy/*/value", unit),
        **{"model low": (f"{base}/energy/*/low", unit), "model high": (f"{base}/energy/*/high", unit)},
        straight=(f"{base}/straight/*/value", unit),
        untrained=(f"{profile}#/descent/untrained/energy/*/value", unit),
    )
    if not {"depth", "model", "straight"} <= set(data):
        return None
    # Every layer is read through the final norm, which has no step of its own.
    steps = {"x": "depth", "rows": list(range(len(data["model"].values)))}
    common = steps | {"kind": "line", "tag": True, "marks": True}
    band = steps | {"kind": "band", "low": "model low", "high": "model high", "look": "accent"}
    traces = [
        *([band] if "model low" in data else []),
        *([common | {"y": "untrained", "look": "mute", "label": "untrained"}] if "untrained" in data else []),
        common | {"y": "straight", "look": "second", "label": "straight line", "dash": "dash"},
        common | {"y": "model", "look": "accent", "label": "trained"},
    ]
    caption = join(
        " ",
        [
            say(
                "From layer to layer the energy among the final states falls in {falling} of the steps; on the "
                "straight line between the "
                "same ends in {straight}. Only the excess counts.",
                falling=story.records.number(f"{base}/falling/value", "percent"),
                straight=story.records.number(f"{base}/falling_straight/value", "percent"),
            ),
            say(
                "{n} documents; {interval}.",
                n=story.records.number(f"{base}/falling/n", "count"),
                interval=story.records.text(f"{base}/falling/interval"),
            ),
        ],
    )
    axes = {
        "x": {"title": "depth: the embedding, then the layers"},
        "y": {"title": f"energy ({unit})" if unit else "energy"},
    }
    return Figure(anchor("descent", profile), "Energy along the way", caption or Sentence(""), data, traces, axes)


def landscape(story: Story, profile: str) -> Figure | None:
    """The energy in the plane of three stored patterns, as a surface one can turn; contours where WebGL is missing."""
    base = f"{profile}#/landscape"
    unit = (story.records.first(base) or {}).get("unit", "") if story.records.has(base) else ""
    grid = columns(
        story.records,
        x=(f"{base}/x/*", "distance"),
        y=(f"{base}/y/*", "distance"),
        energy=(f"{base}/energy/*/*", unit),
    )
    if set(grid) != {"x", "y", "energy"}:
        return None
    points = columns(story.records, **{f"pattern {a}": (f"{base}/points/*/{a}", "distance") for a in "xy"})
    traces: list[dict] = [{"kind": "surface", "x": "x", "y": "y", "z": "energy"}]
    if len(points) == 2:
        traces.append({"kind": "peaks", "x": "pattern x", "y": "pattern y", "look": "second"})
    caption = say(
        "The energy around three stored states of {model} (dots), in their plane: from {low} at the lowest point "
        "drawn to {high} at the highest.{beta} Drag to turn it, or use the arrow keys.",
        model=story.model(profile) or "the model",
        low=story.records.number(f"{base}/energy/*/*", "sig2", "min"),
        high=story.records.number(f"{base}/energy/*/*", "sig2", "max"),
        beta=say(" Inverse temperature {beta}.", beta=story.records.number(f"{base}/beta")) or "",
    )
    energy = f"energy ({unit})" if unit else "energy"
    axes = {"x": {"title": "first direction"}, "y": {"title": "second direction"}, "z": {"title": energy}}
    title = "The landscape of three memories"
    return Figure(
        anchor("landscape", profile), title, caption or Sentence(title), {**grid, **points}, traces, axes, 520
    )

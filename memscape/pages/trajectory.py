"""What changes over training? One instrument a figure, by depth, a line a checkpoint."""

from memscape.pages.citation import named, say, step
from memscape.pages.figure import Figure, Table, columns, shade, table
from memscape.pages.gather import Story

FILE = "trajectory.json"


def figures(story: Story) -> list[Figure]:
    """Return a figure for each instrument that several checkpoints were read with."""
    checkpoints = story.records.first(f"{FILE}#/checkpoints") if story.has(FILE) else None
    made = []
    for instrument in (checkpoints or [{}])[0].get("layers", {}):
        name = named(instrument, f"{FILE}#/checkpoints/0/layers/{step(instrument)}")
        traces, data = [], columns(story.records, site=(f"{FILE}#/sites/*", ""))
        for i, checkpoint in enumerate(checkpoints or []):
            values = f"{FILE}#/checkpoints/{i}/layers/{step(instrument)}/*"
            unit = next((u for u in story.records.values(f"{values}/unit") if u), "")
            key = f"{checkpoint['name']} {instrument}"
            part = columns(story.records, **{key: (f"{values}/value", unit)})
            if part:
                data |= part
                label = say("{name}", name=story.records.text(f"{FILE}#/checkpoints/{i}/name"))
                look = {"look": shade(i, len(checkpoints or [])), "marks": True, "tag": True, "label": label}
                traces.append({"kind": "line", "x": "site", "y": key} | look)
        caption = say("The {name} at each site, a line a checkpoint, the later the deeper.", name=name)
        title = say("{name} over training", name=name)
        if traces and caption and title:
            axes = {"x": {"scale": "category"}, "y": {"title": name}}
            made.append(Figure(f"trajectory-{instrument}", title, caption, data, traces, axes))
    return made


def losses(story: Story) -> Table | None:
    """Return the loss of every checkpoint."""
    records = story.records
    count = len(records.first(f"{FILE}#/checkpoints") or []) if story.has(FILE) else 0
    rows = [
        [records.text(f"{at}/name"), measure]
        for at in (f"{FILE}#/checkpoints/{i}" for i in range(count))
        if (measure := records.measured(f"{at}/loss"))
    ]
    return table("trajectory", {"checkpoint": True, "loss": False}, rows)

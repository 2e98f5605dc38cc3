"""Does a state that was pushed away come back? Return and contraction against the size of the push, a line a layer."""

from memscape.pages.citation import Sentence, join, say
from memscape.pages.figure import Figure, anchor, columns, shade
from memscape.pages.gather import Story

MEASURES = {"returned": "share of states that return", "contraction": "distance after / distance before"}


def figures(story: Story, profile: str) -> list[Figure]:
    """Return the two figures of the basins, where they were measured."""
    told = {
        "returned": _returned(story, profile),
        "contraction": say(
            "How far a push has grown or shrunk at the end of the model: below one the layers pull a state back. "
            "Dashed: untrained weights."
        ),
    }
    made = [_against_push(story, profile, field, told[field]) for field in MEASURES]
    return [figure for figure in made if figure]


def _against_push(story: Story, profile: str, field: str, caption: Sentence | None) -> Figure | None:
    base, traces, data = f"{profile}#/basins", [], {}
    for weights in ("untrained", "trained"):
        sites = story.records.first(f"{base}/{weights}") or []
        for i in range(len(sites)):
            at, key = f"{base}/{weights}/{i}", f"{weights} {sites[i].get('site')}"
            part = columns(
                story.records,
                **{
                    f"{key} factor": (f"{at}/pushes/*/factor", "radii"),
                    f"{key} {field}": (f"{at}/pushes/*/{field}/value", "share" if field == "returned" else ""),
                },
            )
            if len(part) < 2:
                continue
            data |= part
            trace = {"kind": "line", "x": f"{key} factor", "y": f"{key} {field}", "marks": weights == "trained"}
            if weights == "trained":
                label = say("{site}", site=story.records.text(f"{at}/site"))
                trace |= {"look": shade(i, len(sites)), "tag": True, "label": label}
            else:
                trace |= {"look": "faint", "dash": "dash", "thin": True}
            traces.append(trace)
    if not traces:
        return None
    axes = {
        "x": {"title": "size of the push (half the distance to the nearest other state)", "scale": "log"},
        "y": {"title": MEASURES[field], "scale": "log" if field == "contraction" else "linear"},
    }
    title = {
        "returned": "How far can a state be pushed and still come back?",
        "contraction": "What the layers make of a push",
    }
    return Figure(anchor(f"basins-{field}", profile), title[field], caption or Sentence(""), data, traces, axes)


def _returned(story: Story, profile: str) -> Sentence | None:
    """Name the last site that was pushed, at the smallest and the largest push."""
    sites = story.records.first(f"{profile}#/basins/trained") or []
    if not sites:
        return None
    at, last = f"{profile}#/basins/trained/{len(sites) - 1}", len(sites[-1].get("pushes") or []) - 1
    number = story.records.number
    return join(
        " ",
        [
            say(
                "Pushed at {site} by {small} of the radius, {few} of the states end nearest to their own end; by "
                "{large}, {many}. Dashed: untrained weights.",
                site=story.records.text(f"{at}/site"),
                small=number(f"{at}/pushes/0/factor"),
                few=number(f"{at}/pushes/0/returned/value", "percent"),
                large=number(f"{at}/pushes/{last}/factor"),
                many=number(f"{at}/pushes/{last}/returned/value", "percent"),
            ),
            say(
                "The radius measured there is {radius}, the paper's {claimed}.",
                radius=number(f"{at}/radius"),
                claimed=number(f"{profile}#/basins/predicted"),
            ),
        ],
    )

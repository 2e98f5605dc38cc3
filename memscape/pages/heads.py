"""What does each attention head do: does it look up the nearest key, and how many keys does it mix?

Maps of layers x heads, and how many heads fall into each regime of Ramsauer et al. (arXiv 2008.02217, section 3).
"""

from memscape.pages.citation import Sentence, join, say
from memscape.pages.figure import Figure, anchor, columns
from memscape.pages.gather import Story

REGIMES = {"single pattern": "look up a single pattern", "metastable": "mix several", "global average": "average all"}


def maps(story: Story, profile: str) -> list[Figure]:
    """Return the two maps: agreement with nearest neighbours, and the effective number of keys."""
    base = f"{profile}#/attention"
    best = _extreme(story, base, "agreement_rest", max)
    found = say(
        "How often a head's largest weight lies on the key nearest to its query, the first key left out, where most "
        "heads rest; by chance it would be {chance}.{best}",
        chance=story.records.number(f"{base}/chance/value", "percent"),
        best=say(
            " Most like a search is head {head} of layer {layer}: {value}.", **_cell(story, best, "agreement_rest")
        )
        or "",
    )
    few = _extreme(story, base, "effective", min)
    mixed = join(
        " ",
        [
            say(
                "The effective number of keys a head mixes, as a share of those it sees; fewest has head {head} of "
                "layer {layer}: {value}.",
                **_cell(story, few, "effective"),
            ),
            _regimes(story, base),
        ],
    )
    made = [
        _map(story, profile, "agreement_rest", "Heads that look up the nearest key", found),
        _map(story, profile, "effective", "How many keys a head mixes", mixed),
    ]
    return [figure for figure in made if figure]


def _map(story: Story, profile: str, field: str, title: str, caption: Sentence | None) -> Figure | None:
    base = f"{profile}#/attention/heads/*"
    data = columns(
        story.records,
        layer=(f"{base}/layer", ""),
        head=(f"{base}/head", ""),
        regime=(f"{base}/regime", ""),
        **{field: (f"{base}/{field}/value", "share")},
    )
    if field not in data or caption is None:
        return None
    trace = {"kind": "tiles", "x": "layer", "y": "head", "z": field, "hover": {"regime": "regime"}}
    axes = {"x": {"title": "layer"}, "y": {"title": "head", "scale": "category"}}
    heads = max(data["head"].values)
    return Figure(anchor(f"heads-{field}", profile), title, caption, data, [trace], axes, 130 + min(30 * heads, 420))


def _extreme(story: Story, base: str, field: str, pick) -> str | None:
    """Return the source of the head whose `field` is largest or smallest."""
    values = story.records.values(f"{base}/heads/*/{field}/value")
    known = [i for i, value in enumerate(values) if value is not None]
    return f"{base}/heads/{pick(known, key=lambda i: values[i])}" if known else None


def _cell(story: Story, source: str | None, field: str) -> dict:
    number = story.records.number
    return {
        "head": number(f"{source}/head", "count") if source else None,
        "layer": number(f"{source}/layer", "count") if source else None,
        "value": number(f"{source}/{field}/value", "percent") if source else None,
    }


def _regimes(story: Story, base: str) -> Sentence | None:
    """Say how many heads fall into each regime, trained and untrained."""
    counts = [
        say(
            f"{{n}} {told}{{untrained}}",
            n=story.records.number(f"{base}/regimes/{name}", "count"),
            untrained=say(" (untrained {n})", n=story.records.number(f"{base}/untrained/{name}", "count")) or "",
        )
        for name, told in REGIMES.items()
    ]
    return say("Of its heads {counts}.", counts=join(", ", counts))

"""Where in the model, and where in the text, does memory show? The figures of a probe profile.

Layers against instruments, each cell beside its null; and each instrument by depth, as the radius against sqrt(n / 2 pi
e) (arXiv 2405.08707, section 4.2) and its nulls.
"""

from typing import Any

from memscape.pages.citation import Sentence, join, named, say, step
from memscape.pages.figure import Column, Figure, anchor, columns, label
from memscape.pages.gather import Story

NULLS = {"untrained": "untrained", "gaussian": "Gaussian", "inner_gaussian": "correlated Gaussian"}
"""Nulls a layer may carry beside `trained`, and how they are called on the page."""
WHAT = {
    "untrained": "its own shape with untrained weights",
    "gaussian": "Gaussian vectors with the same mean and deviation of every coordinate",
    "inner_gaussian": "Gaussian vectors with the same mean and covariance",
}
NAMES = {
    "separation_dot": "separation, dot product",
    "dimension_ml": "dimension, likelihood",
    "participation": "directions of the variance",
    "attention_agreement": "attention to the nearest key",
    "attention_bias": "attention off distance",
    "attention_effective": "keys a query mixes",
    "memories": "memories a token calls",
    "contraction": "what is left of a push",
    "growth": "growth with states stored",
    "duplicates": "exact copies",
    "overlap": "balls that meet",
}
"""Instruments whose field needs other words."""
LOOK = {"trained": "accent", "untrained": "mute", "predicted": "second"}
FIRST = (
    "radius",
    "energy",
    "separation",
    "well_separated",
    "dimension",
    "attention_agreement",
    "memories",
    "contraction",
)
"""Instruments whose curves stand open on the page, in this order; all others are a click away."""


DEPTH = "embedding to final norm"

MEANING = {
    "radius": "Half the distance from a state to the nearest state of another document.",
    "sequence_radius": "Half the distance from a whole context to the nearest one of another document.",
    "growth": "The exponent with which the radius changes as more states are stored.",
    "duplicates": "States with an exact copy in another document.",
    "energy": "How deep a state lies among those of other documents, in units of their spread; low is near.",
    "separation": "The distance to the nearest state of another document; unrelated states lie about one apart.",
    "separation_without_copies": "The distance to the nearest state that is no exact copy; unrelated lie one apart.",
    "separation_dot": "Ramsauer's separation: by how much a state matches itself better than any other.",
    "overlap": "States whose ball of the paper's radius meets the ball of another.",
    "well_separated": "States that provably hold a ball of their own, into which they can be retrieved.",
    "dimension": "The number of directions in which neighbouring states differ (TwoNN).",
    "dimension_ml": "The number of directions in which neighbouring states differ (maximum likelihood).",
    "participation": "The number of directions that share the variance.",
    "attention_agreement": "How often a head's largest weight lies on the key nearest to its query.",
    "attention_bias": "How far attention weights lie from weights by distance alone (total variation).",
    "attention_effective": "The effective number of keys that a query mixes, of all it sees.",
    "memories": "The effective share of the feed-forward memories that one token calls.",
    "contraction": "What the layers that follow leave of a push by one radius; below one it shrinks.",
}
"""What each instrument measures, for a reader who sees its curve first."""


def instruments(story: Story, profile: str) -> list[str]:
    """Return the instruments that measured the trained model: those of `FIRST`, then all others."""
    layers = story.records.first(f"{profile}#/layers") or []
    found = {
        key: None
        for layer in layers
        for key, value in layer.items()
        if isinstance(value, dict) and value.get("trained")
    }
    return [name for name in FIRST if name in found] + [name for name in found if name not in FIRST]


def _called(instrument: str, source: str) -> Any:
    return NAMES.get(instrument) or named(instrument, source)


def shown_nulls(story: Story, profile: str) -> tuple[str, str]:
    """Return the nulls that get a map: untrained weights, and the Gaussian that shares most with the model."""
    correlated = any(story.records.values(f"{profile}#/layers/*/*/inner_gaussian/value"))
    return "untrained", "inner_gaussian" if correlated else "gaussian"


def heat_map(story: Story, profile: str, null: str) -> Figure | None:
    """Layers x instruments against one null: (trained - null) / (|trained| + |null|)."""
    records = story.records
    wanted, rows = {}, []
    for instrument in instruments(story, profile):
        base = f"{profile}#/layers/*/{step(instrument)}"
        pair = f"{base}/trained/value | {base}/{null}/value"
        if any(value is not None for value in records.values(pair, "contrast")):
            wanted[instrument] = (pair, "", "contrast")
            wanted[f"{instrument} trained"] = (f"{base}/trained/value", "")
            wanted[f"{instrument} null"] = (f"{base}/{null}/value", "")
            rows.append(instrument)
    data = columns(records, site=(f"{profile}#/layers/*/site", ""), depth=(f"{profile}#/layers/*/depth", ""), **wanted)
    if not rows or "depth" not in data:
        return None
    trace = {
        "kind": "heat",
        "x": "depth",
        "y": [label(_called(name, f"{profile}#/layers/0/{step(name)}")) for name in rows],
        "z": rows,
        "hover": {
            "site": "site",
            "trained": [f"{name} trained" for name in rows],
            "null": [f"{name} null" for name in rows],
        },
    }
    caption = say(
        "Each cell sets one layer of {model} beside {null}: blue where the trained model lies lower, ochre where it "
        "lies higher, blank where it was not measured or both are zero. {strongest}",
        model=story.model(profile) or "the model",
        null=WHAT[null],
        strongest=_strongest(story, profile, rows, null) or "",
    )
    title = f"Layers and instruments against {'untrained weights' if null == 'untrained' else 'Gaussian vectors'}"
    axes = {"x": {"title": DEPTH}, "y": {"scale": "category"}}
    height = 110 + 26 * len(rows)
    return Figure(anchor(f"map-{null}", profile), title, caption or Sentence(""), data, [trace], axes, height)


def _strongest(story: Story, profile: str, rows: list[str], null: str) -> Sentence | None:
    """Name the cell that lies farthest from its null; a null of exactly zero has no scale to be far from."""
    best: tuple[float, str, int] | None = None
    for instrument in rows:
        base = f"{profile}#/layers/*/{step(instrument)}"
        for i, value in enumerate(story.records.values(f"{base}/trained/value | {base}/{null}/value", "contrast")):
            if value is not None and abs(value) < 1 and (best is None or abs(value) > best[0]):
                best = (abs(value), instrument, i)
    if best is None:
        return None
    _, instrument, i = best
    cell = f"{profile}#/layers/{i}/{step(instrument)}"
    return say(
        "Farthest apart is the {instrument} at {site}: {trained} against {null}.",
        instrument=_called(instrument, cell),
        site=story.records.text(f"{profile}#/layers/{i}/site"),
        trained=story.records.number(f"{cell}/trained/value"),
        null=story.records.number(f"{cell}/{null}/value"),
    )


def depth_curve(story: Story, profile: str, instrument: str) -> Figure | None:
    """One instrument by depth: the trained model with its interval, its nulls, and the prediction if there is one."""
    records, base = story.records, f"{profile}#/layers/*/{step(instrument)}"
    unit = next((u for u in records.values(f"{base}/trained/unit") if u and u != "1"), "")
    wanted: dict[str, tuple[str, ...]] = {
        "depth": (f"{profile}#/layers/*/depth", "layers"),
        "site": (f"{profile}#/layers/*/site", ""),
    }
    series = ["trained", *NULLS]
    for name in series:
        wanted |= {name: (f"{base}/{name}/value", unit)}
        wanted |= {f"{name} {end}": (f"{base}/{name}/{end}", unit) for end in ("low", "high")}
    wanted["predicted"] = (f"{base}/predicted", unit)
    data = columns(records, **wanted)
    if "trained" not in data or "depth" not in data:
        return None
    words = {"trained": "trained", **NULLS, "predicted": "predicted"}
    log, traces = _wide(data) and not unit.startswith("share"), []
    for name in [n for n in (*NULLS, "predicted", "trained") if n in data]:
        # Some instruments stand at a few layers only: their points are joined over the gaps. A logarithm has no zero.
        known = [i for i, value in enumerate(data[name].values) if value is not None and (value > 0 or not log)]
        common = {"x": "depth", "rows": known}
        if f"{name} low" in data and name == "trained":
            traces.append(common | {"kind": "band", "low": "trained low", "high": "trained high", "look": "accent"})
        look = {"look": LOOK.get(name, "faint"), "label": words[name], "tag": True, "hover": {"at": "site"}}
        marks = {"dash": "dash"} if name == "predicted" else {"marks": True}
        traces.append(common | {"kind": "line", "y": name} | look | marks)
    style = "percent" if unit.startswith("share") else "sig3"
    last = max(i for i, value in enumerate(data["trained"].values) if value is not None)
    cell = f"{profile}#/layers/{last}/{step(instrument)}"
    site = story.records.text(f"{profile}#/layers/{last}/site")
    name = _called(instrument, cell)
    unit_text = records.text(f"{cell}/trained/unit") if unit else None
    caption = join(
        " ",
        [
            Sentence(MEANING.get(instrument, "")) if instrument in MEANING else None,
            say(
                "At {site} it is {trained}{null}{predicted}.",
                site=site,
                trained=(trained := records.measured(f"{cell}/trained", style)) and trained.bare,
                null=join(
                    "",
                    [
                        say(", {name} {value}", name=NULLS[n], value=records.number(f"{cell}/{n}/value", style))
                        for n in NULLS
                    ],
                )
                or "",
                predicted=say("; predicted {value}", value=records.number(f"{cell}/predicted")) or "",
            ),
            say("The band: {interval}.", interval=records.text(f"{cell}/trained/interval")),
        ],
    )
    axes = {
        "x": {"title": DEPTH},
        "y": {"title": say("{name} ({unit})", name=name, unit=unit_text) or name, "scale": "log" if log else "linear"},
    }
    title = say("{name} by layer", name=name) or Sentence("By layer")
    return Figure(anchor(instrument, profile), title, caption or title, data, traces, axes)


def _wide(data: dict[str, Column]) -> bool:
    """Return whether values span more than a linear axis shows; an exact zero (copies of one token) is left off it."""
    values = [v for name in ("trained", *NULLS) if name in data for v in data[name].values if v]
    return bool(values) and max(values) > 8 * min(values) > 0

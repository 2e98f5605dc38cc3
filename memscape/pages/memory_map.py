"""Where in the model, and where in the text, does memory show? The figures of a probe profile.

Layers against instruments, each cell beside its null; the nearest-neighbour radius against sqrt(n / 2 pi e) (arXiv
2405.08707, section 4.2) and its nulls; the energy around stored patterns; a passage with a number for each token.
"""

from typing import Any

from memscape.pages.citation import Sentence, join, named, say, step
from memscape.pages.figure import Column, Figure, columns, label
from memscape.pages.gather import Story

NULLS = {"untrained": "untrained", "gaussian": "Gaussian"}
"""Nulls a layer may carry beside `trained`, and how they are called on the page."""
LOOK = {"trained": "accent", "untrained": "mute", "gaussian": "faint", "predicted": "second"}


def instruments(story: Story, profile: str) -> list[str]:
    """Return the instruments that measured the trained model, in the order of the profile."""
    layers = story.records.first(f"{profile}#/layers") or []
    found = {
        key: None
        for layer in layers
        for key, value in layer.items()
        if isinstance(value, dict) and value.get("trained")
    }
    return list(found)


def heat_map(story: Story, profile: str) -> Figure | None:
    """Layers x instruments: (trained - null) / (|trained| + |null|), one row for each instrument and null."""
    records = story.records
    wanted, rows = {}, []
    for instrument in instruments(story, profile):
        for null, name in NULLS.items():
            base = f"{profile}#/layers/*/{step(instrument)}"
            pair = f"{base}/trained/value | {base}/{null}/value"
            if any(value is not None for value in records.values(pair, "contrast")):
                key = f"{instrument} {null}"
                wanted[key] = (pair, "", "contrast")
                wanted[f"{key} trained"] = (f"{base}/trained/value", "")
                wanted[f"{key} null"] = (f"{base}/{null}/value", "")
                rows.append(
                    (
                        key,
                        say(
                            "{it} against {null}",
                            it=named(instrument, f"{profile}#/layers/0/{step(instrument)}"),
                            null=name,
                        ),
                    )
                )
    data = columns(records, site=(f"{profile}#/layers/*/site", ""), depth=(f"{profile}#/layers/*/depth", ""), **wanted)
    if not rows or "depth" not in data:
        return None
    trace = {
        "kind": "heat",
        "x": "depth",
        "y": [label(name) for _, name in rows],
        "z": [key for key, _ in rows],
        "hover": {
            "site": "site",
            "trained": [f"{key} trained" for key, _ in rows],
            "null": [f"{key} null" for key, _ in rows],
        },
    }
    caption = say(
        "Each cell compares one layer of {model} with a null that has learnt nothing: blue where the trained "
        "model lies lower, "
        "ochre where it lies higher, paper where they agree. {strongest}",
        model=story.model(profile) or "the model",
        strongest=_strongest(story, profile, rows) or "",
    )
    axes = {"x": {"title": "depth (layers)"}, "y": {"scale": "category"}}
    return Figure(
        anchor("map", profile),
        "Layers and instruments at a glance",
        caption or Sentence(""),
        data,
        [trace],
        axes,
        130 + 34 * len(rows),
    )


def _strongest(story: Story, profile: str, rows: list[tuple[str, Any]]) -> Sentence | None:
    """Name the cell that lies farthest from its null; a null of exactly zero has no scale to be far from."""
    best: tuple[float, str, str, int] | None = None
    for key, _ in rows:
        instrument, null = key.rsplit(" ", 1)
        base = f"{profile}#/layers/*/{step(instrument)}"
        values = story.records.values(f"{base}/trained/value | {base}/{null}/value", "contrast")
        for i, value in enumerate(values):
            if value is not None and abs(value) < 1 and (best is None or abs(value) > best[0]):
                best = (abs(value), instrument, null, i)
    if best is None:
        return None
    _, instrument, null, i = best
    base = f"{profile}#/layers/{i}"
    return say(
        "Farthest from its null is the {instrument} at {site}: {trained} against {null} ({name}).",
        instrument=named(instrument, f"{base}/{step(instrument)}"),
        site=story.records.text(f"{base}/site"),
        trained=story.records.number(f"{base}/{step(instrument)}/trained/value"),
        null=story.records.number(f"{base}/{step(instrument)}/{null}/value"),
        name=NULLS[null],
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
    traces = []
    for name in [n for n in (*NULLS, "predicted", "trained") if n in data]:
        if f"{name} low" in data and name == "trained":
            traces.append(
                {"kind": "band", "x": "depth", "low": "trained low", "high": "trained high", "look": "accent"}
            )
        traces.append(
            {"kind": "line", "x": "depth", "y": name, "look": LOOK[name], "label": words[name], "tag": True}
            | {"hover": {"at": "site"}}
            | ({"dash": "dash"} if name == "predicted" else {"marks": True})
        )
    style = "percent" if unit.startswith("share") else "sig3"
    last = len(data["depth"].values) - 1
    cell = f"{profile}#/layers/{last}/{step(instrument)}"
    site = story.records.text(f"{profile}#/layers/{last}/site")
    unit_text = records.text(f"{cell}/trained/unit") if unit else None
    caption = join(
        " ",
        [
            say(
                "At the {site} the {instrument} of the trained model is {trained}{null}{predicted}.",
                site=site,
                instrument=named(instrument, cell),
                trained=records.measured(f"{cell}/trained", style),
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
            say("The band is the {interval}.", interval=records.text(f"{cell}/trained/interval")),
        ],
    )
    axes = {
        "x": {"title": "depth (layers)"},
        "y": {
            "title": say("{name} ({unit})", name=named(instrument, cell), unit=unit_text) or named(instrument, cell),
            "scale": "log" if _wide(data) and style != "percent" else "linear",
        },
    }
    title = say("{name} by layer", name=named(instrument, cell)) or Sentence("By layer")
    return Figure(anchor(instrument, profile), title, caption or title, data, traces, axes)


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
    common = {"kind": "line", "x": "depth", "tag": True, "marks": True}
    band = {"kind": "band", "x": "depth", "low": "model low", "high": "model high", "look": "accent"}
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
    axes = {"x": {"title": "depth (layers)"}, "y": {"title": f"energy ({unit})" if unit else "energy"}}
    return Figure(anchor("descent", profile), "Energy along the way", caption or Sentence(""), data, traces, axes)


def _wide(data: dict[str, Column]) -> bool:
    """Return whether values span more than a linear axis shows; an exact zero (copies of one token) is left off it."""
    values = [v for name in ("trained", *NULLS) if name in data for v in data[name].values if v]
    return bool(values) and max(values) > 8 * min(values) > 0


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
        "drawn to {high} at "
        "the highest.{beta} Drag to turn it, or use the arrow keys.",
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


def anchor(name: str, profile: str) -> str:
    """Return the anchor of a figure: its name and the probe's folder, letters and digits only."""
    folder = profile.split("/")[-2] if "/" in profile else "model"
    return "".join(c if c.isalnum() else "-" for c in f"{name}-{folder}")

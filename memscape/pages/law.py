"""Which law do the runs follow? The figures of a fit: its curve with band, reference slopes, ranking, residuals.

A fit carries its own curve (points with intervals, lines with bands, references); everything here draws that curve.
"""

from dataclasses import replace

from memscape.pages.citation import Sentence, join, say
from memscape.pages.figure import Column, Figure, columns, shade
from memscape.pages.gather import Story


def frontier(story: Story) -> Figure | None:
    """The size that D tokens call for, log-log, with its band and the slopes that theories predict."""
    law = story.law("frontier")
    if law is None or not story.records.first(f"{law}/curve/lines"):
        return None
    gamma = story.records.measured(f"{law}/params/gamma")
    slopes = [
        reference
        for reference in story.records.first(f"{law}/curve/references") or []
        if reference.get("slope") is not None
    ]
    inside = [i for i, reference in enumerate(slopes) if reference.get("inside")]
    caption = join(
        " ",
        [
            say("The exponent is {gamma} ({note}).", gamma=gamma and gamma.bare, note=gamma and gamma.note),
            say(
                "Reference slopes inside its interval: {inside}.",
                inside=join(", ", [story.records.number(f"{law}/curve/references/{i}/slope") for i in inside]),
            ),
            say("{outcome}", outcome=story.records.text(f"{law}/outcome/sentence")),
        ],
    )
    return curve(story, law, "frontier", "The size that the data call for", caption, 500)


def curve(
    story: Story, source: str, name: str, title: str, caption: Sentence | None, height: int = 420
) -> Figure | None:
    """Any `curve` of a fit or an advice, both axes logarithmic."""
    base = f"{source}/curve"
    content = story.records.first(base)
    if not isinstance(content, dict):
        return None
    x, y = story.records.text(f"{base}/x"), story.records.text(f"{base}/y")
    data: dict[str, Column] = {}
    traces: list[dict] = []
    for kind, look in (("references", "faint"), ("lines", "accent")):
        lines = content.get(kind) or []
        for i, line in enumerate(lines):
            at, key = f"{base}/{kind}/{i}", f"{kind[:-1]} {i + 1}"
            part = columns(
                story.records,
                **{f"{key} x": (f"{at}/x/*", ""), f"{key} y": (f"{at}/y/*", "")},
                **{f"{key} {end}": (f"{at}/{end}/*", "") for end in ("low", "high")},
            )
            if f"{key} x" not in part or f"{key} y" not in part:
                continue
            data |= part
            paint = _shade(lines, i) if kind == "lines" else "ink" if line.get("inside") else look
            trace = {
                "kind": "line",
                "x": f"{key} x",
                "y": f"{key} y",
                "look": paint,
                "tag": True,
                "label": say("{text}", text=_name(story, at, line)),
            }
            if f"{key} low" in part and f"{key} high" in part:
                traces.append(
                    {"kind": "band", "x": f"{key} x", "low": f"{key} low", "high": f"{key} high", "look": paint}
                )
            traces.append(trace | ({"dash": "dot", "thin": True, "aside": True} if kind == "references" else {}))
    points = columns(
        story.records,
        **{
            f"point {axis}": (f"{base}/points/*/{axis}", "")
            for axis in ("x", "y", "x_low", "x_high", "y_low", "y_high", "residual")
        },
    )
    if "point x" in points and "point y" in points:
        data |= points
        bars = {"low": "point y_low", "high": "point y_high"} if "point y_low" in points else {}
        sides = {"left": "point x_low", "right": "point x_high"} if "point x_low" in points else {}
        marks = {"kind": "points", "x": "point x", "y": "point y", "look": "ink", **bars, **sides}
        loose = [i for i, point in enumerate(content["points"]) if point.get("censored", "no") != "no"]
        firm = [i for i in range(len(content["points"])) if i not in loose]
        traces += [marks | {"rows": firm}] if firm else []
        # A crossing outside the grid is known on one side only: hollow, and no part of the fit.
        traces += (
            [{"kind": "points", "x": "point x", "y": "point y", "look": "ink", "rows": loose, "hollow": True}]
            if loose
            else []
        )
    if not traces:
        return None
    axes = {"x": {"title": x or "", "scale": "log"}, "y": {"title": y or "", "scale": "log"}}
    return Figure(name, title, caption or Sentence(title), data, traces, axes, height)


def _name(story: Story, at: str, line: dict):
    if line.get("n_params"):
        return story.records.number(f"{at}/n_params", "count")
    return story.records.text(f"{at}/label")


def _shade(lines: list[dict], place: int) -> str:
    sizes = sorted({line["n_params"] for line in lines if line.get("n_params")})
    if len(sizes) < 2 or not lines[place].get("n_params"):
        return "accent"
    return shade(sizes.index(lines[place]["n_params"]), len(sizes))


def advised(story: Story) -> Figure | None:
    """The held-out loss each size would reach on this text, and the size that is recommended."""
    base = "advice.json#/recommended"
    drawn = story.records.first("advice.json#/curve/lines/0/low")
    size, loss = story.records.measured(f"{base}/n_params", "count"), story.records.measured(f"{base}/fresh_loss")
    caption = say(
        "Line: the loss that the law expects at each size{band}. Dot and cross: the size we would train, {size} "
        "({how}), and the loss it should reach, {loss} nats per token ({note}), an interval along each axis.",
        band=(drawn and "; band: where it would lie were the law fitted again to resampled runs") or "",
        size=size and size.bare,
        how=size and size.interval,
        loss=loss and loss.bare,
        note=loss and loss.note,
    )
    figure = curve(story, "advice.json#", "advised", "What each size would reach on this text", caption)
    if figure is None:
        return None
    mark = columns(
        story.records,
        **{
            "recommended size": (f"{base}/n_params/value", "parameters"),
            "recommended loss": (f"{base}/fresh_loss/value", "nats/token"),
        },
    )
    point = {"kind": "points", "x": "recommended size", "y": "recommended loss", "look": "second"}
    traces = [*figure.traces, *([point] if len(mark) == 2 else [])]
    return replace(figure, columns={**figure.columns, **mark}, traces=traces)


def ranking(story: Story) -> Figure | None:
    """Laws by their error on the largest sizes and data sizes they were not shown."""
    rows = story.records.first("fit.json#/ranking") or []
    about = "loss" if any(row.get("about") == "loss" for row in rows) else None
    data = columns(
        story.records,
        law=("fit.json#/ranking/*/law", ""),
        heldout_error=("fit.json#/ranking/*/heldout_error", "ln(measured / predicted)"),
        aic=("fit.json#/ranking/*/aic", ""),
        bic=("fit.json#/ranking/*/bic", ""),
    )
    keep = [
        i for i, row in enumerate(rows) if row.get("heldout_error") is not None and row.get("about", about) == about
    ]
    if len(keep) < 2:
        return None
    keep.sort(key=lambda i: rows[i]["heldout_error"])
    hover = {key.upper(): key for key in ("aic", "bic") if key in data}
    trace = {"kind": "bars", "x": "heldout_error", "y": "law", "rows": keep, "look": "accent", "hover": hover}
    best, worst = (f"fit.json#/ranking/{keep[i]}" for i in (0, -1))
    law = story.records.text(f"{best}/law")
    no_law = law is not None and law.value.startswith("no law")
    caption = say(
        "Shown the smaller runs only, {best} predicts the largest with an error of {error} in the logarithm of "
        "the loss; {worst} with {worst_error}. Scored on {n} points that no fit saw.",
        best=Sentence("the nearest run, without any law,") if no_law else law,
        error=story.records.number(f"{best}/heldout_error"),
        worst=story.records.text(f"{worst}/law"),
        worst_error=story.records.number(f"{worst}/heldout_error"),
        n=story.records.number(f"{best}/n_heldout", "count"),
    )
    axes = {
        "x": {"title": "rms error of ln(loss)", "scale": "log"},
        "y": {"scale": "category"},
    }
    return Figure(
        "ranking",
        "Laws ranked by what they had not seen",
        caption or Sentence("Lower is better."),
        data,
        [trace],
        axes,
        130 + 40 * len(keep),
    )


def residuals(story: Story) -> Figure | None:
    """ln(measured / fitted) of the best loss law against its fitted value: noise without a pattern if the law holds."""
    rows = story.records.first("fit.json#/ranking") or []
    ordered = sorted(
        (r for r in rows if r.get("heldout_error") is not None and r.get("about") == "loss"),
        key=lambda r: r["heldout_error"],
    )
    for name in [*(row["law"] for row in ordered), "chinchilla"]:
        base = f"{story.law(name)}/curve/points" if story.law(name) else ""
        if base and any(v is not None for v in story.records.values(f"{base}/*/residual")):
            break
    else:
        return None
    data = columns(
        story.records,
        x=(f"{base}/*/x", ""),
        residual=(f"{base}/*/residual", "ln(measured / fitted)"),
        n_params=(f"{base}/*/n_params", "parameters"),
    )
    law = story.law(name)
    caption = join(
        " ",
        [
            say(
                "What {law} leaves unexplained, point by point; a law that holds leaves noise around zero.",
                law=story.records.text(f"{law}/law"),
            ),
            say(
                "Its robust spread is {noise} over {n} points.",
                noise=story.records.number(f"{law}/noise"),
                n=story.records.number(f"{law}/n", "count"),
            ),
        ],
    )
    hover = {"size": "n_params"} if "n_params" in data else {}
    trace = {"kind": "points", "x": "x", "y": "residual", "look": "accent", "hover": hover}
    axes = {
        "x": {"title": story.records.text(f"{law}/curve/x") or "", "scale": "log"},
        "y": {"title": "ln(measured / fitted)", "zero": True},
    }
    return Figure("residuals", "What the best law leaves over", caption or Sentence(""), data, [trace], axes, 340)

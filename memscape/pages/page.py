"""How does a folder become a page? Gather, draw, write one HTML file that needs nothing else.

>>> report("runs/book")                                        # doctest: +SKIP
PosixPath('runs/book/report.html')
"""

import base64
import gzip
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from memscape.errors import MemscapeError
from memscape.folder import write_json, write_whole
from memscape.pages import grid, law, map
from memscape.pages.citation import Cited, Sentence, join, say, step
from memscape.pages.figure import Figure
from memscape.pages.gather import OWN, Story, gather
from memscape.pages.verdict import Verdict, verdict

HERE = Path(__file__).parent

RUN_COLUMNS = {
    "run_id": ("run", "text"),
    "status": ("status", "text"),
    "n_params": ("parameters", "count"),
    "n_tokens": ("unique tokens", "count"),
    "epochs": ("epochs", "sig3"),
    "learning_rate": ("rate", "sig2"),
    "train_loss": ("train loss", "fixed3"),
    "fresh_loss": ("held-out loss", "fixed3"),
    "other_loss": ("other text", "fixed3"),
    "floor": ("floor", "fixed3"),
    "memorised_bits": ("bits memorised", "count"),
    "memorised_share": ("share memorised", "percent"),
    "bits_per_param": ("bits/parameter", "sig3"),
    "extracted_share": ("extracted", "percent"),
    "d_model": ("width", "count"),
    "n_layers": ("layers", "count"),
    "seed": ("seed", "text"),
    "steps": ("steps", "count"),
}
"""Field of a run -> its heading and style in the table; losses are nats per token."""

CHIPS = {"holds with": "corrected", "holds": "holds", "refuted": "refuted", "not implied": "refuted", "empirical: supp": "holds",
         "empirical: contra": "refuted"}
"""How a claim's status begins -> the look of its chip."""


LONGEST_FACTS = 40
"""A JSON object with more entries than this is a table of something, not a fact about the folder."""


@dataclass(frozen=True)
class Table:
    """Headings and rows of cited values."""

    name: str
    headings: list[tuple[str, bool]]
    """Heading and whether the column holds words."""
    rows: list[list[Cited | None]]


def report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of `folder` as one HTML file and return its path; `verdict.json` is written beside it.

    Works on any result folder: a study, a sweep, a probe, a fit, an audit. `out` is `folder/report.html` unless given.
    Raises `FolderError` when the folder holds no results or cannot be written.
    """
    story = gather(Path(folder))
    path = Path(out) if out is not None else Path(folder) / "report.html"
    answer = verdict(story)
    page = render(story, answer)
    write_json(path.parent / OWN, answer.plain())
    return write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))


def render(story: Story, answer: Verdict) -> str:
    """Return the page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["embedded"] = _embedded
    probes = [_probe(story, profile) for profile in story.profiles]
    law_figures = [f for f in (law.frontier(story), law.ranking(story), law.residuals(story)) if f]
    grid_figures = [f for f in (grid.losses(story), grid.capacity(story)) if f]
    advice = law.curve(story, "advice.json#", "advice-curve", "What each size would reach on this text", _advice_caption(story))
    drawn = bool(law_figures or grid_figures or advice or any(probe["figures"] for probe in probes))
    return environment.get_template("page.html.j2").render(
        story=story,
        verdict=answer,
        probes=probes,
        grid=grid_figures,
        law=law_figures,
        laws=_laws(story),
        advice=_advice(story, advice),
        claims=_claims(story),
        runs=_runs(story),
        facts=list(_facts(story)),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        js=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(_plotly()) if drawn else None,
    )


def _embedded(content: Any) -> Markup:
    """Return JSON that may stand inside a script element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _plotly() -> str:
    """Return the plotly.js that the Python package ships, packed: two megabytes of text instead of five."""
    spec = importlib.util.find_spec("plotly")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise MemscapeError("expected the package plotly, found none; run `pip install plotly` and repeat the command.")
    script = (Path(places[0]) / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 9, mtime=0)).decode()


def _probe(story: Story, profile: str) -> dict[str, Any]:
    """Everything about one probed model: its facts, its figures, its passage."""
    records = story.records
    curves = [map.depth_curve(story, profile, name) for name in map.instruments(story, profile)]
    radius = [f for f in curves if f and f.name.startswith("radius")]
    others = [f for f in curves if f and not f.name.startswith("radius")]
    lead = join(
        "",
        [
            say("{model}", model=story.model(profile)),
            say(" ({params} parameters", params=records.number(f"{profile}#/model/n_params", "count")),
            say(", {layers} layers", layers=records.number(f"{profile}#/model/n_layers", "count")),
            say(", width {width}", width=records.number(f"{profile}#/model/d_model", "count")),
            say(", weights {weights}", weights=records.text(f"{profile}#/model/weights")),
            Sentence(")") if records.has(f"{profile}#/model/n_params") else None,
            say(", read on {corpus}", corpus=records.text(f"{profile}#/corpus/name")),
            say(": {tokens} tokens", tokens=records.number(f"{profile}#/corpus/n_tokens", "count")),
            say(" of {documents} documents", documents=records.number(f"{profile}#/corpus/n_documents", "count")),
        ],
    )
    return {
        "name": profile,
        "lead": lead,
        "figures": [f for f in (map.heat_map(story, profile), *radius, map.landscape(story, profile), *others) if f],
        "passage": map.passage(story, profile),
        "text": map.passage_text(story, profile) if records.has(f"{profile}#/passage/tokens") else None,
    }


def _laws(story: Story) -> Table | None:
    """Parameters of every fitted law with their intervals."""
    rows = []
    for name, fit in (story.records.first("fit.json#/laws") or {}).items():
        base = f"fit.json#/laws/{step(name)}"
        for param in fit.get("params") or {}:
            measure = story.records.measured(f"{base}/params/{step(param)}")
            if measure:
                rows.append([
                    story.records.text(f"{base}/law"), story.records.text(f"{base}/formula"), Cited(param, f"{base}/params/{step(param)}", "key"),
                    measure.value, measure.low, measure.high, measure.unit, story.records.number(f"{base}/n", "count"),
                    story.records.text(f"{base}/outcome/name"),
                ])
    words = {"law", "formula", "parameter", "unit", "outcome"}
    headings = ["law", "formula", "parameter", "value", "low", "high", "unit", "n", "outcome"]
    return Table("laws", [(h, h in words) for h in headings], rows) if rows else None


def _advice_caption(story: Story) -> Sentence | None:
    return join(" ", [
        say("{sentence}", sentence=story.records.text("advice.json#/extrapolation/sentence")),
        say("The lowest point of the line is the size we would train."),
    ])


def _advice(story: Story, figure: Figure | None) -> dict[str, Any] | None:
    if not story.has("advice.json"):
        return None
    records = story.records
    styles = {"n_params": "count", "bits": "count", "flops": "count", "memorised_share": "percent", "epochs": "sig2"}
    names = {"n_params": "parameters", "fresh_loss": "held-out loss", "train_loss": "training loss", "floor": "floor of the training loss",
             "memorised_share": "share memorised", "epochs": "epochs", "flops": "compute", "hours": "time", "money": "cost"}
    facts = []
    for group, prefix in (("recommended", ""), ("memorise", "to memorise all: "), ("cost", "")):
        for name in records.first(f"advice.json#/{group}") or {}:
            measure = records.measured(f"advice.json#/{group}/{step(name)}", styles.get(name, "sig3"))
            if measure:
                facts.append((prefix + names.get(name, name.replace("_", " ")), measure))
    listed = lambda name: [  # noqa: E731
        text for i in range(len(records.first(f"advice.json#/{name}") or [])) if (text := _line(story, f"advice.json#/{name}/{i}"))
    ]
    return {
        "lead": records.text("advice.json#/sentence"),
        "facts": facts,
        "figure": figure,
        "changes": listed("changes"),
        "next": listed("next_runs"),
    }


def _line(story: Story, source: str) -> Any:
    """Return a list entry as words: a sentence as it stands, a record as its fields."""
    content = story.records.first(source)
    if not isinstance(content, dict):
        return story.records.text(source)
    sentence = next((content[k] for k in ("sentence", "why", "reason") if isinstance(content.get(k), str)), None)
    parts = [
        say("{name} {value}", name=_named(key, at := f"{source}/{step(key)}"), value=story.records.number(at, "count"))
        for key, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    key = next((k for k, v in content.items() if v == sentence), "")
    return join(": ", [join(", ", parts), story.records.text(f"{source}/{step(key)}") if sentence else None])


def _claims(story: Story) -> list[dict[str, Any]]:
    """The audit's ledger, one entry a claim."""
    claims = []
    for i, claim in enumerate(story.records.first("audit.json#/claims") or []):
        base = f"audit.json#/claims/{i}"
        text = story.records.text
        status = str(claim.get("status", ""))
        numbers = [
            say("{name} {value}", name=_named(key, at := f"{base}/figures/{step(key)}"), value=story.records.number(at, "sig4"))
            for key, value in (claim.get("figures") or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        claims.append({
            "id": text(f"{base}/id"),
            "claim": text(f"{base}/claim"),
            "stated": text(f"{base}/as_stated"),
            "status": text(f"{base}/status"),
            "verdict": text(f"{base}/verdict"),
            "evidence": text(f"{base}/evidence"),
            "numbers": [n for n in numbers if n],
            "look": next((look for start, look in CHIPS.items() if status.startswith(start)), "open"),
        })
    return claims


def _named(key: str, source: str) -> str | Cited:
    """Return a field's name as words; one with digits in it is cited like every other digit."""
    return Cited(key, source, "key") if any(c.isdigit() for c in key) else key.replace("_", " ")


def _runs(story: Story) -> Table | None:
    if not story.runs:
        return None
    fields = [name for name in RUN_COLUMNS if any(value is not None for value in story.run_values(name))]
    words = {name for name in fields if RUN_COLUMNS[name][1] == "text" and name != "seed"}

    def cell(run: str, name: str) -> Cited | None:
        style = RUN_COLUMNS[name][1]
        source = f"{run}#/{name}"
        return story.records.text(source) if style == "text" else story.records.number(source, style)

    rows = [[cell(run, name) for name in fields] for run in story.runs]
    return Table("runs", [(RUN_COLUMNS[name][0], name in words) for name in fields], rows)


def _facts(story: Story) -> Iterator[tuple[Sentence, Cited]]:
    """Command, versions, seeds, hardware and times, as the folder's own files state them."""
    for file in ("study.json", "plan.json", "timing.json"):
        if story.has(file):
            yield from _leaves(story, f"{file}#", story.records.files[file], [])


def _leaves(story: Story, source: str, content: Any, names: list[Any]) -> Iterator[tuple[Sentence, Cited]]:
    """Yield the single values below `content` with their names; long tables belong to their files, not to a page."""
    for key, value in content.items() if isinstance(content, dict) and len(content) <= LONGEST_FACTS else ():
        at = f"{source}/{step(key)}"
        path = [*names, _named(key, at)]
        if isinstance(value, dict):
            yield from _leaves(story, at, value, path)
        elif (text := story.records.text(at)) and (name := join(" ", path)):
            yield name, text

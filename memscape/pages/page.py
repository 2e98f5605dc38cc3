"""How does a folder become a page? Gather, draw, write one HTML file that needs nothing else.

>>> report("runs/book")                                        # doctest: +SKIP
PosixPath('runs/book/report.html')
"""

import base64
import gzip
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from memscape.errors import MemscapeError
from memscape.folder import write_json, write_whole
from memscape.pages import grid, law, recall, sections, trajectory
from memscape.pages.gather import OWN, Story, gather
from memscape.pages.verdict import Verdict, verdict

HERE = Path(__file__).parent


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
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["embedded"] = _embedded
    probes = [sections.probe(story, profile) for profile in story.profiles]
    law_figures = [f for f in (law.frontier(story), law.ranking(story), law.residuals(story)) if f]
    grid_figures = [f for f in (grid.losses(story), grid.capacity(story)) if f]
    advice, trajectories, recalled = sections.advice(story), trajectory.figures(story), recall.figures(story)
    drawn = (
        law_figures
        or grid_figures
        or (advice and advice["figure"])
        or trajectories
        or recalled
        or any(probe["halves"] or probe["wholes"] for probe in probes)
    )
    picture = story.picture and "data:image/svg+xml;base64," + base64.b64encode(story.picture).decode()
    return environment.get_template("page.html.j2").render(
        story=story,
        verdict=answer,
        probes=probes,
        trajectory=trajectories,
        recall=recalled,
        checkpoints=trajectory.losses(story),
        grid=grid_figures,
        law=law_figures,
        laws=sections.laws(story),
        advice=advice,
        claims=sections.claims(story),
        experiment=sections.experiment(story),
        picture=picture,
        runs=sections.runs(story),
        command=sections.command(story),
        provenance=sections.provenance(story),
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

"""The page: complete, self-contained, honest."""

import itertools
import json
import re

import pytest

from memscape.errors import FolderError
from memscape.pages import gather, report
from memscape.pages.grid import best_cells
from memscape.pages.memory_map import depth_curve
from tests.pages.example import PARTS, make, measured
from tests.pages.provenance import problems

SECTIONS = {
    "probe": ("map", "text"),
    "runs": ("grid",),
    "fit": ("law",),
    "advice": ("advice",),
    "audit": ("claims",),
    "experiment": ("experiment",),
    "recall": ("recall",),
}


@pytest.mark.parametrize("parts", [*((part,) for part in PARTS), *itertools.pairwise(PARTS), PARTS])
def test_every_number_of_any_page_is_in_its_folder(tmp_path, parts):
    """Whatever parts a folder has: no digit without a source, no source that says otherwise, only its own sections."""
    page = report(make(tmp_path, parts)).read_text()
    assert problems(page, tmp_path) == []
    for part, names in SECTIONS.items():
        for name in names:
            assert (f'<section id="{name}">' in page) == (part in parts)


def test_an_experiment_opens_with_what_became_of_its_claims(tmp_path):
    """The outcome of every trial stands on the first screen, beside its figure, and again in the table."""
    folder = make(tmp_path, ("experiment",))
    page = report(folder).read_text()
    first = page[page.index('<ul class="cards">') : page.index("</header>")]
    assert ">C27</data>: contradicted" in first
    assert ">0.520</data>" in first
    assert "“<data" in first, "the claim's own words"
    assert page.count("contradicted") > first.count("contradicted")
    assert ">C27</data>: contradicted; <data" in page[page.index("<h1>") : page.index("</h1>")]
    assert re.search(r"<title[^>]*>memscape: question-formation, laptop scale, seed 1</title>", page)


def test_an_experiment_shows_its_drawing_as_a_picture(tmp_path):
    """Inside the page, where no script of it can run."""
    page = report(make(tmp_path, ("experiment",))).read_text()
    assert '<img class="picture" src="data:image/svg+xml;base64,' in page
    assert "alert(1)" not in page
    assert "plotly" not in page[page.index("<footer>") :].split("</footer>")[0]


def test_a_zero_has_no_place_on_a_logarithmic_axis(tmp_path):
    """Copies of one token lie zero apart at the embedding: no line falls out of the picture there."""
    folder = make(tmp_path, ("probe",)) / "probe" / "SmolLM2-135M"
    profile = json.loads((folder / "profile.json").read_text())
    profile["layers"][0]["radius"]["trained"] = measured(0.0, "distance", 16, 0.0)
    (folder / "profile.json").write_text(json.dumps(profile))
    figure = depth_curve(gather(folder), "profile.json", "radius")
    assert figure.axes["y"]["scale"] == "log"
    rows = {trace["y"]: trace["rows"] for trace in figure.traces if trace["kind"] == "line"}
    assert (rows["trained"][0], rows["untrained"][0]) == (1, 0)


def test_a_memory_that_was_not_run_has_no_figure(tmp_path):
    """`memscape recall` may be stopped: what was reached is drawn."""
    page = report(make(tmp_path, ("recall",))).read_text()
    assert 'id="recall-dense"' in page
    assert "recall-classical" not in page


def test_an_exponent_left_open_still_makes_an_honest_page(tmp_path):
    """The other branch of the verdict."""
    page = report(make(tmp_path, cannot_tell=True, inside_grid=True)).read_text()
    assert problems(page, tmp_path) == []
    assert "cannot tell" in page


@pytest.mark.parametrize(
    ("truth", "lie", "said"),
    [
        (">4.21\u202fM</data>", ">4.22\u202fM</data>", "shown as"),
        (">SmolLM2-135M</data>", ">SmolLM2-360M</data>", "shown as"),
        ("fit.json#/laws/capacity/params/c/value", "fit.json#/laws/capacity/params/c/low", "carried as"),
        ("<h2>The law</h2>", "<h2>The 2nd law</h2>", "without a source"),
        ("fit.json#/laws/frontier/curve/lines/0/y/*", "fit.json#/laws/frontier/curve/lines/0/low/*", "differs"),
        ('"label":["floor"]', '"label":["floor 3"]', "without a source"),
        ('"y":"fresh_loss"', '"y":[1,2,3]', "no column"),
        ('aria-label="Sections"', 'aria-label="8 sections"', "digit in aria-label"),
    ],
)
def test_a_lie_is_found(study, truth, lie, said):
    """The reader that guards the pages can fail: each kind of wrong number is reported."""
    page = (study / "report.html").read_text()
    assert truth in page
    found = problems(page.replace(truth, lie, 1), study)
    assert found
    assert any(said in problem for problem in found)


def test_a_result_changed_after_the_report_is_found(tmp_path):
    """A page belongs to its folder."""
    folder = make(tmp_path, ("runs",))
    page = report(folder).read_text()
    path = next(folder.glob("runs/*/result.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"floor": 9.0}))
    assert problems(page, folder)


def test_the_page_needs_nothing_else(study):
    """One file: no address to load from, styles and scripts inside."""
    page = re.sub(r'<script type="text/plain" id="plotly">[^<]*</script>', "", (study / "report.html").read_text())
    assert not re.search(r"""\s(src|href)=["'](?!#|data:)""", page)
    assert not re.search(r"@import|url\(", page)
    assert "https:" not in page


def test_text_of_the_corpus_cannot_become_markup(study):
    """The passage holds tags; names and tokens are shown, never run."""
    page = (study / "report.html").read_text()
    assert "<b>nobody" not in page
    assert "&lt;b&gt;nobody" in page


def test_script_data_cannot_leave_its_element(tmp_path):
    """A token `</script>` ends no script element."""
    folder = make(tmp_path, ("probe",))
    path = folder / "probe" / "SmolLM2-135M" / "profile.json"
    profile = json.loads(path.read_text())
    profile["passage"]["tokens"][3] = "</script><script>alert('x')</script>"
    path.write_text(json.dumps(profile))
    page = report(folder).read_text()
    assert "<script>alert" not in page
    assert problems(page, folder) == []


def test_names_with_digits_and_unknown_files_are_told_too(tmp_path):
    """Other rooms may add instruments, figures and files: their names are cited, their values listed."""
    folder = make(tmp_path, ("probe", "advice"))
    path = folder / "probe" / "SmolLM2-135M" / "profile.json"
    profile = json.loads(path.read_text())
    for layer in profile["layers"]:
        layer["top10 agreement"] = layer["radius"]
    path.write_text(json.dumps(profile))
    (folder / "recall2.json").write_text(
        json.dumps({"capacity": {"at500": measured(0.138, "1", 20, 0.002)}, "seed": 3})
    )
    page = report(folder).read_text()
    assert problems(page, folder) == []
    assert all(words in page for words in ("top10 agreement</data>", "recall2.json</data>", "0.138</data>"))


def test_the_page_may_lie_elsewhere(study, tmp_path):
    """A read-only folder can be reported too: page and verdict go to `out`."""
    path = report(study, tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert path.read_text() == (study / "report.html").read_text()
    assert (tmp_path / "verdict.json").exists()


def test_a_page_that_cannot_be_written_is_one_line(study, tmp_path):
    """Expected, got, next move; nothing half-written."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot write"):
        report(study, tmp_path / "file" / "page.html")


def test_reporting_twice_gives_the_same_page(tmp_path):
    """No clock, no chance, and the report does not read what it wrote."""
    folder = make(tmp_path)
    assert report(folder).read_text() == report(folder).read_text()


def test_a_diverged_run_is_in_the_table_and_not_in_the_figures(study):
    """Nothing is hidden, and no line is drawn through a failure."""
    story = gather(study)
    lost = [i for i, status in enumerate(story.run_values("status")) if status == "diverged"]
    assert len(lost) == 1
    assert not set(lost) & set(best_cells(story).values())
    assert ">diverged</data>" in (study / "report.html").read_text()


def test_of_runs_that_differ_in_rate_or_seed_the_best_is_drawn(tmp_path):
    """A grid point is what a size can do, not what a bad learning rate made of it."""
    story = gather(make(tmp_path, ("runs",), runs=60))
    losses, sizes, tokens = (story.run_values(name) for name in ("fresh_loss", "n_params", "n_tokens"))
    for (size, data), i in best_cells(story).items():
        rivals = [
            loss
            for n, d, loss in zip(sizes, tokens, losses, strict=True)
            if (n, d) == (size, data) and loss is not None
        ]
        assert losses[i] == min(rivals)

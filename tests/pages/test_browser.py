"""The page in Debian's Chromium, from disk: drawn, sortable, silent; with software GL and without WebGL."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.pages.provenance import problems

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
GL = {"gl": ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"], "no-gl": ["--disable-3d-apis"]}

if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("needs Debian's chromium: apt-get install chromium", allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@dataclass
class Visit:
    """An open page and what it did that it should not."""

    page: object
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=GL)
def visit(request: pytest.FixtureRequest, study: Path) -> Iterator[Visit]:
    """The study's page, drawn, at desktop size in the light theme."""
    assert CHROMIUM is not None, "CI must have Debian's chromium: add it to the packages of .ci/run"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *GL[request.param]])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        visit = Visit(page)
        page.on("request", lambda asked: visit.requests.append(asked.url))
        page.on("console", lambda message: visit.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda problem: visit.errors.append(str(problem)))
        page.goto((study / "report.html").as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.wait_for_function("!document.querySelector('figure[data-kind=plot]:not([data-drawn])')", timeout=60_000)
        visit.gl = request.param  # type: ignore[attr-defined]
        yield visit
        browser.close()


def test_every_figure_is_drawn(visit):
    """All of them hold a drawing; the landscape is a surface with WebGL and contours without."""
    drawn = visit.page.eval_on_selector_all(
        "figure[data-kind=plot]", "all => all.map(f => [f.id, f.dataset.drawn, !!f.querySelector('svg, canvas')])"
    )
    assert len(drawn) >= 9
    assert all(how and there for _, how, there in drawn)
    kinds = dict((name, how) for name, how, _ in drawn)
    assert kinds["landscape-SmolLM2-135M"] == ("plot" if visit.gl == "gl" else "contour")
    kind = visit.page.evaluate("document.querySelector('[id^=landscape] .plot').data[0].type")
    assert kind == ("surface" if visit.gl == "gl" else "contour")


def test_what_is_drawn_is_what_the_figure_carries(visit):
    """Every coordinate Plotly was given is a value of a column, and so a value of the folder."""
    strangers = visit.page.evaluate("""() => [...document.querySelectorAll('[data-kind=plot]')].flatMap((figure) => {
        const spec = JSON.parse(figure.querySelector('script').textContent);
        const known = new Set(Object.values(spec.columns).flatMap((column) => column.values));
        const drawn = figure.querySelector('.plot').data.filter((t) => t.type !== 'scatter3d');
        return drawn.flatMap((t) => [t.x, t.y, t.z]).flat(2)
          .filter((v) => typeof v === 'number' && !known.has(v)).map((v) => `${figure.id} ${v}`);
    })""")
    assert strangers == []


def test_the_live_page_is_as_honest_as_the_written_one(visit, study):
    """The same reader on the page as the browser holds it, after all scripts."""
    visit.page.locator(".passage").focus()
    visit.page.keyboard.press("ArrowRight")
    assert problems(visit.page.content(), study) == []


def test_sections_are_reached_by_their_links_and_by_keyboard(visit):
    """Each link leads to a section of the page, and the first Tab offers to skip the rest."""
    links = visit.page.eval_on_selector_all(
        "nav.sections a", "all => all.map(a => [a.hash, !!document.querySelector(a.hash)])"
    )
    assert len(links) == 10
    assert all(there for _, there in links)
    visit.page.locator("nav.sections a[href='#claims']").click()
    visit.page.wait_for_function("Math.abs(document.querySelector('#claims').getBoundingClientRect().top) < 200")
    visit.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def test_the_table_of_runs_sorts_by_number_both_ways(visit):
    """Headings are buttons; sizes sort as numbers though they are shown as 14.3 k."""
    button = visit.page.locator("#table-runs thead button", has_text="parameters").first
    values = "all => all.map(row => Number(row.children[2].querySelector('data').value))"
    for direction in ("ascending", "descending"):
        button.focus()
        visit.page.keyboard.press("Enter")
        found = visit.page.eval_on_selector_all("#table-runs tbody tr", values)
        assert len(found) == 20
        assert found == sorted(found, reverse=direction == "descending")
        assert visit.page.get_attribute("#table-runs th:nth-child(3)", "aria-sort") == direction


def test_the_theme_turns_and_the_figures_with_it(visit):
    """Dark is a choice of the reader; paper and plots change together."""
    plot = "document.querySelector('#losses .plot').layout.paper_bgcolor"
    paper = f"[getComputedStyle(document.body).backgroundColor, {plot}]"
    light = visit.page.evaluate(paper)
    visit.page.click("[data-do=theme]")
    visit.page.wait_for_function(f"{paper}[1] !== {light[1]!r}")
    dark = visit.page.evaluate(paper)
    assert dark[0] != light[0]
    visit.page.click("[data-do=theme]")
    visit.page.wait_for_function(f"{paper}[1] === {light[1]!r}")


def test_the_passage_answers_to_switch_and_pointer(visit):
    """Shading follows the chosen measure; a token under the pointer tells its numbers."""
    page = visit.page
    shades = "all => all.map(i => i.style.background)"
    by_loss = page.eval_on_selector_all(".passage i", shades)
    page.locator("label", has_text="energy").click()
    assert page.eval_on_selector_all(".passage i", shades) != by_loss
    page.locator(".passage i", has_text="truth").hover()
    assert "truth" in page.inner_text(".readout")
    assert "loss" in page.inner_text(".readout")


@pytest.mark.parametrize(("button", "name"), [("csv", "losses.csv"), ("svg", "losses.svg"), ("png", "losses.png")])
def test_figures_download(visit, button, name, tmp_path):
    """Picture and data of every figure can be taken away."""
    with visit.page.expect_download() as download:
        visit.page.click(f"#losses [data-do={button}]")
    assert download.value.suggested_filename == name
    path = tmp_path / name
    download.value.save_as(path)
    content = path.read_bytes()
    assert {"csv": b"n_tokens (tokens),fresh_loss (nats/token)", "svg": b"<svg", "png": b"\x89PNG"}[button] in content[
        :200
    ]


def test_a_phone_sees_no_sideways_scroll(visit):
    """390 pixels are enough."""
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.page.wait_for_function(
        "document.documentElement.scrollWidth <= 390 && document.querySelector('#losses svg').clientWidth <= 390"
    )
    visit.page.set_viewport_size({"width": 1280, "height": 900})


def test_the_page_asked_for_nothing_and_complained_of_nothing(visit):
    """Last, after all the above: one request (the file itself), no error in the console."""
    assert [url for url in visit.requests if not url.startswith(("data:", "blob:"))] == [visit.page.url.split("#")[0]]
    assert visit.errors == []

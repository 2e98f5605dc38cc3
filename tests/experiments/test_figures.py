"""The pictures of the findings: drawn from the tables as they are, with labels that can be read."""

import importlib.util
import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("make_figures", ROOT / "docs" / "make_figures.py")
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)

DRAWN = [name for name in figures.FIGURES if name == "grid" or (ROOT / "results" / name).exists()]


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_what_its_table_says(name):
    """The file beside the findings is the one that the table makes, and its words stay inside the frame."""
    svg = figures.FIGURES[name]().svg()
    drawn = (ROOT / "docs" / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    number = re.compile(r"\d+\.\d\b")  # places, in tenths of a pixel: another processor may round one otherwise
    assert number.sub("", svg) == number.sub("", drawn), "run docs/make_figures.py"
    pairs = zip(number.findall(svg), number.findall(drawn), strict=True)
    assert all(abs(float(a) - float(b)) <= 1 for a, b in pairs), "run docs/make_figures.py"
    words = [node for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]
    wide, high = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    assert all(0 < float(w.get("x")) < wide and 0 < float(w.get("y")) < high for w in words)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "grid"])
def test_a_result_shows_its_picture(name):
    """Beside the table lies a relative link to the picture in docs/figures."""
    link = ROOT / "results" / name / "figure.svg"
    assert link.readlink() == Path(f"../../docs/figures/{name}.svg"), "run docs/make_figures.py"
    assert link.resolve(strict=True) == (ROOT / "docs" / "figures" / f"{name}.svg").resolve()


def test_a_loss_that_does_not_move_at_all_is_drawn(monkeypatch):
    """Planted: every run ends at one loss, and 0 has no place on a logarithmic axis; the dots lie at its low end."""
    runs = figures.table("z-loss").assign(train_loss=0.5)
    monkeypatch.setattr(figures, "table", lambda _: runs)
    chart = figures.z_loss()
    dots = [mark for mark in chart.marks if mark.startswith("<circle")]
    assert len(dots) == (runs.run_id.str.split("-s").str[0] != "z0").sum()
    assert all(f'cy="{chart.box["y"][0]:.1f}"' in dot for dot in dots)


def test_tags_never_lie_on_each_other():
    """Five lines that end at one loss get five readable labels, inside the axes."""
    chart = figures.Chart("title", "note", ("x", 1, 10), ("y", 0, 1))
    before = len(chart.marks)
    chart.tags([(0.01 * i, f"label {i}", figures.INK) for i in range(5)])
    tags = [mark for mark in chart.marks[before:] if mark.startswith("<text")]
    places = sorted(float(re.search(r' y="([\d.]+)"', tag).group(1)) for tag in tags)
    assert min(b - a for a, b in pairwise(places)) >= 16.9
    assert max(places) <= chart.box["y"][0] + 0.1


def test_where_a_curve_leaves_its_floor():
    """Planted: 0.1 nats above the floor half way, in ln D, between the second size and the third."""
    curve = pd.DataFrame({"n_tokens": [100, 200, 800], "floor": 0.1, "train_loss": [0.1, 0.15, 0.25]})
    d, loss = figures.leaves(curve)
    assert (d, loss) == pytest.approx((math.sqrt(200 * 800), 0.2))

"""Laws are ranked by what they say about runs they were not shown."""

import math

import pytest

from memscape.laws.compare import BASELINE, criteria, rank
from memscape.laws.intervals import estimate
from memscape.laws.law import LAWS
from memscape.laws.table import RunTable
from tests.laws.planted import WIDE_DATA, WIDE_SIZES, Truth, rows


@pytest.fixture(scope="module")
def ranking():
    return rank(RunTable.read(rows(sizes=WIDE_SIZES, data_sizes=WIDE_DATA, rates=(1e-3,))))


def test_the_planted_law_of_loss_leads_and_beats_no_law(ranking):
    """Runs made by Chinchilla's law are extrapolated best by it (or by a law that contains it)."""
    losses = [r for r in ranking if r.about == "loss"]
    assert losses[0].law in ("chinchilla", "broken")
    place = [r.law for r in losses].index
    assert place("chinchilla") < min(place("kaplan"), place(BASELINE))
    best = next(r for r in losses if r.law == "chinchilla")
    assert best.heldout_error < 0.01
    assert best.heldout_error == pytest.approx(math.sqrt((best.largest_size_error**2 + best.largest_data_error**2) / 2))


def test_published_constants_are_judged_without_fitting(ranking):
    """Constants from another tokenizer miss by far, and say so."""
    found = next(r for r in ranking if r.law == "chinchilla, hoffmann's constants")
    assert found.heldout_error > 0.5
    assert found.n_params == 0
    assert "other tokenizer" in found.note


def test_the_planted_exponent_leads_the_frontier(ranking):
    """For γ = 1 the capacity law says the largest size's D* better than 1.35, 2 and 4 do."""
    errors = {r.law: r.heldout_error for r in ranking if r.about == "frontier"}
    capacity = errors["capacity, N = c D^1"]
    assert capacity < 0.2
    assert all(capacity < errors[law] for law in errors if "paper" in law or "Kaplan" in law)
    assert {"paper, exact squared, N = c n(D)", "N = c D^γ, γ fitted"} <= set(errors)


def test_bic_prefers_the_planted_law_to_one_with_more_parameters():
    """A break that is not there costs ln n and gains nothing."""
    table = RunTable.read(rows(Truth(), sizes=WIDE_SIZES, data_sizes=WIDE_DATA, rates=(1e-3,), noise=0.01))
    cells = table.cells("heldout_loss")
    bic = {
        name: criteria(estimate(LAWS[name], cells, delta=0.02), 0.02)[1] for name in ("chinchilla", "broken", "kaplan")
    }
    assert min(bic, key=bic.get) == "chinchilla"


def test_a_grid_too_small_to_hold_anything_out_ranks_last():
    """Without enough cells left a law has no held-out error, and is not said to be best."""
    found = rank(RunTable.read(rows(sizes=(5_000, 14_000, 38_000), data_sizes=(4_000, 8_000), rates=(1e-3,))))
    assert found[-1].heldout_error is None
    assert found[0].heldout_error is not None

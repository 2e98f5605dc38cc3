"""`advise`: a size for the data at hand, with its limits said first."""

import math

import pytest

from memscape.errors import TableError
from memscape.folder import read_json, write_json
from memscape.laws import Advice, advise, fit
from tests.laws.planted import Truth, rows, write_grid


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_grid(tmp_path_factory.mktemp("grid"), history=True)


@pytest.fixture(scope="module")
def fits(folder):
    return fit(folder, resamples=20)


@pytest.fixture(scope="module")
def inside(fits):
    return advise(32_000, fit=fits)


def test_advice_inside_the_grid_meets_the_planted_law(inside):
    """Size, epochs, losses and memory are those of the truth that made the runs."""
    told = inside.recommended
    n = told["n_params"].value
    assert told["epochs"].value == pytest.approx(12, rel=0.01)
    assert told["fresh_loss"].value == pytest.approx(Truth().fresh_loss(n, 32_000), rel=0.02)
    assert told["floor"].value == pytest.approx(math.log(32_000 / 64) / 64)
    assert told["floor"].value < told["train_loss"].value < told["fresh_loss"].value
    assert 0 <= told["memorised_share"].low <= told["memorised_share"].value <= told["memorised_share"].high <= 1
    assert told["n_params"].low <= n <= told["n_params"].high
    assert "EXTRAPOLATED" not in inside.sentence


def test_the_size_is_the_smallest_whose_doubling_gains_little(fits):
    """The planted size term 60/N^0.4 gains less than 0.2 nats by doubling from 45 k parameters on."""
    told = advise(32_000, fit=fits, worth=0.2)
    assert told.recommended["n_params"].value == pytest.approx((60 * (1 - 2**-0.4) / 0.2) ** 2.5, rel=0.15)
    assert "EXTRAPOLATED" not in told.sentence


def test_a_size_far_outside_the_grid_is_not_recommended(inside):
    """Where a doubling still pays at four times the largest size, that size is named with what a larger one gains."""
    assert inside.recommended["n_params"].value == pytest.approx(4 * 100_000, rel=0.1)
    assert any("Twice the size would still gain" in change for change in inside.changes)


def test_a_corpus_far_outside_says_so_in_its_first_word(fits):
    """3 M tokens lie 47 times outside a grid that ends at 64 k."""
    told = advise("3M", fit=fits)
    assert told.sentence.startswith("EXTRAPOLATED x")
    assert told.extrapolation["tokens_factor"] == pytest.approx(3e6 / 64e3)
    assert told.recommended["n_params"].value > 1e5


def test_more_data_asks_for_a_larger_model(fits):
    """What N tokens call for grows with them."""
    sizes = [advise(d, fit=fits).recommended["n_params"].value for d in (8_000, 64_000, 512_000)]
    assert sizes == sorted(sizes)
    assert sizes[2] > 2 * sizes[0]


def test_memory_is_said_as_size_bits_and_share(inside):
    """The size that holds all of it is bits over bits per parameter; half of it is the frontier's."""
    held = inside.memorise
    c = held["bits"].value / held["n_params"].value
    assert 0.5 < c < 5
    assert held["n_params_half"].value == pytest.approx(1.2 * 32_000, rel=0.3)


def test_given_sizes_are_chosen_from_and_limits_bind(fits):
    """A named size is judged as it is; an epoch limit below the best stop binds and is said."""
    told = advise("32k", fit=fits, params="20k", epochs_max=5)
    assert told.recommended["n_params"].value == 20_000
    assert told.recommended["epochs"].value == 5
    assert any("limit of 5 epochs binds" in change for change in told.changes)
    assert advise("32k", fit=fits, params=["10k", "1M"]).recommended["n_params"].value in (1e4, 1e6)


def test_a_throughput_gives_hours_and_a_price_gives_money(fits):
    """Hours = epochs x tokens / throughput; without one the advice says what is missing."""
    told = advise("32k", fit=fits, throughput=1_000, price=2.0, gpu="h100")
    seconds = told.recommended["epochs"].value * 32_000 / 1_000
    assert told.cost["hours"].value == pytest.approx(seconds / 3600)
    assert told.cost["money"].value == pytest.approx(2 * seconds / 3600)
    assert "h100" in told.cost["hours"].interval
    assert any("need a measured throughput" in change for change in advise("32k", fit=fits, gpu="h100").changes)


def test_timed_packs_are_a_measured_throughput(tmp_path):
    """FLOP/s over the packs of the folder price the recommended run."""
    grid = write_grid(tmp_path)
    write_json(grid / "packs" / "p0" / "timing.json", {"seconds": 10.0, "tokens": 1_000_000, "device": "cpu"})
    told = advise("32k", source=grid)
    flops = sum(r["flops"] / r["tokens_seen"] for r in rows()) / len(rows()) * 1e5
    assert told.cost["hours"].value == pytest.approx(told.cost["flops"].value / flops / 3600)
    assert "hours" not in advise("32k", source=grid, gpu="h100").cost  # a CPU says nothing about a GPU


def test_a_fit_of_this_session_carries_its_runs():
    """advise(fit=...) needs no folder; a fit read from JSON has lost its runs and says so."""
    found = fit(rows(), law="frontier")
    assert advise(32_000, fit=found).recommended["n_params"].value > 0
    with pytest.raises(TableError, match="without its runs"):
        advise(32_000, fit=type(found).model_validate(found.model_dump()))


def test_without_runs_published_constants_speak_and_say_so():
    """Another tokenizer, no interval, and loud about 3 M tokens being far below the published runs."""
    told = advise("3M")
    assert told.sentence.startswith("EXTRAPOLATED")
    assert "published constants" in told.sentence
    assert told.recommended["fresh_loss"].low is None
    assert told.recommended["epochs"].value == pytest.approx(16.39, abs=0.01)


def test_advice_json_is_the_advice(folder):
    """What is written is what was returned."""
    told = advise("32k", source=folder, out=folder)
    assert Advice.model_validate(read_json(folder / "advice.json")) == told
    assert told.model_dump()["recommended"]["n_params"]["value"] == told.recommended["n_params"].value


def test_a_table_without_a_law_of_loss_is_refused():
    """Too few cells for Chinchilla's law: no advice, and the reason."""
    with pytest.raises(TableError, match=r"cannot carry advice: .* cells for 5 parameters"):
        advise("32k", source=rows(sizes=(5_000,)))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"tokens": "many"}, "expected a quantity such as 3M"),
        ({"tokens": "3M", "epochs_max": 0.5}, "epochs_max of 1 or more"),
        ({"tokens": "3M", "worth": 0}, "worth above 0"),
        ({"tokens": 0.5}, "tokens of 1 or more, got 0.5"),
        ({"tokens": "3M", "epochs_max": math.nan}, "epochs_max of 1 or more .* got nan"),
        *(({"tokens": "3M", "throughput": v}, f"throughput above 0 tokens/s, got {v}") for v in (0, -1, math.inf)),
        ({"tokens": "3M", "throughput": 1e5, "price": -2}, "price of 0 or more"),
        ({"tokens": "3M", "params": []}, "one size or more"),
    ],
)
def test_what_makes_no_sense_is_refused(how, sentence):
    """Expected, got, next move."""
    with pytest.raises(TableError, match=sentence):
        advise(**how)


def test_a_number_without_measure_is_written_short():
    """A corpus of 10^300 tokens is answered in a line, not in 289 digits."""
    assert advise(1e300).sentence.startswith("EXTRAPOLATED x 1e+288: ")


def test_next_runs_narrow_what_they_say(fits):
    """Proposals are ordered by how much they shrink the interval, and none widens it."""
    shrinks = [run["shrink"] for run in fits.next_runs]
    assert shrinks == sorted(shrinks)
    assert all(0 <= s < 1 for s in shrinks)
    assert all("narrow" in run["sentence"] for run in fits.next_runs)

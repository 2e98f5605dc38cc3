"""`advise`: how large a model, for how many epochs, do these tokens call for, and how much of them will it memorise?

The rule: the smallest size at which doubling the parameters would lower the expected held-out loss by less than `worth`
nats/token, stopped where the held-out loss is lowest or at `epochs_max`. It stands on a grid of your own runs, else on
the published law for repeated data, which was fitted to another tokenizer and says so (`ground.py`).

>>> advise("300k", source="runs/book", epochs_max=40).extrapolation["sentence"]
'Outside the grid by x ...'
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memscape.errors import TableError
from memscape.folder import read_json, write_json
from memscape.laws.ground import PUBLISHED, Ground, own, published
from memscape.laws.quantity import format_quantity, parse_quantity
from memscape.laws.results import Advice, Curve, Fit, Fits, Line, Point, measured
from memscape.laws.table import RunTable
from memscape.theory.measure import Measured

LOUD = 10.0
"""Beyond this factor outside the grid the first line says `extrapolated`."""

SIZES = np.exp(np.linspace(math.log(1e3), math.log(1e12), 361))
"""Sizes considered when the caller names none: 6 % apart."""


def advise(
    tokens: str | float,
    *,
    fit: Fit | Fits | None = None,
    source: Any = None,
    epochs_max: float = 40.0,
    params: str | float | Sequence[str | float] | None = None,
    worth: float = 0.01,
    gpu: str | None = None,
    throughput: float | None = None,
    price: float | None = None,
    out: str | Path | None = None,
) -> Advice:
    """Return what to train on `tokens` unique tokens (a number, or text such as 3M).

    `fit` is what `fit` returned in this session, `source` a table or result folder to fit now; with neither, published
    constants serve. `params` names the sizes to choose from; `worth` (nats/token) is the least gain that justifies
    twice the parameters. Hours need a throughput: `throughput` in tokens/s at the recommended size, or the time that
    the packs of `source` took; money needs `price` per hour. `gpu` is the name printed beside. `out` is a folder for
    `advice.json`.
    """
    n_tokens = parse_quantity(tokens)
    for name, value, good, wanted in (
        ("tokens", n_tokens, n_tokens >= 1, "of 1 or more"),
        ("epochs_max", epochs_max, epochs_max >= 1, "of 1 or more (one epoch sees every token once)"),
        ("worth", worth, worth > 0, "above 0 nats/token (0.01 is the default)"),
        ("throughput", throughput, throughput is None or throughput > 0, "above 0 tokens/s"),
        ("price", price, price is None or price >= 0, "of 0 or more an hour"),
    ):
        if not good or math.isinf(value or 0):
            raise TableError(f"expected a finite {name} {wanted}, got {value}.")
    table, known = _table(fit, source)
    ground = published(n_tokens, epochs_max) if table is None else own(table, n_tokens, epochs_max, known)
    given = [params] if isinstance(params, str | float | int) else params
    sizes = ground.near(SIZES) if given is None else np.array(sorted(parse_quantity(p) for p in given))
    if not len(sizes):
        raise TableError("expected one size or more to choose from, got none; name one with params='4M' (--params 4M).")
    recommended = _recommended(ground, ground.choose(sizes, worth), asked=len(sizes) == 1)
    memorise = ground.memorise(recommended["fresh_loss"].value)
    extrapolation = _extrapolation(ground, recommended["n_params"].value)
    folder = Path(source) if isinstance(source, str | Path) else None
    cost, missing = _cost(ground, recommended, gpu, throughput, price, folder)
    advice = Advice(
        tokens=round(n_tokens), epochs_max=epochs_max, recommended=recommended, memorise=memorise, cost=cost,
        extrapolation=extrapolation, changes=[*_changes(ground, recommended, sizes, worth), *missing],
        next_runs=ground.next_runs, sentence=_sentence(ground, recommended, memorise, extrapolation),
        curve=_curve(ground, recommended),
    )  # fmt: skip
    if out is not None:
        write_json(Path(out) / "advice.json", advice)
    return advice


def _table(fit: Fit | Fits | None, source: Any) -> tuple[RunTable | None, dict[str, Fit]]:
    """Return the runs behind the advice, and the laws already fitted to them."""
    if source is not None:
        return RunTable.read(source), {}
    if fit is None:
        return None, {}
    if fit._table is None:
        raise TableError("this fit was read from a file, without its runs; pass source= with the folder it came from.")
    return fit._table, fit.laws if isinstance(fit, Fits) else {fit.law: fit}


def _recommended(ground: Ground, chosen: np.ndarray, asked: bool) -> dict[str, Measured]:
    """Return size, epochs and what to expect of them; `chosen` is the size by each draw of the law, the best first."""
    n = float(chosen[0])
    ends, how = [n, None, None], "the size asked for" if asked else PUBLISHED
    if len(chosen) > 1 and not asked:
        ends, how = [n, *np.quantile(chosen[1:], [0.025, 0.975])], f"95 % bootstrap over {ground.n} cells"
    fresh = ground.loss_at(n)
    found = {"n_params": measured(ends, "parameters", ground.n, how), "epochs": ground.epochs(n), "fresh_loss": fresh}
    if ground.floor is not None:
        how = "exact if all sequences are distinct"
        found["floor"] = Measured(value=ground.floor, unit="nats/token", n=1, interval=how)
        share = ground.share(n, fresh.value)
        if share is not None:  # its definition turned round
            span = fresh.value - ground.floor
            ends = [None if s is None else fresh.value - s * span for s in (share.value, share.high, share.low)]
            found["train_loss"] = measured(ends, "nats/token", share.n, share.interval)
            found["memorised_share"] = share
    return found


def _extrapolation(ground: Ground, n: float) -> dict[str, Any]:
    pairs = ((n, ground.n_range), (ground.n_tokens, ground.d_range))
    size, data = (float(max(1.0, v / high, low / v)) for v, (low, high) in pairs)
    factor = max(size, data)
    if factor > LOUD:
        where = f"the corpus lies x {data:.3g} outside {ground.grid} in D, the size x {size:.3g} in N"
        sentence = f"EXTRAPOLATED x {factor:.3g}: {where}."
    elif factor > 1:
        sentence = f"Outside {ground.grid} by x {data:.2g} in D and x {size:.2g} in N."
    else:
        sentence = f"Inside {ground.grid}."
    return {"factor": factor, "n_params_factor": size, "tokens_factor": data, "sentence": sentence}


def _sentence(ground: Ground, recommended: Mapping[str, Measured], memorise, extrapolation) -> str:
    n, epochs, fresh = (recommended[k] for k in ("n_params", "epochs", "fresh_loss"))
    words = [extrapolation["sentence"]] if extrapolation["factor"] > LOUD else []
    floor = f", training floor {recommended['floor'].value:.3g}" if "floor" in recommended else ""
    words.append(
        f"{ground.words}: for {format_quantity(ground.n_tokens)} unique tokens train {format_quantity(n.value)} "
        f"parameters{_between(n)} for {_two(epochs.value)} epoch{'s' * (_two(epochs.value) != '1')}; expected held-out "
        f"loss {fresh.value:.3g}{_between(fresh)} nats/token{floor}."
    )
    if "memorised_share" in recommended:
        share = _two(100 * recommended["memorised_share"].value)
        words.append(f"It will have memorised {share} % of the text's bits.")
    if "n_params" in memorise:
        size = memorise["n_params"]
        words.append(f"Holding all of it takes {format_quantity(size.value)} parameters{_between(size)} in all.")
    return " ".join(words)


def _two(value: float) -> str:
    """Write a number to two significant digits."""
    return f"{float(f'{value:.2g}'):g}"


def _between(m: Measured) -> str:
    if m.low is None or m.high is None:
        return ""
    write = format_quantity if m.unit == "parameters" else "{:.3g}".format
    return f" [{write(m.low)}, {write(m.high)}]"


def _changes(ground: Ground, recommended: Mapping[str, Measured], sizes: np.ndarray, worth: float) -> list[str]:
    """Return what would move the advice."""
    n, words = recommended["n_params"].value, []
    here, doubled, fed = (float(ground.loss(np.array([n * k]), times)[0, 0]) for k, times in ((1, 1), (2, 1), (1, 2)))
    if len(sizes) > 1 and n >= sizes[-1] and here - doubled >= worth:
        words.append(f"Twice the size would still gain {here - doubled:.2g} nats/token, further outside {ground.grid}.")
    if len(sizes) > 1:
        less, more = (format_quantity(float(ground.choose(sizes, worth * by)[0])) for by in (2, 0.5))
        words.append(
            f"Asking {2 * worth:g} nats/token of a doubling, or {worth / 2:g}, moves the size to {less} or {more}."
        )
    words.append(f"Twice the tokens would lower the held-out loss by {here - fed:.2g} nats/token.")
    if recommended["epochs"].value >= ground.epochs_max * 0.999:
        words.append(f"The limit of {ground.epochs_max:g} epochs binds; more would still lower the held-out loss.")
    words += ground.remarks
    if ground.next_runs and "n_params" in ground.next_runs[0]:
        sentence = ground.next_runs[0]["sentence"]
        words.append(sentence[0].upper() + sentence[1:])
    return words


def _curve(ground: Ground, recommended: Mapping[str, Measured]) -> Curve:
    """Return the expected held-out loss over three decades of size around the recommendation."""
    best, fresh = recommended["n_params"], recommended["fresh_loss"]
    x = best.value * np.exp(np.linspace(math.log(0.03), math.log(30), 41))
    loss = ground.loss(x)
    low, high = np.quantile(loss[1:], [0.025, 0.975], axis=0).tolist() if len(loss) > 1 else (None, None)
    line = Line(label="expected held-out loss", x=x.tolist(), y=loss[0].tolist(), low=low, high=high)
    references = [] if ground.floor is None else [Line(label="training floor", x=[x[0], x[-1]], y=[ground.floor] * 2)]
    point = Point(
        x=best.value, x_low=best.low, x_high=best.high, n_params=best.value,
        y=fresh.value, y_low=fresh.low, y_high=fresh.high,
    )  # fmt: skip
    return Curve(x="N, parameters", y="held-out loss, nats/token", points=[point], lines=[line], references=references)


def _cost(
    ground: Ground, recommended: Mapping[str, Measured], gpu: str | None, throughput: float | None,
    price: float | None, folder: Path | None,
) -> tuple[dict[str, Measured], list[str]]:  # fmt: skip
    """Return FLOPs, and hours and money where a throughput was given or measured; and what is missing for them."""
    seen = recommended["epochs"].value * ground.n_tokens
    flops = ground.flops_per_token * recommended["n_params"].value * seen
    cost = {"flops": Measured(value=flops, unit="FLOPs", n=ground.n)}
    where, speed = gpu or "this machine", _speed(folder, gpu)
    if throughput is not None:
        seconds, basis = seen / throughput, f"at the {throughput:.3g} tokens/s given for {where}"
    elif speed is not None:
        seconds, basis = flops / speed[0], f"at {speed[0] / 1e9:.3g} GFLOP/s, measured on {where} over {speed[1]} packs"
    else:
        ask = f"Hours on {where} need a measured throughput: give --throughput in tokens/s, or train one pack there."
        return cost, [ask]
    hours = seconds / 3600
    cost["hours"] = Measured(value=hours, unit="hours", n=1, interval=basis)
    if price is not None:
        how = f"{basis}, {price:g} an hour"
        cost["money"] = Measured(value=hours * price, unit="units of price", n=1, interval=how)
    return cost, []


def _speed(folder: Path | None, gpu: str | None) -> tuple[float, int] | None:
    """Return FLOP/s over all timed packs of a result folder (on a GPU if one is named), and their number."""
    if folder is None:
        return None
    times = [read_json(file) for file in sorted(folder.glob("packs/*/timing.json"))]
    times = [t for t in times if t.get("seconds", 0) > 0 and str(t.get("device", "")).startswith("cuda" if gpu else "")]
    runs = [read_json(file) for file in sorted(folder.glob("runs/*/result.json"))]
    each = [r["flops"] / r["tokens_seen"] for r in runs if r.get("tokens_seen") and r.get("flops")]
    if not times or not each:
        return None
    return sum(t["tokens"] for t in times) * float(np.mean(each)) / sum(t["seconds"] for t in times), len(times)

"""`advise`: how large a model, for how many epochs, do these tokens call for, and how much of them will it memorise?

The rule: the smallest size at which doubling the parameters would lower the expected held-out loss by less than `worth`
nats/token, stopped where the held-out loss is lowest or at `epochs_max`. From a grid of your own runs where there is one
(`source`), else from the published law for repeated data, which was fitted to another tokenizer and says so.

>>> print(advise("3M", source="runs/book", epochs_max=40))
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from memscape.errors import TableError
from memscape.folder import read_json, write_json
from memscape.laws.fitting import fit as fit_table
from memscape.laws.intervals import Problem, predictions, profile, resample
from memscape.laws.law import LAWS
from memscape.laws.quantity import format_quantity, parse_quantity
from memscape.laws.results import Advice, Curve, Fit, Fits, Line
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
    constants serve. `params` names the sizes to choose from; `worth` (nats/token) is the least gain that justifies twice
    the parameters. Hours need a throughput: `throughput` in tokens/s at the recommended size, or the time that the runs
    of `source` took; money needs `price` per hour. `gpu` is the name printed beside. `out` is a folder for `advice.json`.
    """
    n_tokens = parse_quantity(tokens)
    if not epochs_max >= 1:
        raise TableError(f"expected epochs_max of 1 or more, got {epochs_max}; one epoch sees every token once.")
    if not worth > 0:
        raise TableError(f"expected a positive worth in nats/token, got {worth}; 0.01 is the default.")
    table = _table(fit, source)
    given = [params] if isinstance(params, str | float | int) else params
    sizes = SIZES if given is None else np.array(sorted(parse_quantity(p) for p in given))
    ground = _published(n_tokens, epochs_max) if table is None else _own(table, n_tokens, epochs_max)
    advice = _advise(ground, n_tokens, epochs_max, sizes, given is not None, worth)
    cost, missing = _cost(ground, advice, n_tokens, gpu, throughput, price, source)
    advice = advice.model_copy(update={"cost": cost, "changes": [*advice.changes, *missing]})
    if out is not None:
        write_json(Path(out) / "advice.json", advice)
    return advice


@dataclass(frozen=True)
class Ground:
    """What an advice stands on: the expected losses at the corpus's size, as functions of N."""

    problem: Problem | None
    """The law of held-out loss, fitted; None for published constants."""
    theta: np.ndarray
    """Draws of its parameters, the best first (S, P)."""
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """θ (S, P), N (n,) -> expected held-out loss (S, n) at the corpus's size and the best stop."""
    loss_at: Callable[[float], Measured]
    epochs: Callable[[float], Measured]
    share: Callable[[float], Measured | None]
    """Memorised share at the recommended stop."""
    floor: float | None
    flops_per_token: float
    """Per parameter and token seen."""
    n_range: tuple[float, float] | None
    d_range: tuple[float, float] | None
    fits: Fits | None
    words: str


def _table(fit: Fit | Fits | None, source: Any) -> RunTable | None:
    if source is not None:
        return RunTable.read(source)
    if fit is None:
        return None
    if fit._table is None:
        raise TableError(
            "this fit was read from a file and has lost its runs; pass source= with the folder it came from."
        )
    return fit._table


def _published(n_tokens: float, epochs_max: float) -> Ground:
    law = LAWS["repeated"]
    theta = law.constants("muennighoff")
    reuse = math.exp(theta[0, law.params.index("ln_R_D")])
    # past R_D* repetitions a token is worth a third of a new one: the source's own mark for where repeating stops paying
    epochs = min(epochs_max, 1 + reuse)

    def loss(theta, n):
        x = np.log(np.stack([n, np.full(len(n), n_tokens), np.full(len(n), n_tokens * epochs)]))
        return np.exp(law.value(theta, x)[0])

    return Ground(
        problem=None, theta=theta, loss=loss,
        loss_at=lambda n: Measured(value=float(loss(theta, np.array([n]))[0, 0]), unit="nats/token", n=0, interval="published constants"),
        epochs=lambda n: Measured(value=epochs, unit="epochs", n=0, interval="published constants"),
        share=lambda n: None, floor=None, flops_per_token=6.0, n_range=None, d_range=None, fits=None,
        words="No runs of yours: published constants of Muennighoff et al. (another tokenizer and corpus) speak here",
    )  # fmt: skip


def _own(table: RunTable, n_tokens: float, epochs_max: float) -> Ground:
    fits = fit_table(table, resamples=200)
    chinchilla = fits.laws.get("chinchilla")
    if chinchilla is None or not isinstance(chinchilla._problem, Problem):
        why = chinchilla.outcome.sentence if chinchilla is not None else "the table has no held-out loss"
        raise TableError(f"the table cannot carry advice: {why} Or advise without it, from published constants.")
    problem = chinchilla._problem
    cells = problem.cells
    ln_d = math.log(n_tokens)

    def loss(theta, n):
        return np.exp(problem.law.value(theta, np.stack([np.log(n), np.full(len(n), ln_d)]))[0])

    def loss_at(n):
        x = np.array([[math.log(n)], [ln_d]])
        ends = [float(e[0]) for e in profile(problem, predictions(problem.law, x), 1)]
        low, high = (math.exp(e) if math.isfinite(e) else None for e in ends[1:])
        return Measured(
            value=math.exp(ends[0]),
            unit="nats/token",
            n=len(problem.y),
            low=low,
            high=high,
            interval=f"95 % profile over {len(problem.y)} cells",
        )

    trained = "best_fresh_epochs" if "best_fresh_epochs" in cells.inputs else "epochs"
    floor = None
    if "seq_len" in cells.inputs:
        length = float(np.median(cells.inputs["seq_len"]))
        floor = max(0.0, math.log(max(1.0, n_tokens / length)) / length)

    def epochs(n):
        if trained not in cells.inputs:
            return Measured(value=epochs_max, unit="epochs", n=0, interval="the limit given; the table has no epochs")
        found = _plane(problem, np.log(cells.inputs[trained]), n, ln_d)
        ends = [min(epochs_max, max(1.0, math.exp(min(v, 50.0)))) for v in found]
        return Measured(
            value=ends[0],
            unit="epochs",
            n=len(problem.y),
            low=ends[1],
            high=ends[2],
            interval=f"95 % regression over {len(problem.y)} cells, at most {epochs_max:g}",
        )

    def share(n):
        if "best_train_loss" in cells.inputs and "floor" in cells.inputs:
            at_stop = (cells.value - cells.inputs["best_train_loss"]) / (cells.value - cells.inputs["floor"])
            ends = [min(1.0, max(0.0, v)) for v in _plane(problem, at_stop, n, ln_d)]
            return Measured(
                value=ends[0],
                unit="1",
                n=len(problem.y),
                low=ends[1],
                high=ends[2],
                interval=f"95 % regression over {len(problem.y)} cells",
            )
        return None

    used = cells.inputs
    per_token = 6.0
    if {"flops", "tokens_seen"} <= set(used):
        per_token = float(np.median(used["flops"] / used["tokens_seen"] / used["n_params"]))
    return Ground(
        problem=problem, theta=np.concatenate([problem.theta[None], resample(problem, 300)]), loss=loss, loss_at=loss_at,
        epochs=epochs, share=share, floor=floor, flops_per_token=per_token,
        n_range=(used["n_params"].min(), used["n_params"].max()), d_range=(used["n_tokens"].min(), used["n_tokens"].max()),
        fits=fits, words=f"From {len(table)} runs",
    )  # fmt: skip


def _plane(problem: Problem, value: np.ndarray, n: float, ln_d: float) -> tuple[float, float, float]:
    """Return the least-squares plane of `value` over (ln N, ln D) at one point, with the 95 % interval of its mean."""
    design = np.column_stack([np.ones(len(value)), problem.x[0], problem.x[1]])
    inverse = np.linalg.pinv(design.T @ design)
    slope = inverse @ design.T @ value
    freedom = max(1, len(value) - 3)
    variance = float(((value - design @ slope) ** 2).sum() / freedom)
    at = np.array([1.0, math.log(n), ln_d])
    half = float(student.ppf(0.975, freedom)) * math.sqrt(variance * float(at @ inverse @ at))
    middle = float(at @ slope)
    return middle, middle - half, middle + half


def _choose(loss: np.ndarray, doubled: np.ndarray, sizes: np.ndarray, worth: float) -> np.ndarray:
    """Return for each row of losses (S, n) the smallest size whose doubling gains less than `worth`; the largest if none."""
    enough = loss - doubled < worth
    return sizes[np.where(enough.any(1), enough.argmax(1), len(sizes) - 1)]


def _advise(ground: Ground, n_tokens: float, epochs_max: float, sizes: np.ndarray, given: bool, worth: float) -> Advice:
    chosen = _choose(ground.loss(ground.theta, sizes), ground.loss(ground.theta, 2 * sizes), sizes, worth)
    n = float(chosen[0])
    spread = np.quantile(chosen[1:], [0.025, 0.975]) if len(chosen) > 8 else None
    size = Measured(
        value=n, unit="parameters", n=0 if ground.problem is None else len(ground.problem.y),
        low=None if spread is None else float(spread[0]), high=None if spread is None else float(spread[1]),
        interval="published constants" if spread is None else f"95 % bootstrap over {len(ground.problem.y) if ground.problem else 0} cells",
    )  # fmt: skip
    recommended = {"n_params": size, "epochs": ground.epochs(n), "fresh_loss": ground.loss_at(n)}
    fresh = recommended["fresh_loss"]
    if ground.floor is not None:
        recommended["floor"] = Measured(
            value=ground.floor, unit="nats/token", n=1, interval="exact if all sequences differ"
        )
        stored = ground.share(n)
        held = _trained_on(ground, n, n_tokens, fresh.value)
        stored = stored if stored is not None else held
        if stored is not None:
            recommended["memorised_share"] = stored
            recommended["train_loss"] = _train_loss(fresh, ground.floor, stored)
        if held is not None:
            recommended["memorised_share_if_trained_on"] = held
    memorise = _memorise(ground, n_tokens, fresh.value)
    extrapolation = _extrapolation(ground, n, n_tokens)
    return Advice(
        tokens=round(n_tokens), epochs_max=epochs_max, recommended=recommended, memorise=memorise, cost={},
        extrapolation=extrapolation, changes=_changes(ground, recommended, n_tokens, epochs_max, sizes, given, worth),
        next_runs=ground.fits.next_runs if ground.fits is not None else [],
        sentence=_sentence(ground, recommended, memorise, extrapolation, n_tokens), curve=_curve(ground, n),
    )  # fmt: skip


def _trained_on(ground: Ground, n: float, n_tokens: float, fresh: float) -> Measured | None:
    """Return the share of the data's bits that capacity lets a model of size n hold when it is trained to the end."""
    law = ground.fits.laws.get("capacity") if ground.fits is not None else None
    if law is None or not law.params or ground.floor is None or ground.problem is None:
        return None
    bits = n_tokens * (fresh - ground.floor) / math.log(2)
    if bits <= 0:
        return None
    held = law.predict(n_params_total=_total(ground, n), data_bits=bits)
    low, high = (None if e is None else min(1.0, e / bits) for e in (held.low, held.high))
    return Measured(value=min(1.0, held.value / bits), unit="1", n=held.n, low=low, high=high, interval=held.interval)


def _total(ground: Ground, n: float) -> float:
    """Return total parameters for n without embeddings, by the grid's straight line in logs."""
    inputs = ground.problem.cells.inputs if ground.problem is not None else {}
    if "n_params_total" not in inputs:
        return n
    slope, level = np.polyfit(np.log(inputs["n_params"]), np.log(inputs["n_params_total"]), 1)
    return max(n, float(np.exp(level + slope * math.log(n))))


def _train_loss(fresh: Measured, floor: float, share: Measured) -> Measured:
    """Return fresh - share (fresh - floor), the definition of the share turned round; ends from the share's interval."""
    ends = [None if s is None else fresh.value - s * (fresh.value - floor) for s in (share.high, share.low)]
    return Measured(
        value=fresh.value - share.value * (fresh.value - floor), unit="nats/token", n=share.n, low=ends[0], high=ends[1],
        interval=share.interval,
    )  # fmt: skip


def _memorise(ground: Ground, n_tokens: float, fresh: float) -> dict[str, Measured]:
    """Return the size that would memorise half of the corpus (frontier), the size that could hold all (capacity), the bits."""
    found: dict[str, Measured] = {}
    if ground.fits is None:
        return found
    frontier = ground.fits.laws.get("frontier")
    if frontier is not None and frontier.params:
        found["n_params_half"] = frontier.predict(n_tokens=n_tokens)
    capacity = ground.fits.laws.get("capacity")
    if capacity is not None and capacity.params and ground.floor is not None and fresh > ground.floor:
        bits, c = n_tokens * (fresh - ground.floor) / math.log(2), capacity.params["c"]
        found["bits"] = Measured(value=bits, unit="bits", n=1, interval="none")
        found["n_params"] = Measured(
            value=bits / c.value, unit="parameters", n=c.n, low=None if c.high is None else bits / c.high,
            high=None if not c.low else bits / c.low, interval=c.interval,
        )  # fmt: skip
    return found


def _extrapolation(ground: Ground, n: float, n_tokens: float) -> dict[str, Any]:
    if ground.n_range is None or ground.d_range is None:
        return {"factor": None, "n_params_factor": None, "tokens_factor": None, "sentence": "no grid of your own"}
    outside = [max(1.0, v / high, low / v) for v, (low, high) in ((n, ground.n_range), (n_tokens, ground.d_range))]
    factor = max(outside)
    if factor > LOUD:
        sentence = f"EXTRAPOLATED x {factor:.0f}: the corpus lies x {outside[1]:.3g} outside the grid in D, the size x {outside[0]:.3g} in N."
    elif factor > 1:
        sentence = f"outside the grid by x {outside[1]:.2g} in D and x {outside[0]:.2g} in N."
    else:
        sentence = "inside the grid."
    return {"factor": factor, "n_params_factor": outside[0], "tokens_factor": outside[1], "sentence": sentence}


def _sentence(ground: Ground, recommended, memorise, extrapolation, n_tokens: float) -> str:
    n, epochs, fresh = (recommended[k] for k in ("n_params", "epochs", "fresh_loss"))
    words = [extrapolation["sentence"]] if (extrapolation["factor"] or 0) > LOUD else []
    words.append(
        f"{ground.words}: for {format_quantity(n_tokens)} unique tokens train {format_quantity(n.value)} parameters{_between(n)} "
        f"for {epochs.value:.2g} epochs; expected held-out loss {fresh.value:.3g}{_between(fresh)} nats/token"
        + (f", training floor {recommended['floor'].value:.3g}." if "floor" in recommended else ".")
    )
    if "memorised_share" in recommended:
        share = recommended["memorised_share"]
        words.append(f"It would then have memorised {100 * share.value:.0f} % of the text's bits.")
    if "n_params" in memorise:
        words.append(
            f"Holding all of it takes {format_quantity(memorise['n_params'].value)} parameters{_between(memorise['n_params'])}, embeddings counted."
        )
    return " ".join(words)


def _between(m: Measured) -> str:
    if m.low is None or m.high is None:
        return ""
    write = format_quantity if m.unit == "parameters" else "{:.3g}".format
    return f" [{write(m.low)}, {write(m.high)}]"


def _changes(
    ground: Ground, recommended, n_tokens: float, epochs_max: float, sizes, given: bool, worth: float
) -> list[str]:
    """Return what would move the advice."""
    theta, words = ground.theta[:1], []
    n = recommended["n_params"].value

    def at(worth):
        return float(_choose(ground.loss(theta, sizes), ground.loss(theta, 2 * sizes), sizes, worth)[0])

    words.append(
        f"Asking {worth / 2:g} or {2 * worth:g} nats/token of a doubling instead of {worth:g} moves the size to "
        f"{format_quantity(at(worth / 2))} or {format_quantity(at(2 * worth))}."
    )
    if ground.problem is not None:
        law = ground.problem.law
        x = np.array([[math.log(n)] * 2, [math.log(n_tokens), math.log(2 * n_tokens)]])
        loss = np.exp(law.value(theta, x)[0][0])
        words.append(
            f"Twice the tokens would lower the held-out loss by {loss[0] - loss[1]:.2g} nats/token; that is what more data is worth."
        )
    if recommended["epochs"].value >= epochs_max * 0.999:
        words.append(f"The limit of {epochs_max:g} epochs binds; more would still lower the held-out loss.")
    if not given and n >= sizes[-1]:
        words.append("No size is large enough by this rule: the size term does not fall; choose sizes with params=.")
    frontier = ground.fits.laws.get("frontier") if ground.fits is not None else None
    if frontier is not None and frontier.verdict:
        words.append(f"What it memorises depends on the frontier: {frontier.verdict}")
    if ground.fits is not None:
        words += [run["sentence"][0].upper() + run["sentence"][1:] for run in ground.fits.next_runs[:1]]
    return words


def _curve(ground: Ground, n: float) -> Curve:
    """Return the expected held-out loss over two decades of size around the recommendation."""
    x = n * np.exp(np.linspace(math.log(0.03), math.log(30), 41))
    loss = ground.loss(ground.theta, x)
    band = np.quantile(loss[1:], [0.025, 0.975], axis=0).tolist() if len(loss) > 8 else (None, None)
    line = Line(label="expected held-out loss", x=x.tolist(), y=loss[0].tolist(), low=band[0], high=band[1])
    references = [] if ground.floor is None else [Line(label="training floor", x=[x[0], x[-1]], y=[ground.floor] * 2)]
    return Curve(x="N, parameters", y="held-out loss, nats/token", lines=[line], references=references)


def _cost(
    ground: Ground, advice: Advice, n_tokens: float, gpu, throughput, price, source
) -> tuple[dict[str, Measured], list[str]]:
    """Return FLOPs, and hours and money where a throughput was given or measured; and what is missing for them."""
    n, epochs = advice.recommended["n_params"].value, advice.recommended["epochs"].value
    seen = epochs * n_tokens
    flops = ground.flops_per_token * n * seen
    cost = {"flops": Measured(value=flops, unit="FLOPs", n=1, interval="none")}
    where = gpu or "this machine"
    speed = _measured_speed(source, gpu)
    if throughput is not None:
        seconds, basis = seen / throughput, f"at the {throughput:.3g} tokens/s given for {where}"
    elif speed is not None:
        seconds, basis = (
            flops / speed[0],
            f"at {speed[0] / 1e9:.3g} GFLOP/s measured on {speed[1]} over {speed[2]} packs",
        )
    else:
        return cost, [
            f"Hours on {where} need a measured throughput: pass throughput= in tokens/s, or train one pack there first."
        ]
    cost["hours"] = Measured(value=seconds / 3600, unit="hours", n=1, interval=basis)
    if price is not None:
        cost["money"] = Measured(
            value=seconds / 3600 * price, unit="price x hours", n=1, interval=f"{basis}, {price:g} an hour"
        )
    return cost, []


def _measured_speed(source: Any, gpu: str | None) -> tuple[float, str, int] | None:
    """Return FLOP/s over all packs of a result folder with a timing, the device's name and the number of packs."""
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        return None
    times = [read_json(file) for file in sorted(Path(source).glob("packs/*/timing.json"))]
    wanted = "cuda" if gpu else ""
    times = [t for t in times if str(t.get("device", "")).startswith(wanted) and t.get("seconds", 0) > 0]
    runs = [read_json(file) for file in sorted(Path(source).glob("runs/*/result.json"))]
    per_token = [r["flops"] / r["tokens_seen"] for r in runs if r.get("tokens_seen")]
    if not times or not per_token:
        return None
    tokens, seconds = sum(t["tokens"] for t in times), sum(t["seconds"] for t in times)
    device = gpu or str(times[0].get("device", "?"))
    return tokens * float(np.mean(per_token)) / seconds, device, len(times)


__all__ = ["advise"]

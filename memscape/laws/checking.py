"""What may a law see of a table? Unusable rows are dropped, each with its reason; a table in doubt is refused.

>>> loss = np.array([2.0, math.nan])
>>> check({"n_params": np.full(2, 1e5), "n_tokens": np.full(2, 1e4), "train_loss": loss}, "t.csv")[1]
[{'run_id': 'row 2', 'reason': 'train_loss is not a number'}]
"""

import math
from collections import Counter

import numpy as np

from memscape.errors import TableError
from memscape.laws.reading import TEXT

LATE = 0.03
"""Share of the text's bits memorised in the last quarter of training, from which a run counts as not trained out."""

Columns = dict[str, np.ndarray]

HIGHEST = 14.0
"""Nats/token that no vocabulary of a million reaches."""

ONE_ONLY = ("tokenizer", "vocab_size", "corpus")
"""Columns that must hold one value: nats/token under two tokenizers or corpora are no common unit."""

LOSSES = ("train_loss", "fresh_loss")
"""Losses without which a row is of no use, where the table has them at all."""

BEST = ("best_fresh_loss", "best_train_loss")
"""Lowest held-out loss along training, and the training loss then."""


def check(found: Columns, name: str) -> tuple[Columns, list[dict[str, str]], list[str]]:
    """Return the usable rows with what follows from them, the dropped rows with reasons, and notes.

    Raises TableError for missing columns, mixed tokenizers or corpora, wrong units, and losses under their floor.
    """
    have = ", ".join(sorted(found))
    for column in ("n_params", "n_tokens"):
        if column not in found:
            raise TableError(
                f"expected a column {column!r} in {name}, got {have}; map it: columns={{{column!r}: ...}}."
            )
    if not {*LOSSES, "memorised_bits", "gap_mse"} & set(found):
        raise TableError(f"expected a loss in {name} (train_loss, fresh_loss), got {have}; map one with columns=.")
    n = len(found["n_params"])
    found.setdefault("run_id", np.array([f"row {i + 1}" for i in range(n)], dtype=object))
    reason = np.full(n, "", dtype=object)

    def drop(where: np.ndarray, why: str) -> None:
        reason[where & (reason == "")] = why

    if "status" in found:
        drop(found["status"] == "diverged", "the run diverged")
    for column in ("n_params", "n_tokens", *LOSSES):
        if column in found:
            drop(~np.isfinite(found[column]), f"{column} is not a number")
            drop(found[column] <= 0, f"{column} is not positive")
    drop(_repeats(found), "a duplicate of an earlier row")
    drop(_under_floor(found), "the training loss lies under its floor")
    keep = reason == ""
    dropped = [{"run_id": str(found["run_id"][i]), "reason": str(reason[i])} for i in np.flatnonzero(~keep)]
    if not keep.any():
        why = Counter(d["reason"] for d in dropped).most_common(1)[0][0]
        raise TableError(f"none of the {n} rows of {name} can be used: {why}; repair the table and repeat.")
    table = {k: v[keep] for k, v in found.items()}
    for column in ONE_ONLY:
        kinds = sorted({str(v) for v in table.get(column, ())})
        if len(kinds) > 1:
            mixed = f"the table mixes {len(kinds)} values of {column} ({', '.join(kinds[:4])})"
            raise TableError(f"{mixed}; fit them apart: where={{{column!r}: ...}}.")
    _refuse_wrong_units(table)
    notes = _derive(table)
    if len({str(v) for v in table.get("family", ())}) > 1:
        notes.append("the table mixes model families; fit them apart with where={'family': ...} to compare them")
    return table, dropped, notes


def _under_floor(found: Columns) -> np.ndarray:
    """Mark training losses under their floor; more than a fifth of them is a wrong table."""
    if not {"train_loss", "floor"} <= set(found):
        return np.zeros(len(found["n_params"]), bool)
    slack = 1e-3 + 3 * np.nan_to_num(found.get("train_loss_sem", np.zeros(1)))
    under = found["train_loss"] < found["floor"] - slack
    if under.mean() > 0.2:
        worst = float(np.nanmax(found["floor"] - found["train_loss"]))
        raise TableError(
            f"{int(under.sum())} of {len(under)} training losses lie under their floor, by {worst:.3g} nats/token, "
            f"which is impossible; check that both are nats/token over the same tokens."
        )
    return under


def _repeats(found: Columns) -> np.ndarray:
    """Mark rows whose numbers all equal those of an earlier row; one run_id with two results is refused."""
    numbers = [found[k] for k in sorted(found) if k not in TEXT]
    again, seen, by_name = np.zeros(len(found["n_params"]), bool), set(), {}
    for i, name in enumerate(found["run_id"]):
        key = tuple(repr(float(column[i])) for column in numbers)
        again[i] = key in seen
        seen.add(key)
        if by_name.setdefault(str(name), key) != key:
            raise TableError(f"two rows are called {name!r} and disagree; keep one, or give each run its own run_id.")
    return again


def _derive(table: Columns) -> list[str]:
    """Add `heldout_loss`, and count memorised bits against it; return what to say about it.

    An overfitted model pays more for unseen text than it must, and would be credited with the difference as memory.
    Where the history of a run is known, the lowest held-out loss along it is the reference instead of the last. Random
    tokens have no held-out loss worth a law: their reference is ln V, and their bits stay as they are.
    """
    if str(table.get("corpus", ("",))[0]).startswith("random:"):
        return ["random tokens: bits are counted against ln V", *_still_learning(table, table.get("uniform_loss"))]
    if "fresh_loss" not in table:
        return []
    if "best_fresh_loss" not in table:
        table["heldout_loss"] = table["fresh_loss"]
        return _still_learning(table, table["fresh_loss"])
    best = np.where(np.isfinite(table["best_fresh_loss"]), table["best_fresh_loss"], table["fresh_loss"])
    table["heldout_loss"] = best
    if {"train_loss", "floor"} <= set(table):
        nats_held, nats = (np.maximum(0.0, best - table[k]) * table["n_tokens"] for k in ("train_loss", "floor"))
        table["memorised_bits"], table["data_bits"] = nats_held / math.log(2), nats / math.log(2)
        table["memorised_share"] = np.divide(nats_held, nats, out=np.full(len(nats), math.nan), where=nats > 0)
    note = "held-out loss is the lowest along each run, and memorised bits are counted against it"
    return [note, *_still_learning(table, best)]


def _still_learning(table: Columns, reference: np.ndarray | None) -> list[str]:
    """Say so if runs that have memorised a part were still memorising when they ended: D* would grow with training."""
    if reference is None or not {"late_fall", "floor", "memorised_share"} <= set(table):
        return []
    part = (table["memorised_share"] > 0.2) & (table["memorised_share"] < 0.8)
    late = (table["late_fall"] / (reference - table["floor"]))[part & np.isfinite(table["late_fall"])]
    if not len(late) or np.median(late) < LATE:
        return []
    late_share = 100 * float(np.median(late))
    gained = f"runs that memorised a part still gained {late_share:.0f} % of the text's bits in their last quarter"
    return [f"{gained}: frontier and bits per parameter are those of this length of training"]


def _refuse_wrong_units(table: Columns) -> None:
    """Refuse losses that are probably bits or perplexities.

    The last held-out loss of an overfitted run may exceed ln V honestly; the lowest, and the training loss, may not.
    """
    vocabulary = table.get("vocab_size")
    uniform = table.get("uniform_loss", None if vocabulary is None else np.log(vocabulary))
    known = [loss for loss in ("train_loss", "best_fresh_loss") if loss in table]
    for loss in known or [loss for loss in ("fresh_loss",) if loss in table]:
        typical = float(np.median(table[loss]))
        if typical > HIGHEST:
            raise TableError(f"{loss} is {typical:.3g} at the median, no nats/token; take ln of perplexities first.")
        if uniform is not None and np.mean(table[loss] > 1.1 * uniform) > 0.3:
            guess = float(np.median(uniform))
            raise TableError(
                f"{loss} is {typical:.3g} at the median where guessing costs ln V = {guess:.3g} nats/token: "
                f"bits suspected; pass units='bits'."
            )

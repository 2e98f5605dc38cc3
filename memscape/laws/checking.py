"""What may a law see of a table? Unusable rows are dropped, each with its reason; a table in doubt is refused.

>>> loss = np.array([2.0, math.nan])
>>> check({"n_params": np.full(2, 1e5), "n_tokens": np.full(2, 1e4), "train_loss": loss}, "t.csv")[1]
[{'run_id': 'row 2', 'reason': 'train_loss is not a number'}]
"""

import math
from collections import Counter

import numpy as np
import pandas as pd

from memscape.errors import TableError
from memscape.laws.reading import NEEDED, TEXT, how_to_map

Columns = dict[str, np.ndarray]

ONE_ONLY = ("tokenizer", "vocab_size", "corpus")
"""Columns that must hold one value: nats/token under two tokenizers or corpora are no common unit."""

HIGHEST = 14.0
"""Nats/token that no vocabulary of a million reaches."""

LATE = 0.03
"""Share of the text's bits memorised in the last quarter of training, from which a run counts as not trained out."""

STILL = "runs that memorised a part still gained"
"""How the note about such runs begins."""


def check(found: Columns, name: str) -> tuple[Columns, list[dict[str, str]], list[str]]:
    """Return the usable rows with `heldout_loss`, the dropped rows with reasons, and notes.

    Raises TableError for missing columns, mixed tokenizers or corpora, wrong units, and losses under their floor.
    """
    have = ", ".join(sorted(found))
    for column in ("n_params", "n_tokens"):
        if column not in found:
            raise TableError(f"expected a column {column!r} in {name}, got {have}; {how_to_map(column)}.")
    if not {"train_loss", "fresh_loss", "memorised_bits"} & set(found):
        how = how_to_map("fresh_loss")
        raise TableError(f"expected a loss in {name} (train_loss, fresh_loss), got {have}; {how}.")
    n = len(found["n_params"])
    found.setdefault("run_id", np.array([f"row {i + 1}" for i in range(n)], dtype=object))
    reason = np.full(n, "", dtype=object)

    def drop(where: np.ndarray, why: str) -> None:
        reason[where & (reason == "")] = why

    if "status" in found:
        drop(found["status"] == "diverged", "the run diverged")
    for column in NEEDED:
        if column in found:
            drop(~np.isfinite(found[column]), f"{column} is not a number")
            drop(found[column] <= 0, f"{column} is not positive")
    drop(_repeats(found), "a duplicate of an earlier row")
    drop(_under_floor(found), "the training loss lies under its floor")
    keep = reason == ""
    dropped = [{"run_id": str(found["run_id"][i]), "reason": str(reason[i])} for i in np.flatnonzero(~keep)]
    if not keep.any():
        why = Counter(reason).most_common(1)[0][0]
        raise TableError(f"none of the {n} rows of {name} can be used: {why}; repair the table and repeat.")
    table = {k: v[keep] for k, v in found.items()}
    for column in ONE_ONLY:
        kinds = sorted({str(v) for v in table.get(column, ())})
        if len(kinds) > 1:
            mixed = f"the table mixes {len(kinds)} values of {column} ({', '.join(kinds[:4])})"
            raise TableError(f"{mixed}; fit them apart: a file for each, or where={{{column!r}: ...}} in Python.")
    _refuse_wrong_units(table)
    return table, dropped, _notes(table)


def _repeats(found: Columns) -> np.ndarray:
    """Mark rows whose numbers all equal those of an earlier row; one run_id with two results is refused."""
    again = pd.DataFrame({k: v for k, v in found.items() if k not in TEXT}).duplicated().to_numpy()
    names, times = np.unique(found["run_id"][~again], return_counts=True)
    if times.max() > 1:
        name = names[times.argmax()]
        raise TableError(f"two rows are called {name!r} and disagree; keep one, or give each run its own run_id.")
    return again


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


def _refuse_wrong_units(table: Columns) -> None:
    """Refuse losses that are probably bits or perplexities.

    An overfitted model may be worse than guessing on text it has not seen, so the training loss is judged if known.
    """
    loss = next((name for name in ("train_loss", "best_fresh_loss", "fresh_loss") if name in table), None)
    if loss is None:
        return
    typical = float(np.median(table[loss]))
    if typical > HIGHEST:
        raise TableError(f"{loss} is {typical:.3g} at the median, no nats/token; take ln of perplexities first.")
    guess = table.get("uniform_loss", np.log(table.get("vocab_size", np.array(math.inf))))
    if np.mean(table[loss] > 1.1 * guess) > 0.3:
        raise TableError(
            f"{loss} is {typical:.3g} at the median where guessing costs ln V = {np.median(guess):.3g} nats/token: "
            f"bits suspected; pass units='bits' in Python, or multiply them by ln 2."
        )


def _fill_best_train_loss(table: Columns) -> int:
    """Put the last training loss where that at the lowest held-out loss is not known; return for how many runs."""
    if "train_loss" not in table:
        return 0
    best = table.get("best_train_loss")
    if best is None:
        return len(table["train_loss"])
    missing = ~np.isfinite(best)
    table["best_train_loss"] = np.where(missing, table["train_loss"], best)
    return int(missing.sum())


def _notes(table: Columns) -> list[str]:
    """Add `heldout_loss`, the lowest along a run where that is known, and return what to say about the table.

    Random tokens have no held-out loss worth a law: their bits are counted against ln V.
    """
    notes = []
    if str(table.get("corpus", ("",))[0]).startswith("random:"):
        notes.append("random tokens: bits are counted against ln V")
        reference = table.get("uniform_loss")
    else:
        reference = table.get("fresh_loss")
        if "best_fresh_loss" in table:
            best = table["best_fresh_loss"]
            reference = np.where(np.isfinite(best), best, table.get("fresh_loss", best))
            notes.append("held-out loss is the lowest along each run")
            if unknown := _fill_best_train_loss(table):
                notes.append(
                    f"of {unknown} of {len(best)} runs the training loss at that time is not known: that at their end "
                    "takes its place"
                )
        if reference is not None:
            table["heldout_loss"] = reference
    if "memorised_share" in table and "late_fall" not in table:
        notes.append("without late_fall it is not known whether the runs had finished memorising")
    if reference is not None and {"late_fall", "floor", "memorised_share"} <= set(table):
        part = (table["memorised_share"] > 0.2) & (table["memorised_share"] < 0.8) & np.isfinite(table["late_fall"])
        late = (table["late_fall"] / (reference - table["floor"]))[part]
        if len(late) and np.median(late) > LATE:
            notes.append(
                f"{STILL} {100 * np.median(late):.0f} % of the text's bits in their "
                f"last quarter: all this holds at this length of training"
            )
    if len({str(v) for v in table.get("family", ())}) > 1:
        notes.append(
            "the table mixes model families; fit them apart to compare them, a file for each, or where={'family': ...} "
            "in Python"
        )
    return notes

"""What a finished run leaves: its model in Hugging Face's layout, its history, and one flat row of results.

    runs/<id>/config.json  model.safetensors  tokenizer.json  metrics.parquet  result.json

`result.json` comes last: it exists = the run is done. Losses are in nats/token.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from memscape.data import Sequences, Split
from memscape.folder import write_json, write_whole
from memscape.models.huggingface import write
from memscape.models.sizing import flops, parameters
from memscape.theory import bits
from memscape.training.config import RunConfig

COLUMNS = [
    "step", "running_loss", "gradient_norm",
    *(f"{name}_{what}" for name in ("train", "fresh", "other") for what in ("loss", "loss_sem", "extracted", "n")),
]  # fmt: skip
"""Columns of metrics.parquet: one row an evaluation; `running_loss` is the mean training loss since the row before."""

OF_THE_RUN = ("batch_size", "learning_rate", "weight_decay", "dropout", "z_loss", "seed", "data_seed")
"""Columns of the run table that are fields of the run's configuration."""


class Ending(NamedTuple):
    """A member of a pack at the end of its training."""

    run: RunConfig
    split: Split
    subset: Sequences
    """Its training set."""
    floor: float
    """Of that set, nats/token."""
    history: np.ndarray
    """(evaluations, len(COLUMNS))."""
    steps: int
    """Steps it took before it stopped."""
    converged: bool
    """Whether its stop rule was met."""
    weights: dict[str, Tensor]
    """Its parameters, without the pack axis."""


def write_run(folder: Path, end: Ending) -> None:
    """Write the folder of one run: model and tokenizer, history, and last the row of results."""
    write(folder, end.run.model, end.weights, end.split.tokenizer.bos_id, end.run.model_dump(mode="json"))
    end.split.tokenizer.save(folder)
    write_whole(folder / "metrics.parquet", lambda part: _write_parquet(part, end.run, end.history))
    write_json(folder / "result.json", row(end))


def row(end: Ending) -> dict[str, Any]:
    """Return the run's flat row of the table that laws are fitted to.

    Memorised bits are counted against the run's best fresh loss, not its last: a model that has memorised its set
    gets worse than chance on fresh text, and a code may always use the better model (Morris et al., arXiv
    2505.24832, eq. 3).
    """
    run, split, subset, floor, history, steps = end[:6]
    last = dict(zip(COLUMNS, (float(x) for x in history[-1]), strict=True))
    counts, T = parameters(run.model), run.model.seq_len
    V = n_predictable(split, subset)
    n_tokens, n_sequences = subset.n_tokens, len(subset)
    status = _status(end, last["train_loss"], math.log(V))
    finite = math.isfinite(last["train_loss"])
    at, train, fresh = (history[:, COLUMNS.index(name)] for name in ("step", "train_loss", "fresh_loss"))
    best = int(np.nanargmin(fresh)) if np.isfinite(fresh).any() else -1
    reference = float(fresh[best])
    if run.corpus.startswith("random:"):
        held = max(0.0, bits.random_bits(n_tokens, V, last["train_loss"])) if finite else math.nan
        data = bits.random_data_bits(n_tokens, V)
    else:
        held = bits.memorised_bits(n_tokens, reference, last["train_loss"]) if finite else math.nan
        data = bits.data_bits(n_tokens, reference, floor) if finite else math.nan
    seen = steps * run.batch_size / n_sequences
    return {
        "run_id": run.run_id,
        **{name: getattr(run.model, name) for name in ("family", "d_model", "n_layers")},
        "n_heads": max(layer.n_heads for layer in run.model.layers),
        "seq_len": T,
        "vocab_size": split.tokenizer.vocab_size,
        "tokenizer": split.tokenizer.name,
        "corpus": run.corpus,
        "n_params": counts.n_params,
        "n_params_total": counts.total,
        "n_tokens": n_tokens,
        "n_sequences": n_sequences,
        "tokens_seen": round(seen * n_tokens),
        "epochs": seen,
        "steps": steps,
        **{name: getattr(run, name) for name in OF_THE_RUN},
        "status": status,
        **{name: last[name] for name in COLUMNS if name.endswith(("_loss", "_loss_sem")) and name != "running_loss"},
        "best_fresh_loss": reference,
        "best_fresh_epochs": float(at[best]) * run.batch_size / n_sequences,
        "best_train_loss": float(train[best]),
        "late_fall": float(train[np.searchsorted(at, 0.75 * at[-1])] - train[-1]),
        "floor": floor,
        "uniform_loss": math.log(V),
        **{f"n_eval_{name}": round(last[f"{name}_n"]) for name in ("train", "fresh", "other")},
        "memorised_bits": held,
        "data_bits": data,
        "memorised_share": bits.share(held, data),
        "bits_per_param": bits.bits_per_parameter(held, counts.total),
        "extracted_share": last["train_extracted"],
        "extracted_share_fresh": last["fresh_extracted"],
        "flops": float(steps) * run.batch_size * T * flops(run.model).train,
    }


def n_predictable(split: Split, subset: Sequences) -> int:
    """Return the number of tokens that can be a target: all but the begin token, unless it also ends sequences."""
    ends = bool((np.asarray(subset.tokens[:64]) == split.tokenizer.bos_id).any())
    return split.tokenizer.vocab_size - (not ends)


def met_floor(run: RunConfig, train_loss: float, floor: float) -> bool:
    """Return whether the run's stop rule is met: training loss within `stop_within` of the floor of its set."""
    return run.stop_within is not None and train_loss <= floor * (1 + run.stop_within)


def lost(train_loss: float, uniform_loss: float) -> bool:
    """Return whether a run has diverged: no number any more, or twice the loss of knowing nothing."""
    return not train_loss <= 2 * uniform_loss


def _status(end: Ending, train_loss: float, uniform_loss: float) -> str:
    """Return `converged` (met its floor), `diverged` (see `lost`), `budget` (ran out of steps first), or `finished`."""
    if end.converged or met_floor(end.run, train_loss, end.floor):
        return "converged"
    if lost(train_loss, uniform_loss) or end.steps < end.run.steps:
        return "diverged"
    return "finished" if end.run.stop_within is None else "budget"


def _write_parquet(path: Path, run: RunConfig, history: np.ndarray) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {name: pyarrow.array(history[:, i].astype(np.float64)) for i, name in enumerate(COLUMNS)}
    table = pyarrow.table({"run_id": pyarrow.array([run.run_id] * len(history)), **columns})
    pyarrow.parquet.write_table(table, path)

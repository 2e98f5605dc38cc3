"""Trajectory: how does the memory map change over training? One table and one figure from several checkpoints.

found = trajectory("EleutherAI/pythia-70m", ["step1000", "step8000", "main"], corpus="sample", out="runs/pythia")
found.to_frame()
"""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from memscape.folder import write_json
from memscape.instruments.probe import probe
from memscape.instruments.profile import Profile
from memscape.theory.measure import Measured

FOLLOWED = ("radius", "energy", "separation", "dimension", "attention_agreement")
"""Instruments of the table, each at the last layer that has it."""


class Checkpoint(BaseModel):
    """One row of the table."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Revision, or run folder."""
    loss: Measured
    layers: dict[str, list[Measured | None]]
    """Instrument -> the model at every site."""


class Trajectory(BaseModel):
    """Checkpoints in the order given; `trajectory.json` holds it, and each checkpoint's profile lies beside."""

    model_config = ConfigDict(frozen=True)

    model: str
    sites: list[str]
    checkpoints: list[Checkpoint]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, a row a checkpoint, site and instrument."""
        import pandas as pd

        rows = [
            {"checkpoint": c.name, "loss": c.loss.value, "site": site, "instrument": name,
             "value": None if found is None else found.value, "unit": None if found is None else found.unit}
            for c in self.checkpoints for name, column in c.layers.items()
            for site, found in zip(self.sites, column, strict=True)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def followed(self) -> list[str]:
        """The instruments that every checkpoint has."""
        return [name for name in FOLLOWED if all(name in c.layers for c in self.checkpoints)]

    def __str__(self) -> str:
        lines = [f"{'checkpoint':24} {'loss':>8} " + " ".join(f"{n:>20}" for n in self.followed)]
        for c in self.checkpoints:
            last = [next((v for v in reversed(c.layers[n]) if v is not None), None) for n in self.followed]
            cells = [f"{'-' if v is None else format(v.value, '.4g'):>20}" for v in last]
            lines.append(f"{c.name[-24:]:24} {c.loss.value:8.4f} " + " ".join(cells))
        return "\n".join([*lines, "instruments at the last layer that has them"])


def trajectory(model: str, revisions: list[str], out: str | Path, **options: Any) -> Trajectory:
    """Probe several checkpoints alike and return their table; killed at any moment, the same call continues.

    Args:
        model: MODEL whose revisions are meant.
        revisions: branches, tags or commits of the Hub model; or folders (run folders of one training, for example).
        out: result folder, a sub-folder a checkpoint.
        options: as for `probe`.

    Writes trajectory.json; `memscape report` draws it.
    """
    out, profiles = Path(out), {}
    for name in revisions:
        place = out / re.sub(r"[^\w.-]+", "-", name).strip("-")
        is_folder = Path(name).is_dir()
        profiles[name] = probe(name if is_folder else model, out=place, revision=None if is_folder else name, **options)
    found = Trajectory(
        model=model,
        sites=[layer.site for layer in next(iter(profiles.values())).layers],
        checkpoints=[_checkpoint(name, profile) for name, profile in profiles.items()],
    )
    write_json(out / "trajectory.json", found)
    return found


def _checkpoint(name: str, profile: Profile) -> Checkpoint:
    layers = {
        instrument: [None if (c := layer.compared().get(instrument)) is None else c.trained for layer in profile.layers]
        for instrument in FOLLOWED
    }
    kept = {k: v for k, v in layers.items() if any(v)}
    return Checkpoint(name=name, loss=profile.loss["mean"], layers=kept)

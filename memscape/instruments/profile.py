"""The memory map of one model on one corpus: what every instrument measured, beside its nulls."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from memscape.folder import read_json
from memscape.theory.measure import Measured


def revived(value: Any) -> Any:
    """Return JSON values with every measured number in them as `Measured` again."""
    if isinstance(value, dict):
        if set(value) == set(Measured.model_fields):
            return Measured.model_validate(value)
        return {k: revived(v) for k, v in value.items()}
    return [revived(v) for v in value] if isinstance(value, list) else value


Results = Annotated[dict[str, Any], BeforeValidator(revived)]
"""What an instrument found, measured numbers as `Measured`."""

NULLS = ("untrained", "gaussian", "inner_gaussian")

COLUMNS = {
    "radius": ("radius", "trained"),
    "untrained": ("radius", "untrained"),
    "gaussian": ("radius", "gaussian"),
    "inner": ("radius", "inner_gaussian"),
    "energy": ("energy", "trained"),
    "separate": ("separation", "trained"),
    "dimension": ("dimension", "trained"),
    "agreement": ("attention_agreement", "trained"),
}
"""The printed table: column -> instrument, and model or null."""


class Compared(BaseModel):
    """One instrument at one site: the model beside its nulls."""

    model_config = ConfigDict(frozen=True)

    trained: Measured | None
    """The model as it is, on the text that the nulls read; None where the instrument cannot answer (see `reason`)."""
    whole: Measured | None = None
    """The model on all text that was read, where that is more: distances shrink as more is stored, so nulls do not
    compare with this one."""
    untrained: Measured | None = None
    """The same configuration with fresh weights, on the same text."""
    gaussian: Measured | None = None
    """A cloud with the trained states' mean and deviation of every coordinate, and no other structure."""
    inner_gaussian: Measured | None = None
    """A cloud with the mean and the whole covariance of the states that are no outliers."""
    predicted: float | None = None
    """What the paper predicts."""
    reason: str | None = None
    """Why there is no answer."""

    def value_of(self, who: str) -> float | None:
        """Return the value of the model or of one of its nulls."""
        found: Measured | None = getattr(self, who)
        return None if found is None else found.value


class Layer(BaseModel):
    """One place of the residual stream. Instruments that were not asked, or see nothing there, are None."""

    model_config = ConfigDict(frozen=True)

    site: str
    """`embedding`, `layer 5`, `final norm`."""
    depth: int
    """0 is the embedding."""
    radius: Compared | None = None
    """Half the median distance to the nearest state of another document."""
    sequence_radius: Compared | None = None
    """Half the median distance to the nearest whole context of another document, T d_model numbers."""
    growth: Compared | None = None
    """Exponent of the radius in the number of stored states."""
    duplicates: Compared | None = None
    """Share of states with an exact copy in another document."""
    energy: Compared | None = None
    """Median energy among the states of other documents, in units of the cloud's spread."""
    separation: Compared | None = None
    """Median distance to the nearest state of another document, in units of sqrt(2 spread)."""
    separation_without_copies: Compared | None = None
    """The same among states that are no exact copies of each other."""
    separation_dot: Compared | None = None
    """Ramsauer's separation, the median of Delta_i / |state|²."""
    overlap: Compared | None = None
    """Share of states whose ball of the paper's radius meets another's."""
    well_separated: Compared | None = None
    """Share of states that provably hold a ball of their own at beta = 1."""
    dimension: Compared | None = None
    """Intrinsic dimension, TwoNN."""
    dimension_ml: Compared | None = None
    """Intrinsic dimension, maximum likelihood."""
    participation: Compared | None = None
    """Directions that share the variance."""
    attention_agreement: Compared | None = None
    """Share of queries whose largest weight lies on the nearest key by distance, all heads of the layer."""
    attention_bias: Compared | None = None
    """Total variation between attention weights and those by distance."""
    attention_effective: Compared | None = None
    """Effective number of keys, as a share of all seen."""
    memories: Compared | None = None
    """Effective share of the feed-forward layer's memories that one token calls."""
    contraction: Compared | None = None
    """What is left at the end of a push by one radius, in units of spread; below 1 it shrinks."""
    spread: float
    """Median squared distance of a state from the coordinate-wise median, distance²."""
    outliers: Measured | None = None
    """Share of states far outside all others."""
    shrinking: list[Measured] | None = None
    """The radius among 25, 50, 75 and 100 % of all stored states, copies left out."""
    beta_needed: float | None = None
    """Smallest beta, in 1/spread, at which half of the states provably hold a ball of their own."""

    def compared(self) -> dict[str, Compared]:
        """Return every instrument that measured here."""
        return {name: value for name, value in self if isinstance(value, Compared)}


class Profile(BaseModel):
    """What `probe` returns and writes to `profile.json`."""

    model_config = ConfigDict(frozen=True)

    model: dict[str, Any]
    corpus: dict[str, Any]
    setting: dict[str, Any]
    loss: Results
    layers: list[Layer]
    attention: Results | None = None
    """Every head as a search, and the same averages for untrained weights."""
    key_value: Results | None = None
    """Feed-forward layers as memories: what the memories that are called most promote."""
    basins: Results | None = None
    """What becomes of pushed states, trained and untrained."""
    descent: Results | None = None
    energy_and_loss: Measured | None = None
    extraction: Results | None = None
    """Has the model memorised this text: shares, losses, spans, canaries, and what they cannot say."""
    membership: Results | None = None
    """Can members of the training set be told: only for run folders of ours."""
    passage: dict[str, Any]
    landscape: dict[str, Any] | None = None
    notes: list[str] = []
    """What fell back or could not be measured, in sentences."""

    @classmethod
    def read(cls, folder: Path | str) -> "Profile":
        """Read the profile of a probe folder."""
        return cls.model_validate(read_json(Path(folder) / "profile.json"))

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, a row a site and instrument."""
        import pandas as pd

        return pd.DataFrame(
            {"site": layer.site, "depth": layer.depth, "instrument": name}
            | {who: found.value_of(who) for who in ("trained", *NULLS, "whole")}
            | {"predicted": found.predicted}
            for layer in self.layers
            for name, found in layer.compared().items()
        )

    def plot(self, instrument: str = "radius") -> Any:
        """Return a Plotly figure of one instrument at every depth, with nulls and prediction."""
        import plotly.graph_objects as go

        here = {layer.depth: c for layer in self.layers if (c := layer.compared().get(instrument)) is not None}
        figure = go.Figure()
        for who in ("trained", *NULLS):
            values = [c.value_of(who) for c in here.values()]
            if any(value is not None for value in values):
                figure.add_scatter(x=list(here), y=values, name=who, mode="lines+markers")
        if any(c.predicted is not None for c in here.values()):
            figure.add_scatter(x=list(here), y=[c.predicted for c in here.values()], name="predicted")
        unit = next((c.trained.unit for c in here.values() if c.trained), "")
        return figure.update_layout(
            xaxis_title="depth (layers)",
            yaxis_title=f"{instrument} ({unit})",
            yaxis_type="log" if instrument == "radius" else "linear",
        )

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(float_format="%.4g", index=False)

    def __str__(self) -> str:
        rows = [f"{'site':12} " + " ".join(f"{title:>9}" for title in COLUMNS)]
        for layer in self.layers:
            values = [c and c.value_of(who) for name, who in COLUMNS.values() for c in [layer.compared().get(name)]]
            rows.append(f"{layer.site:12} " + " ".join(f"{'-' if v is None else format(v, '.3g'):>9}" for v in values))
        head = f"{self.model['name']} on {self.corpus['name']}: loss {self.loss['mean']}"
        tail = [f"predicted radius sqrt(d_model / 2 pi e): {c.predicted:.3g}" for c in [self.layers[0].radius] if c]
        if self.extraction is not None:
            tail.append(f"extractable: {self.extraction['extractable']}")
        if self.membership is not None:
            best = self.membership["best"]
            tail.append(f"membership, best score ({best}): {self.membership['scores'][best]}")
        return "\n".join([head, *rows, *tail, *self.notes])

"""The memory map of one model on one corpus: what every instrument measured, beside its nulls."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from memscape.folder import read_json
from memscape.theory.measure import Measured


class Compared(BaseModel):
    """One instrument at one site: the model beside its nulls."""

    model_config = ConfigDict(frozen=True)

    trained: Measured | None
    """The model as it is; None where the instrument cannot answer (see `reason`)."""
    untrained: Measured | None = None
    """The same configuration with fresh weights, on the same text."""
    gaussian: Measured | None = None
    """A cloud with the trained states' mean and deviation of every coordinate, and no other structure."""
    predicted: float | None = None
    """What the paper predicts."""
    reason: str | None = None
    """Why there is no answer."""


class Layer(BaseModel):
    """One place of the residual stream."""

    model_config = ConfigDict(frozen=True)

    site: str
    """`embedding`, `layer 5`, `final norm`."""
    depth: int
    """0 is the embedding."""
    radius: Compared
    """Half the median distance to the nearest state of another document."""
    energy: Compared
    """Median energy among the states of other documents, in units of the cloud's spread."""
    duplicates: Compared
    """Share of states with an exact copy in another document."""
    spread: float
    """Median squared distance of a state from the coordinate-wise median, distance²."""


class Profile(BaseModel):
    """What `probe` returns and writes to `profile.json`."""

    model_config = ConfigDict(frozen=True)

    model: dict[str, Any]
    corpus: dict[str, Any]
    setting: dict[str, Any]
    loss: dict[str, Any]
    layers: list[Layer]
    descent: dict[str, Any] | None
    energy_and_loss: Measured | None
    passage: dict[str, Any]
    landscape: dict[str, Any] | None

    @classmethod
    def read(cls, folder: Path | str) -> "Profile":
        """Read the profile of a probe folder."""
        return cls.model_validate(read_json(Path(folder) / "profile.json"))

    def to_frame(self):
        """Return a pandas DataFrame, a row a site and instrument."""
        import pandas as pd

        rows = []
        for layer in self.layers:
            for name in ("radius", "energy", "duplicates"):
                compared: Compared = getattr(layer, name)
                row: dict[str, Any] = {"site": layer.site, "depth": layer.depth, "instrument": name}
                for who in ("trained", "untrained", "gaussian"):
                    found: Measured | None = getattr(compared, who)
                    row[who] = None if found is None else found.value
                rows.append(row | {"predicted": compared.predicted})
        return pd.DataFrame(rows)

    def plot(self):
        """Return a Plotly figure of the radius at every depth, with nulls and prediction."""
        import plotly.graph_objects as go

        figure = go.Figure()
        depth = [layer.depth for layer in self.layers]
        for who in ("trained", "untrained", "gaussian"):
            values = [getattr(layer.radius, who) for layer in self.layers]
            figure.add_scatter(x=depth, y=[v and v.value for v in values], name=who, mode="lines+markers")
        figure.add_scatter(x=depth, y=[layer.radius.predicted for layer in self.layers], name="predicted")
        return figure.update_layout(xaxis_title="depth (layers)", yaxis_title="radius (distance)", yaxis_type="log")

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(float_format="%.4g", index=False)

    def __str__(self) -> str:
        head = f"{self.model['name']} on {self.corpus['name']}: loss {self.loss['mean']}"
        rows = [f"{'site':12} {'radius':>9} {'untrained':>9} {'gaussian':>9} {'predicted':>9} {'energy':>8}"]
        for layer in self.layers:
            cells = [_cell(layer.radius.trained), _cell(layer.radius.untrained), _cell(layer.radius.gaussian)]
            cells += [f"{layer.radius.predicted:9.3g}", f"{_cell(layer.energy.trained):>8}"]
            rows.append(f"{layer.site:12} " + " ".join(f"{c:>9}" for c in cells))
        return "\n".join([head, *rows])


def _cell(found: Measured | None) -> str:
    return "-" if found is None else f"{found.value:.3g}"

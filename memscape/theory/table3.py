"""The paper's table of three OpenELM models: which exponent N ∝ D^p does it support, and how well?

Niu et al. (arXiv 2405.08707, Table 3) read off D* = min{D : MSE(train, best validation) < σ²} for three sizes and find
N/D*² nearly constant. Three points, a coarse grid of D and a threshold chosen afterwards carry less than that.

>>> fit = refit()
>>> round(fit.exponent, 3), [round(p, 3) for p in fit.grid_range]
(1.9, [1.416, 2.429])
"""

import math

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize
from scipy.stats import t as student

from memscape.theory.balance import Geometry

GRID = (167.06e6, 190.38e6, 214.18e6, 237.98e6, 261.78e6, 285.57e6, 309.37e6, 333.17e6)
"""The eight data sizes of the paper, tokens."""

THRESHOLD = 0.04
"""σ², the paper's empirically selected threshold on the squared train-validation gap, nats²."""

SEQ_LEN, N_LAYERS = 1024, 8


class Model(BaseModel):
    """One row of Table 3."""

    model_config = ConfigDict(frozen=True)

    n_params: float
    """Attention and feed-forward weights."""
    d_model: int
    kv_heads: tuple[int, ...]
    """Key-value heads per layer, of 64 dimensions; query heads are twice as many."""
    mse: dict[float, float]
    """Data size in tokens -> the MSE printed for it, at the four sizes printed."""

    @property
    def geometry(self) -> Geometry:
        """The theory's constants for this model, A from its own N ≈ A l d_emb²."""
        const = self.n_params / (N_LAYERS * self.d_model**2)
        return Geometry(n_layers=N_LAYERS, seq_len=SEQ_LEN, d_model=self.d_model, params_const=const)


TABLE = (
    Model(
        n_params=39.95e6,
        d_model=954,
        kv_heads=(3, 3, 3, 3, 4, 4, 4, 5),
        mse=dict(zip(GRID[0:4], (0.07, 0.05, 0.04, 0.04), strict=True)),
    ),
    Model(
        n_params=60.26e6,
        d_model=1280,
        kv_heads=(3, 3, 3, 3, 4, 4, 4, 5),
        mse=dict(zip(GRID[2:6], (0.05, 0.04, 0.02, 0.02), strict=True)),
    ),
    Model(
        n_params=80.20e6,
        d_model=1440,
        kv_heads=(3, 3, 3, 4, 4, 4, 5, 5),
        mse=dict(zip(GRID[4:8], (0.05, 0.04, 0.02, 0.02), strict=True)),
    ),
)

PRINTED_D_STAR = (214.18e6, 261.78e6, 309.37e6)
"""The D* of the paper. The first has a printed MSE of 0.04, the value at which the other two rows reject."""


class Refit(BaseModel):
    """The exponent that three (N, D*) support."""

    model_config = ConfigDict(frozen=True)

    d_star: tuple[float, ...]
    """Tokens, in the order of the table."""
    ratios: tuple[float, ...]
    """N/D*², which the paper finds constant."""
    exponent: float
    """Least-squares slope of ln N on ln D*."""
    half_width: float
    """Half the 95 % interval of the slope, from its one degree of freedom."""
    pairs: tuple[float, ...]
    """Slopes between neighbouring rows."""
    grid_range: tuple[float, float]
    """Slopes that remain possible when each D* may lie anywhere in the grid cell below it."""

    def spread(self, power: float, table: tuple[Model, ...] = TABLE) -> float:
        """Return max/min of N/D*^power over the rows: 1 if N ∝ D^power exactly."""
        values = [m.n_params / d**power for m, d in zip(table, self.d_star, strict=True)]
        return max(values) / min(values)


def data_star(model: Model, threshold: float, inclusive: bool = False) -> float:
    """Return min{D : MSE(D) < threshold} in tokens over the printed sizes (≤ if inclusive); nan if none passes."""
    passing = (d for d, mse in model.mse.items() if mse < threshold or (inclusive and mse == threshold))
    return min(passing, default=math.nan)


def refit(d_star: tuple[float, ...] = PRINTED_D_STAR, table: tuple[Model, ...] = TABLE) -> Refit:
    """Return the exponent of N ∝ D*^p on the table, with what sampling noise and the grid of D leave open."""
    log_n = np.log([model.n_params for model in table])
    log_d = np.log(d_star)
    slope, half_width = _slope(log_d, log_n)
    cells = [(math.log(max((g for g in GRID if g < d), default=d)), math.log(d)) for d in d_star]
    ends = [
        sign * minimize(lambda x, sign=sign: sign * _slope(x, log_n)[0], np.mean(cells, axis=1), bounds=cells).fun
        for sign in (1, -1)
    ]
    return Refit(
        d_star=tuple(d_star),
        ratios=tuple(m.n_params / d**2 for m, d in zip(table, d_star, strict=True)),
        exponent=slope,
        half_width=half_width,
        pairs=tuple(float(p) for p in np.diff(log_n) / np.diff(log_d)),
        grid_range=(float(ends[0]), float(ends[1])),
    )


class Prefactor(BaseModel):
    """What the theory's own constants predict for one row: its upper bound N = O(D²), taken as an equality."""

    model_config = ConfigDict(frozen=True)

    n_patterns: float
    """d = sqrt(πn), sequences, n = T_max d_emb."""
    n_tokens: float
    """D = T_max d."""
    data_factor: float
    """D* over the predicted D."""
    ratio: float
    """Predicted N/D² = A l d_emb / (π T³)."""
    ratio_factor: float
    """Predicted over reported N/D*²."""


def prefactor(model: Model, d_star: float) -> Prefactor:
    """Return the prediction of Prop. 5 with its own prefactor, and by how much the reported D* misses it."""
    g = model.geometry
    n_patterns = math.sqrt(math.pi * g.seq_len * g.d_model)
    ratio = g.params_const * g.n_layers * g.d_model / (math.pi * g.seq_len**3)
    return Prefactor(
        n_patterns=n_patterns,
        n_tokens=g.seq_len * n_patterns,
        data_factor=d_star / (g.seq_len * n_patterns),
        ratio=ratio,
        ratio_factor=ratio / (model.n_params / d_star**2),
    )


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of y on x and half its 95 % interval."""
    dx = x - x.mean()
    slope = float(dx @ y / (dx @ dx))
    rest = y - y.mean() - slope * dx
    freedom = len(x) - 2
    if freedom < 1:
        return slope, math.inf
    deviation = math.sqrt(rest @ rest / freedom / (dx @ dx))
    return slope, float(np.asarray(student.ppf(0.975, freedom))) * deviation

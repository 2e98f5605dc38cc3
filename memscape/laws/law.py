"""The laws of loss and of memory: each a formula with its gradient, its source and its constants as published.

A law maps parameters θ (S, P) and the natural logs of its inputs (K, n) to the log of its prediction (S, n) and the
gradient (S, P, n), for S parameter vectors at once. Prefactors are carried as logs (`ln_A`), exponents as they are.

>>> round(LAWS["chinchilla"].at("hoffmann", n_params=70e9, n_tokens=1.4e12), 4)
1.9366
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from memscape.errors import TableError, unknown
from memscape.theory import published

Prediction = tuple[np.ndarray, np.ndarray]
"""ln(prediction) (S, n) and its gradient in θ (S, P, n)."""


@dataclass(frozen=True)
class Parameter:
    """A parameter's name, box and start values; `ln_A` is shown as A."""

    name: str
    lower: float
    upper: float
    starts: tuple[float, ...]
    unit: str = "1"

    @property
    def shown(self) -> str:
        """The name without its logarithm."""
        return self.name.removeprefix("ln_")


@dataclass(frozen=True)
class Law:
    """A formula with parameters."""

    name: str
    formula: str
    source: str
    value: Callable[[np.ndarray, np.ndarray], Prediction]
    target: str
    """The column it predicts: heldout_loss (nats/token) or memorised_bits."""
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """Constants under the names of the parameters, as printed by their sources."""

    @property
    def params(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of θ."""
        return tuple(p.name for p in self.parameters)

    @property
    def lower(self) -> np.ndarray:
        return np.array([p.lower for p in self.parameters])

    @property
    def upper(self) -> np.ndarray:
        return np.array([p.upper for p in self.parameters])

    def starts(self) -> np.ndarray:
        """Return every combination of the start values (S, P)."""
        return np.array(list(itertools.product(*(p.starts for p in self.parameters))))

    def constants(self, variant: str) -> np.ndarray:
        """Return the published constants as one θ (1, P)."""
        if variant not in self.published:
            raise unknown(f"constants of {self.name}", variant, self.published, TableError)
        return np.array([[self.published[variant][p] for p in self.params]])

    def at(self, variant: str, **inputs: float) -> float:
        """Return the published law's prediction at the given inputs."""
        x = np.log([[inputs[name]] for name in self.inputs])
        return float(np.exp(self.value(self.constants(variant), x)[0][0, 0]))


def log_sum(terms: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return ln Σ exp(terms) and each term's share of the sum."""
    top = functools.reduce(np.maximum, terms)
    parts = [np.exp(t - top) for t in terms]
    total = sum(parts)
    return top + np.log(total), [p / total for p in parts]


def chinchilla(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N^α + B/D^β; θ = ln A, ln B, ln E, α, β; x = ln N, ln D."""
    ln_a, ln_b, ln_e, alpha, beta = theta.T[:, :, None]
    f, (a, b, e) = log_sum([ln_a - alpha * x[0], ln_b - beta * x[1], ln_e])
    return f, np.stack([a, b, e, -a * x[0], -b * x[1]], 1)


def broken(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N^α + (B/D^β) (1 + D/D_b)^-κ, one smooth break in D; θ = ln A, ln B, ln E, α, β, κ, ln D_b."""
    ln_a, ln_b, ln_e, alpha, beta, kappa, ln_d = theta.T[:, :, None]
    over = x[1] - ln_d
    soft = np.logaddexp(0.0, over)
    f, (a, b, e) = log_sum([ln_a - alpha * x[0], ln_b - beta * x[1] - kappa * soft, ln_e])
    past = np.exp(over - soft)
    return f, np.stack([a, b, e, -a * x[0], -b * x[1], -b * soft, b * kappa * past], 1)


def kaplan(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D; θ = ln N_c, ln D_c, α_N, α_D; x = ln N, ln D."""
    ln_n, ln_d, alpha_n, alpha_d = theta.T[:, :, None]
    u, v = ln_n - x[0], ln_d - x[1]
    ratio = alpha_n / alpha_d
    s, (p, q) = log_sum([ratio * u, v])
    return alpha_d * s, np.stack([p * alpha_n, q * alpha_d, p * u, s - p * ratio * u], 1)


def kaplan_separate(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = max((N_c/N)^α_N, (D_c/D)^α_D): each limit's own law, the bottleneck decides; θ as in `kaplan`."""
    ln_n, ln_d, alpha_n, alpha_d = theta.T[:, :, None]
    u, v = ln_n - x[0], ln_d - x[1]
    f_n, f_d = alpha_n * u, alpha_d * v
    n = (f_n >= f_d).astype(float)
    return np.maximum(f_n, f_d), np.stack([n * alpha_n, (1 - n) * alpha_d, n * u, (1 - n) * v], 1)


def repeated(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N'^α + B/D'^α, repeated data; θ = ln A, ln B, ln E, α, ln R_D, ln R_N; x = ln N, ln U, ln D_seen.

    D' = U + U R_D (1 - e^(-(D/U-1)/R_D)); N' as in `limited`, N_opt = (A/B)^(1/α) U.
    """
    ln_a, ln_b, ln_e, alpha, ln_rd, ln_rn = theta.T[:, :, None]
    unique = np.minimum(x[1], x[2])
    data, by_rd, _ = _saturated(unique, x[2], ln_rd)
    ratio = (ln_a - ln_b) / alpha
    size, by_rn, by_optimal = _faded(ratio + unique, x[0], ln_rn)
    f, (a, b, e) = log_sum([ln_a - alpha * size, ln_b - alpha * data, ln_e])
    pull = -a * by_optimal  # the size term moves with A, B and α also through N_opt
    by_alpha = -a * size - b * data - pull * ratio
    return f, np.stack([a + pull, b - pull, e, by_alpha, -b * alpha * by_rd, -a * alpha * by_rn], 1)


def limited(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N'^α + B/D^β, surplus parameters fading; θ = ln A, ln B, ln E, α, β, ln R_N; x = ln N, ln D.

    N' = U + U R_N (1 - e^(-(N/U-1)/R_N)), U = min(N, N_opt), N_opt = (αA/βB)^(1/α) D^(β/α): what Chinchilla's law calls
    for at D tokens.
    """
    ln_a, ln_b, ln_e, alpha, beta, ln_rn = theta.T[:, :, None]
    optimal = (np.log(alpha / beta) + ln_a - ln_b + beta * x[1]) / alpha
    size, by_rn, by_optimal = _faded(optimal, x[0], ln_rn)
    f, (a, b, e) = log_sum([ln_a - alpha * size, ln_b - beta * x[1], ln_e])
    pull = -a * by_optimal
    by_alpha, by_beta = -a * size + pull * (1 / alpha - optimal), -b * x[1] + pull * (x[1] - 1 / beta)
    return f, np.stack([a + pull, b - pull, e, by_alpha, by_beta, -a * alpha * by_rn], 1)


def _faded(optimal: np.ndarray, ln_n: np.ndarray, ln_r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln N' and its slopes in ln R_N and in ln N_opt."""
    free = optimal < ln_n
    size, by_rn, by_base = _saturated(np.where(free, optimal, ln_n), ln_n, ln_r)
    return size, by_rn, np.where(free, by_base, 0.0)


def _saturated(base: np.ndarray, total: np.ndarray, ln_r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln of base (1 + r (1 - e^(-(total/base - 1)/r))), from logs, and its slopes in ln r and ln base."""
    r = np.exp(ln_r)
    times = np.exp(np.clip(total - base, 0.0, 700.0))
    q = (times - 1.0) / r
    decay = np.exp(-q)
    gain = 1.0 + r * (1.0 - decay)
    return base + np.log(gain), r * (1.0 - decay - q * decay) / gain, 1.0 - times * decay / gain


def capacity(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """M = (b^-p + (cN)^-p)^(-1/p) bits: all b data bits, until c bits per parameter; θ = ln c, ln p; x = ln N, ln b."""
    return _capacity(np.concatenate([theta[:, :1], np.ones((len(theta), 1)), theta[:, 1:]], 1), x, [0, 2])


def capacity_power(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """M = (b^-p + (cN^g)^-p)^(-1/p) bits: is capacity linear in N (g = 1)? θ = ln c, g, ln p."""
    return _capacity(theta, x, [0, 1, 2])


def _capacity(theta: np.ndarray, x: np.ndarray, keep: list[int]) -> Prediction:
    ln_c, g, ln_p = theta.T[:, :, None]
    p = np.exp(ln_p)
    plateau = ln_c + g * x[0]
    s, (full, held) = log_sum([-p * x[1], -p * plateau])
    f = -s / p
    return f, np.stack([held, held * x[0], -f + full * x[1] + held * plateau], 1)[:, keep]


_LOSS, _BITS = "heldout_loss", "memorised_bits"
_ND = ("n_params", "n_tokens")
_WIDE, _EXPONENTS = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0), (0.0, 0.5, 1.0, 1.5, 2.0)

_HOFFMANN_GRID = (
    Parameter("ln_A", -15, 60, _WIDE),
    Parameter("ln_B", -15, 60, _WIDE),
    Parameter("ln_E", -12, 3, (-1.0, -0.5, 0.0, 0.5, 1.0), "nats/token"),
    Parameter("alpha", 0, 4, _EXPONENTS),
    Parameter("beta", 0, 4, _EXPONENTS),
)
"""The 4,500 starts of Hoffmann et al."""

_A, _B = (Parameter(f"ln_{x}", -15, 60, (0.0, 5.0, 10.0)) for x in "AB")
_E = Parameter("ln_E", -12, 3, (-1.0, 0.0, 1.0), "nats/token")
_ALPHA, _BETA = (Parameter(x, 0.02, 4, (0.25, 0.5, 1.0)) for x in ("alpha", "beta"))
_R_N = Parameter("ln_R_N", -3, 7, (0.0, 1.7))

_KAPLAN_GRID = (
    Parameter("ln_N_c", 0, 120, (10.0, 15.0, 20.0, 30.0), "parameters"),
    Parameter("ln_D_c", 0, 120, (10.0, 15.0, 20.0, 30.0), "tokens"),
    Parameter("alpha_N", 1e-3, 3, (0.05, 0.1, 0.2, 0.4)),
    Parameter("alpha_D", 1e-3, 3, (0.05, 0.1, 0.2, 0.4)),
)
_P = Parameter("ln_p", -2, 4, (-0.5, 0.5, 1.5))


def _constants(law: published.ChinchillaLaw) -> dict[str, float]:
    logs = {f"ln_{x}": math.log(getattr(law, x)) for x in "ABE"}
    return {**logs, "alpha": law.alpha, "beta": law.beta}


def _kaplan(n_c: float, d_c: float, alpha_d: float) -> dict[str, float]:
    exponents = {"alpha_N": published.KAPLAN.alpha_N, "alpha_D": alpha_d}
    return {"ln_N_c": math.log(n_c), "ln_D_c": math.log(d_c), **exponents}


_JOINT = _kaplan(published.KAPLAN.N_c, published.KAPLAN.D_c, published.KAPLAN.alpha_D)
_REUSE = {"ln_R_D": math.log(published.REUSE_TOKENS), "ln_R_N": math.log(published.REUSE_PARAMS)}

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            "chinchilla", "L = E + A/N^α + B/D^β", "Hoffmann et al. 2022, arXiv 2203.15556, approach 3",
            chinchilla, _LOSS, _ND, _HOFFMANN_GRID,
            {"hoffmann": _constants(published.HOFFMANN), "besiroglu": _constants(published.BESIROGLU)},
        ),
        Law(
            "kaplan", "L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
            kaplan, _LOSS, _ND, _KAPLAN_GRID, {"kaplan": _JOINT},
        ),
        Law(
            "kaplan-separate", "L = max((N_c/N)^α_N, (D_c/D)^α_D)", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.1-2",
            kaplan_separate, _LOSS, _ND, _KAPLAN_GRID, {"kaplan": _kaplan(8.8e13, 5.4e13, 0.095)},
        ),
        Law(
            "repeated", "L = E + A/N'^α + B/D'^α", "Muennighoff et al. 2023, arXiv 2305.16264",
            repeated, _LOSS, (*_ND, "tokens_seen"),
            (_A, _B, _E, _ALPHA, Parameter("ln_R_D", -3, 7, (1.0, 2.7), "repetitions"), _R_N),
            {"muennighoff": {**_constants(published.MUENNIGHOFF), **_REUSE}},
        ),
        Law(
            "data-limited", "L = E + A/N'^α + B/D^β", "Chinchilla's law, N' of Muennighoff et al., arXiv 2305.16264",
            limited, _LOSS, _ND, (_A, _B, _E, _ALPHA, _BETA, _R_N),
        ),
        Law(
            "broken", "L = E + A/N^α + (B/D^β)(1 + D/D_b)^-κ", "Caballero et al. 2022, arXiv 2210.14891",
            broken, _LOSS, _ND,
            (
                _A, _B, _E, _ALPHA, Parameter("beta", 0, 4, (0.0, 0.5)), Parameter("kappa", -3, 4, (-0.3, 0.3, 0.6)),
                Parameter("ln_D_b", 0, 40, (9.0, 12.0, 15.0, 20.0), "tokens"),
            ),
        ),
        Law(
            "capacity", "M = (b^-p + (c N)^-p)^(-1/p)", "Morris et al. 2025, arXiv 2505.24832, saturating form",
            capacity, _BITS, ("n_params_total", "data_bits"),
            (Parameter("ln_c", -12, 8, (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0), "bits/parameter"), _P),
            {"morris": {"ln_c": math.log(published.CAPACITY["random text"]), "ln_p": 4.0}},
        ),
        Law(
            "capacity-power", "M = (b^-p + (c N^g)^-p)^(-1/p)", "as capacity, with a free exponent of N",
            capacity_power, _BITS, ("n_params_total", "data_bits"),
            (Parameter("ln_c", -40, 40, (-10.0, -5.0, -2.0, 0.0, 2.0)), Parameter("g", -1, 5, (0.5, 1.0, 2.0)), _P),
        ),
    )
}  # fmt: skip
"""Name -> law. The frontier and the paper's balance, laws of size, are in `frontier.py` and `compare.py`."""

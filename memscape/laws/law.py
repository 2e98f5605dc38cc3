"""The laws of loss and of memory: each a formula with its gradient, its source and its constants as published.

A law maps parameters θ (S, P) and the natural logs of its inputs (K, n) to the log of its prediction (S, n) and the
gradient (S, P, n), for S parameter vectors at once. Prefactors are carried as logs (`ln_A`), exponents as they are.

>>> round(LAWS["chinchilla"].at("hoffmann", n_params=70e9, n_tokens=1.4e12), 4)
1.9366
"""

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
class Law:
    """A formula with parameters."""

    name: str
    formula: str
    source: str
    target: str
    """The column it predicts: heldout_loss (nats/token) or memorised_bits."""
    inputs: tuple[str, ...]
    params: tuple[str, ...]
    value: Callable[[np.ndarray, np.ndarray], Prediction]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    grid: tuple[tuple[float, ...], ...]
    """Start values, one tuple a parameter; all combinations are tried."""
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """Constants under the names of `params`, as printed by their sources."""
    units: dict[str, str] = field(default_factory=dict)
    """Unit of a parameter as shown; `1` if not named."""

    def starts(self) -> np.ndarray:
        """Return every combination of the start values (S, P)."""
        return np.array(list(itertools.product(*self.grid)))

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
    top = np.maximum.reduce(np.broadcast_arrays(*terms))
    parts = [np.exp(t - top) for t in terms]
    total = sum(parts)
    return top + np.log(total), [p / total for p in parts]


def chinchilla(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N^α + B/D^β; θ = ln A, ln B, ln E, α, β; x = ln N, ln D."""
    ln_a, ln_b, ln_e, alpha, beta = theta.T[:, :, None]
    f, (a, b, e) = log_sum([ln_a - alpha * x[0], ln_b - beta * x[1], np.broadcast_to(ln_e, (len(theta), x.shape[-1]))])
    return f, np.stack([a, b, e, -a * x[0], -b * x[1]], 1)


def broken(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N^α + (B/D^β) (1 + D/D_b)^-κ; θ = ln A, ln B, ln E, α, β, κ, ln D_b: one smooth break in the data term."""
    ln_a, ln_b, ln_e, alpha, beta, kappa, ln_d = theta.T[:, :, None]
    over = x[1] - ln_d
    soft = np.logaddexp(0.0, over)
    f, (a, b, e) = log_sum(
        [ln_a - alpha * x[0], ln_b - beta * x[1] - kappa * soft, np.broadcast_to(ln_e, (len(theta), x.shape[-1]))]
    )
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
    """L = E + A/N'^α + B/D'^α with repeated data; θ = ln A, ln B, ln E, α, ln R_D, ln R_N; x = ln N, ln U, ln D_seen.

    D' = U + U R_D (1 - e^(-(D/U-1)/R_D)); N' likewise over U_N = min(N, (A/B)^(1/α) U), the size that U tokens call for.
    """
    ln_a, ln_b, ln_e, alpha, ln_rd, ln_rn = theta.T[:, :, None]
    unique = np.minimum(x[1], x[2])
    data, by_rd, _ = _saturated(unique, x[2], np.exp(ln_rd))
    optimal = (ln_a - ln_b) / alpha + unique
    free = optimal < x[0]
    size, by_rn, by_un = _saturated(np.where(free, optimal, x[0]), x[0], np.exp(ln_rn))
    by_un = np.where(free, by_un, 0.0)
    f, (a, b, e) = log_sum([ln_a - alpha * size, ln_b - alpha * data, np.broadcast_to(ln_e, (len(theta), x.shape[-1]))])
    # the size term moves with A, B and α also through U_N
    pull = -a * by_un
    return f, np.stack(
        [
            a + pull,
            b - pull,
            e,
            -a * size - b * data - pull * (ln_a - ln_b) / alpha,
            -b * alpha * by_rd,
            -a * alpha * by_rn,
        ],
        1,
    )


def limited(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N'^α + B/D^β with surplus parameters fading; θ = ln A, ln B, ln E, α, β, ln R_N; x = ln N, ln D.

    N' = U_N + U_N R_N (1 - e^(-(N/U_N-1)/R_N)), U_N = min(N, N_opt(D)), N_opt = (αA/βB)^(1/α) D^(β/α): what Chinchilla's
    law calls for at D tokens.
    """
    ln_a, ln_b, ln_e, alpha, beta, ln_rn = theta.T[:, :, None]
    optimal = (np.log(alpha / beta) + ln_a - ln_b + beta * x[1]) / alpha
    free = optimal < x[0]
    size, by_rn, by_un = _saturated(np.where(free, optimal, x[0]), x[0], np.exp(ln_rn))
    by_un = np.where(free, by_un, 0.0)
    f, (a, b, e) = log_sum([ln_a - alpha * size, ln_b - beta * x[1], np.broadcast_to(ln_e, (len(theta), x.shape[-1]))])
    pull = -a * by_un
    return f, np.stack(
        [
            a + pull,
            b - pull,
            e,
            -a * size + pull * (1 / alpha - optimal),
            -b * x[1] + pull * (x[1] - 1 / beta),
            -a * alpha * by_rn,
        ],
        1,
    )


def _saturated(base: np.ndarray, total: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln of base (1 + r (1 - e^(-(total/base - 1)/r))), from logs, and its slopes in ln r and ln base."""
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


_E, _EXPONENT = (-1.0, -0.5, 0.0, 0.5, 1.0), (0.0, 0.5, 1.0, 1.5, 2.0)
_LN = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
_FREE, _PRE = (0.0, 4.0), (-15.0, 60.0)
_LOSS = "heldout_loss"


def _boxes(*boxes: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    return {"lower": tuple(b[0] for b in boxes), "upper": tuple(b[1] for b in boxes)}


def _chinchilla(law: published.ChinchillaLaw) -> dict[str, float]:
    return {
        "ln_A": math.log(law.A),
        "ln_B": math.log(law.B),
        "ln_E": math.log(law.E),
        "alpha": law.alpha,
        "beta": law.beta,
    }


_KAPLAN = {
    "ln_N_c": math.log(published.KAPLAN.N_c), "ln_D_c": math.log(published.KAPLAN.D_c),
    "alpha_N": published.KAPLAN.alpha_N, "alpha_D": published.KAPLAN.alpha_D,
}  # fmt: skip

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            "chinchilla", "L = E + A/N^α + B/D^β", "Hoffmann et al. 2022, arXiv 2203.15556, approach 3", _LOSS,
            ("n_params", "n_tokens"), ("ln_A", "ln_B", "ln_E", "alpha", "beta"), chinchilla,
            **_boxes(_PRE, _PRE, (-12.0, 3.0), _FREE, _FREE), grid=(_LN, _LN, _E, _EXPONENT, _EXPONENT),
            published={"hoffmann": _chinchilla(published.HOFFMANN), "besiroglu": _chinchilla(published.BESIROGLU)},
            units={"E": "nats/token"},
        ),
        Law(
            "kaplan", "L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5", _LOSS,
            ("n_params", "n_tokens"), ("ln_N_c", "ln_D_c", "alpha_N", "alpha_D"), kaplan,
            **_boxes((0.0, 120.0), (0.0, 120.0), (1e-3, 3.0), (1e-3, 3.0)),
            grid=((10.0, 15.0, 20.0, 30.0), (10.0, 15.0, 20.0, 30.0), (0.05, 0.1, 0.2, 0.4), (0.05, 0.1, 0.2, 0.4)),
            published={"kaplan": _KAPLAN}, units={"N_c": "parameters", "D_c": "tokens"},
        ),
        Law(
            "kaplan-separate", "L = max((N_c/N)^α_N, (D_c/D)^α_D)", "Kaplan et al. 2020, arXiv 2001.08361, eqs. 1.1, 1.2", _LOSS,
            ("n_params", "n_tokens"), ("ln_N_c", "ln_D_c", "alpha_N", "alpha_D"), kaplan_separate,
            **_boxes((0.0, 120.0), (0.0, 120.0), (1e-3, 3.0), (1e-3, 3.0)),
            grid=((10.0, 15.0, 20.0, 30.0), (10.0, 15.0, 20.0, 30.0), (0.05, 0.1, 0.2, 0.4), (0.05, 0.1, 0.2, 0.4)),
            published={"kaplan": {**_KAPLAN, "ln_N_c": math.log(8.8e13), "ln_D_c": math.log(5.4e13), "alpha_D": 0.095}},
            units={"N_c": "parameters", "D_c": "tokens"},
        ),
        Law(
            "repeated", "L = E + A/N'^α + B/D'^α", "Muennighoff et al. 2023, arXiv 2305.16264", _LOSS,
            ("n_params", "n_tokens", "tokens_seen"), ("ln_A", "ln_B", "ln_E", "alpha", "ln_R_D", "ln_R_N"), repeated,
            **_boxes(_PRE, _PRE, (-12.0, 3.0), (0.02, 4.0), (-3.0, 7.0), (-3.0, 7.0)),
            grid=((0.0, 5.0, 10.0), (0.0, 5.0, 10.0), (-1.0, 0.0, 1.0), (0.25, 0.5, 1.0), (1.0, 2.7), (0.0, 1.7)),
            published={
                "muennighoff": {
                    **{k: v for k, v in _chinchilla(published.MUENNIGHOFF).items() if k != "beta"},
                    "ln_R_D": math.log(published.REUSE_TOKENS), "ln_R_N": math.log(published.REUSE_PARAMS),
                }
            },
            units={"E": "nats/token", "R_D": "repetitions"},
        ),
        Law(
            "data-limited", "L = E + A/N'^α + B/D^β", "Chinchilla's law with the N' of Muennighoff et al. 2023, arXiv 2305.16264", _LOSS,
            ("n_params", "n_tokens"), ("ln_A", "ln_B", "ln_E", "alpha", "beta", "ln_R_N"), limited,
            **_boxes(_PRE, _PRE, (-12.0, 3.0), (0.02, 4.0), (0.02, 4.0), (-3.0, 7.0)),
            grid=((0.0, 5.0, 10.0), (0.0, 5.0, 10.0), (-1.0, 0.0, 1.0), (0.25, 0.5, 1.0), (0.25, 0.5, 1.0), (0.0, 1.7)),
            units={"E": "nats/token"},
        ),
        Law(
            "broken", "L = E + A/N^α + (B/D^β)(1 + D/D_b)^-κ", "Caballero et al. 2022, arXiv 2210.14891, one break, in D", _LOSS,
            ("n_params", "n_tokens"), ("ln_A", "ln_B", "ln_E", "alpha", "beta", "kappa", "ln_D_b"), broken,
            **_boxes(_PRE, _PRE, (-12.0, 3.0), _FREE, _FREE, (-3.0, 4.0), (0.0, 40.0)),
            grid=((0.0, 5.0, 10.0), (0.0, 5.0, 10.0), (-1.0, 0.0, 1.0), (0.25, 0.5, 1.0), (0.0, 0.5), (-0.3, 0.3, 0.6), (9.0, 12.0, 15.0, 20.0)),
            units={"E": "nats/token", "D_b": "tokens"},
        ),
        Law(
            "capacity", "M = (b^-p + (c N)^-p)^(-1/p)", "saturating form of Morris et al. 2025, arXiv 2505.24832; linear in N", "memorised_bits",
            ("n_params_total", "data_bits"), ("ln_c", "ln_p"), capacity, **_boxes((-12.0, 8.0), (-2.0, 4.0)),
            grid=((-4.0, -2.0, -1.0, 0.0, 1.0, 2.0), (-0.5, 0.0, 0.7, 1.5)),
            published={"morris": {"ln_c": math.log(published.CAPACITY["random text"]), "ln_p": 4.0}},
            units={"c": "bits/parameter"},
        ),
        Law(
            "capacity-power", "M = (b^-p + (c N^g)^-p)^(-1/p)", "as capacity, with a free exponent of N", "memorised_bits",
            ("n_params_total", "data_bits"), ("ln_c", "g", "ln_p"), capacity_power,
            **_boxes((-40.0, 40.0), (-1.0, 5.0), (-2.0, 4.0)),
            grid=((-10.0, -5.0, -2.0, 0.0, 2.0), (0.5, 1.0, 1.5, 2.0), (-0.5, 0.5, 1.5)),
        ),
    )
}  # fmt: skip
"""Name -> law. `frontier` and the paper's balance are laws of size, in `frontier.py`."""

"""The laws of loss and of memory: each a formula with its source, constants as published, and gradient.

A law maps parameters θ (S, P) and the natural logs of its inputs (K, n) to the log of its prediction (S, n) and the
gradient (S, P, n), for S parameter vectors at once. Prefactors are carried as logs (`ln_A`), exponents as they are.

>>> round(LAWS["chinchilla"].at("hoffmann", n_params=70e9, n_tokens=1.4e12), 4)
1.9366
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memscape.errors import TableError, unknown
from memscape.theory import published

Prediction = tuple[np.ndarray, np.ndarray]
"""ln(prediction) (S, n) and its gradient in θ (S, P, n)."""

LOSS, BITS = "heldout_loss", "memorised_bits"
"""What laws predict: nats/token, and bits."""

ND = ("n_params", "n_tokens")


@dataclass(frozen=True)
class Parameter:
    """A parameter's name, box and start values; `ln_A` is shown as A."""

    name: str
    lower: float
    upper: float
    starts: tuple[float, ...]
    unit: str = "1"
    shape: bool = False
    """Says only how sharply a curve bends: where sharp data leave it open, the rest of the law stands."""

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
    """The column it predicts."""
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    published: dict[str, dict[str, float]]
    """Constants under the names of the parameters, as printed by their sources."""

    @property
    def lower(self) -> np.ndarray:
        return np.array([p.lower for p in self.parameters])

    @property
    def upper(self) -> np.ndarray:
        return np.array([p.upper for p in self.parameters])

    def starts(self) -> np.ndarray:
        """Return every combination of the start values (S, P)."""
        return np.array(list(itertools.product(*(p.starts for p in self.parameters))), dtype=float)

    def constants(self, variant: str) -> np.ndarray:
        """Return the published constants as one θ (1, P)."""
        if variant not in self.published:
            raise unknown(f"constants of {self.name}", variant, self.published, TableError)
        return np.array([[self.published[variant][p.name] for p in self.parameters]])

    def at(self, variant: str, **inputs: float) -> float:
        """Return the published law's prediction at the given inputs."""
        x = np.log([[inputs[name]] for name in self.inputs])
        return float(np.exp(self.value(self.constants(variant), x)[0][0, 0]))


LAWS: dict[str, Law] = {}
"""Name -> law. The frontier and the paper's balance, laws of size, are in `frontier.py` and `compare.py`."""


def law(name: str, source: str, *parameters: Parameter, target: str = LOSS, inputs: tuple[str, ...] = ND, **published):
    """Enter a function into `LAWS`; the first line of its docstring is the formula."""

    def enter(value: Callable[[np.ndarray, np.ndarray], Prediction]):
        formula = (value.__doc__ or "").partition("\n")[0].rstrip(".")
        LAWS[name] = Law(name, formula, source, value, target, inputs, parameters, published)
        return value

    return enter


def log_sum(*terms: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return ln Σ exp(terms) and each term's share of the sum."""
    top = functools.reduce(np.maximum, terms)
    parts = [np.exp(t - top) for t in terms]
    total = sum(parts)
    return top + np.log(total), [p / total for p in parts]


def _logs(**constants: float) -> dict[str, float]:
    """Return constants under the names of parameters: prefactors, which have capitals, by their logs."""
    return {f"ln_{k}" if k[0].isupper() else k: math.log(v) if k[0].isupper() else v for k, v in constants.items()}


def _plain(p: published.ChinchillaLaw) -> dict[str, float]:
    return _logs(A=p.A, B=p.B, E=p.E, alpha=p.alpha, beta=p.beta)


WIDE, EXPONENTS = (0, 5, 10, 15, 20, 25), (0, 0.5, 1, 1.5, 2)
A, B = (Parameter(name, -15, 60, (0, 5, 10)) for name in ("ln_A", "ln_B"))
E = Parameter("ln_E", -12, 3, (-1, 0, 1), "nats/token")
ALPHA = Parameter("alpha", 0.02, 4, (0.25, 0.5, 1))


@law(
    "chinchilla", "Hoffmann et al. 2022, arXiv 2203.15556, approach 3",
    Parameter("ln_A", -15, 60, WIDE), Parameter("ln_B", -15, 60, WIDE),
    Parameter("ln_E", -12, 3, (-1, -0.5, 0, 0.5, 1), "nats/token"),
    Parameter("alpha", 0, 4, EXPONENTS), Parameter("beta", 0, 4, EXPONENTS),
    hoffmann=_plain(published.HOFFMANN), besiroglu=_plain(published.BESIROGLU),
)  # fmt: skip
def chinchilla(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N^α + B/D^β.

    The start values are the 4,500 of the source.
    """
    ln_a, ln_b, ln_e, alpha, beta = theta.T[:, :, None]
    f, (a, b, e) = log_sum(ln_a - alpha * x[0], ln_b - beta * x[1], ln_e)
    return f, np.stack([a, b, e, -a * x[0], -b * x[1]], 1)


@law(
    "broken", "Caballero et al. 2022, arXiv 2210.14891", A, B, E, ALPHA,
    Parameter("beta", 0, 4, (0, 0.5)), Parameter("kappa", -3, 4, (-0.3, 0.3, 0.6)),
    Parameter("ln_D_b", 0, 40, (9, 12, 15, 20), "tokens"),
)  # fmt: skip
def broken(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N^α + (B/D^β)(1 + D/D_b)^-κ.

    One smooth break in D, after which the data term falls with β + κ.
    """
    ln_a, ln_b, ln_e, alpha, beta, kappa, ln_d = theta.T[:, :, None]
    over = x[1] - ln_d
    soft = np.logaddexp(0.0, over)
    f, (a, b, e) = log_sum(ln_a - alpha * x[0], ln_b - beta * x[1] - kappa * soft, ln_e)
    return f, np.stack([a, b, e, -a * x[0], -b * x[1], -b * soft, b * kappa * np.exp(over - soft)], 1)


KAPLAN = (
    Parameter("ln_N_c", 0, 120, (10, 15, 20, 30), "parameters"),
    Parameter("ln_D_c", 0, 120, (10, 15, 20, 30), "tokens"),
    Parameter("alpha_N", 1e-3, 3, (0.05, 0.1, 0.2, 0.4)),
    Parameter("alpha_D", 1e-3, 3, (0.05, 0.1, 0.2, 0.4)),
)


@law(
    "kaplan", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5", *KAPLAN,
    kaplan=_logs(N_c=6.4e13, D_c=1.8e13, alpha_N=0.076, alpha_D=0.103),
)  # fmt: skip
def kaplan(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D."""
    ln_n, ln_d, alpha_n, alpha_d = theta.T[:, :, None]
    u, v, ratio = ln_n - x[0], ln_d - x[1], alpha_n / alpha_d
    s, (p, q) = log_sum(ratio * u, v)
    return alpha_d * s, np.stack([p * alpha_n, q * alpha_d, p * u, s - p * ratio * u], 1)


@law(
    "kaplan-separate", "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.1-2", *KAPLAN,
    kaplan=_logs(N_c=8.8e13, D_c=5.4e13, alpha_N=0.076, alpha_D=0.095),
)  # fmt: skip
def kaplan_separate(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = max((N_c/N)^α_N, (D_c/D)^α_D).

    Each limit's own law: the bottleneck decides.
    """
    ln_n, ln_d, alpha_n, alpha_d = theta.T[:, :, None]
    u, v = ln_n - x[0], ln_d - x[1]
    n = (alpha_n * u >= alpha_d * v).astype(float)
    gradient = [n * alpha_n, (1 - n) * alpha_d, n * u, (1 - n) * v]
    return np.maximum(alpha_n * u, alpha_d * v), np.stack(gradient, 1)


@law(
    "repeated", "Muennighoff et al. 2023, arXiv 2305.16264", A, B, E, ALPHA,
    Parameter("ln_R_D", -3, 7, (1, 2.7), "repetitions"), Parameter("ln_R_N", -3, 7, (0, 1.7)),
    inputs=(*ND, "tokens_seen"),
    muennighoff=_plain(published.MUENNIGHOFF) | _logs(R_D=published.REUSE_TOKENS, R_N=published.REUSE_PARAMS),
)  # fmt: skip
def repeated(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """L = E + A/N'^α + B/D'^α.

    D' = U + U R_D (1 - e^(-(D/U - 1)/R_D)) for U unique of D seen tokens: repetitions wear out. N' is the same of N,
    with R_N and U_N = min(N, N_opt), N_opt = (A/B)^(1/α) U: parameters beyond what the data call for fade.
    """
    ln_a, ln_b, ln_e, alpha, ln_rd, ln_rn = theta.T[:, :, None]
    unique = np.minimum(x[1], x[2])
    data, by_rd, _ = _saturated(unique, x[2], ln_rd)
    ratio = (ln_a - ln_b) / alpha
    surplus = ratio + unique < x[0]
    size, by_rn, by_optimal = _saturated(np.where(surplus, ratio + unique, x[0]), x[0], ln_rn)
    f, (a, b, e) = log_sum(ln_a - alpha * size, ln_b - alpha * data, ln_e)
    pull = -a * np.where(surplus, by_optimal, 0.0)  # the size term moves with A, B and α also through N_opt
    by_alpha = -a * size - b * data - pull * ratio
    return f, np.stack([a + pull, b - pull, e, by_alpha, -b * alpha * by_rd, -a * alpha * by_rn], 1)


def _saturated(base: np.ndarray, total: np.ndarray, ln_r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln of base (1 + r (1 - e^(-(total/base - 1)/r))), from logs, and its slopes in ln r and ln base."""
    r = np.exp(ln_r)
    times = np.exp(np.clip(total - base, 0.0, 700.0))
    q = (times - 1.0) / r
    decay = np.exp(-q)
    gain = 1.0 + r * (1.0 - decay)
    return base + np.log(gain), r * (1.0 - decay - q * decay) / gain, 1.0 - times * decay / gain


P = Parameter("ln_p", -2, 4, (-0.5, 0.5, 1.5), shape=True)
BITS_OF = {"target": BITS, "inputs": ("n_params_total", "data_bits")}


@law(
    "capacity", "Morris et al. 2025, arXiv 2505.24832, saturating form",
    Parameter("ln_c", -12, 8, (-4, -2, -1, 0, 1, 2), "bits/parameter"), P, **BITS_OF,
    morris={"ln_c": math.log(published.CAPACITY["random text"]), "ln_p": 4.0},
)  # fmt: skip
def capacity(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """M = (b^-p + (c N)^-p)^(-1/p).

    All b bits of the data are held, until c bits per parameter; p is how sharply it bends.
    """
    f, gradient = capacity_power(np.insert(theta, 1, 1.0, axis=1), x)
    return f, gradient[:, [0, 2]]


@law(
    "capacity-power", "as capacity, with a free exponent of N",
    Parameter("ln_c", -40, 40, (-10, -5, -2, 0, 2)), Parameter("g", -1, 5, (0.5, 1, 2)), P, **BITS_OF,
)  # fmt: skip
def capacity_power(theta: np.ndarray, x: np.ndarray) -> Prediction:
    """M = (b^-p + (c N^g)^-p)^(-1/p).

    Is capacity linear in N, g = 1?
    """
    ln_c, g, ln_p = theta.T[:, :, None]
    p, plateau = np.exp(ln_p), ln_c + g * x[0]
    s, (full, held) = log_sum(-p * x[1], -p * plateau)
    return -s / p, np.stack([held, held * x[0], s / p + full * x[1] + held * plateau], 1)

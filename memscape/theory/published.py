"""Published laws of model and data size: what do others say N should be at D, with which constants, from where?

Losses in nats/token; N without embeddings for Kaplan et al. Relations between N and D differ in kind (generalisation,
compute, storage): `Law.relation` says which, `Law.exponent` is p in N ∝ D^p.

>>> round(BESIROGLU.optimum(5.76e23).tokens_per_param, 2)
18.39
"""

import math

from pydantic import BaseModel, ConfigDict


class Law(BaseModel):
    """One published relation between model size and data size."""

    model_config = ConfigDict(frozen=True)

    name: str
    formula: str
    relation: str
    """What ties N to D: `fixed compute`, `storage`, `equal losses`, ..."""
    exponent: float
    """p in N ∝ D^p."""
    source: str


class Optimum(BaseModel):
    """The size and data that a law prefers at one compute budget."""

    model_config = ConfigDict(frozen=True)

    n_params: float
    n_tokens: float

    @property
    def tokens_per_param(self) -> float:
        """D/N."""
        return self.n_tokens / self.n_params


class ChinchillaLaw(BaseModel):
    """L(N, D) = E + A/N^α + B/D^β in nats/token, with one set of published constants."""

    model_config = ConfigDict(frozen=True)

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    source: str

    def loss(self, n_params: float, n_tokens: float) -> float:
        """Return the expected loss in nats/token."""
        return self.E + self.A / n_params**self.alpha + self.B / n_tokens**self.beta

    @property
    def ratio(self) -> float:
        """G = (αA / βB)^{1/(α+β)}, which sets N_opt = G (C/6)^{β/(α+β)}."""
        return (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))

    @property
    def exponent(self) -> float:
        """β/α, the p of N_opt ∝ D_opt^p."""
        return self.beta / self.alpha

    def optimum(self, flops: float) -> Optimum:
        """Return N_opt and D_opt = (C/6)/N_opt at compute C = 6ND."""
        n = self.ratio * (flops / 6) ** (self.beta / (self.alpha + self.beta))
        return Optimum(n_params=n, n_tokens=flops / 6 / n)

    def optimal_params(self, n_tokens: float) -> float:
        """Return N_opt at which `n_tokens` is D_opt: G^{(α+β)/α} D^{β/α}."""
        return self.ratio ** ((self.alpha + self.beta) / self.alpha) * n_tokens**self.exponent


HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28, source="Hoffmann et al. 2022, 2203.15556")
HOFFMANN_UNROUNDED = ChinchillaLaw(
    E=1.6934, A=406.4, B=410.7, alpha=0.3392, beta=0.2849, source="Hoffmann et al. 2022, 2203.15556, TeX source"
)
BESIROGLU = ChinchillaLaw(
    E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658, source="Besiroglu et al. 2024, 2404.10102"
)
MUENNIGHOFF = ChinchillaLaw(
    E=math.exp(0.6254804),
    A=math.exp(6.255414),
    B=math.exp(7.3049974),
    alpha=0.3526596,
    beta=0.3526596,
    source="Muennighoff et al. 2023, 2305.16264",
)

REUSE_TOKENS, REUSE_PARAMS = 15.387756, 5.309743
"""R*_D and R*_N of Muennighoff et al.: how fast repeated tokens, and surplus parameters, lose their worth."""


def effective(unique: float, used: float, reuse: float) -> float:
    """Return U + U R* (1 - exp(-R/R*)), R = used/U - 1: what `used` tokens or parameters are worth when U are new."""
    if used <= unique:
        return used
    return unique - unique * reuse * math.expm1(-(used / unique - 1) / reuse)


def repeated_loss(n_params: float, unique_tokens: float, tokens_seen: float, law: ChinchillaLaw = MUENNIGHOFF) -> float:
    """Return L(N', D') in nats/token for data seen more than once (2305.16264, eqs. 5 and 6).

    D' counts repetitions at their decaying worth; N' counts parameters beyond the N_opt of the unique tokens likewise.
    """
    params = effective(min(n_params, law.optimal_params(unique_tokens)), n_params, REUSE_PARAMS)
    return law.loss(params, effective(min(unique_tokens, tokens_seen), tokens_seen, REUSE_TOKENS))


class KaplanLaw(BaseModel):
    """Kaplan et al. 2020 (2001.08361): nats/token, N without embeddings. Their fit fails below some 2e7 tokens."""

    model_config = ConfigDict(frozen=True)

    alpha_N: float = 0.076
    alpha_D: float = 0.103
    N_c: float = 6.4e13
    D_c: float = 1.8e13

    def loss(self, n_params: float, n_tokens: float) -> float:
        """Return L = [(N_c/N)^{α_N/α_D} + D_c/D]^{α_D}, their eq. 1.5."""
        return ((self.N_c / n_params) ** (self.alpha_N / self.alpha_D) + self.D_c / n_tokens) ** self.alpha_D

    @staticmethod
    def no_overfit_tokens(n_params: float) -> float:
        """Return D ≳ 5e3 N^0.74, the data at which overfitting is small (their eq. 4.4)."""
        return 5e3 * n_params**0.74


KAPLAN = KaplanLaw()

CAPACITY = {"random text": 3.6, "random text, bf16": 3.51, "random text, fp32": 3.83, "facts": 2.0}
"""Bits per parameter: Morris et al. 2025 (2505.24832) on random text, Allen-Zhu & Li 2024 (2404.05405) on facts."""

_KAPLAN, _HOFFMANN = "Kaplan et al. 2020, 2001.08361", "Hoffmann et al. 2022, 2203.15556"

LAWS = (
    Law(
        name="Kaplan joint",
        formula="L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D",
        relation="equal terms",
        exponent=0.103 / 0.076,
        source=_KAPLAN,
    ),
    Law(
        name="Kaplan separate",
        formula="L(N) = (8.8e13/N)^0.076, L(D) = (5.4e13/D)^0.095",
        relation="equal losses",
        exponent=0.095 / 0.076,
        source=_KAPLAN,
    ),
    Law(
        name="Kaplan no-overfit",
        formula="D ≳ 5e3 N^0.74",
        relation="threshold on overfitting",
        exponent=1 / 0.74,
        source=_KAPLAN,
    ),
    Law(
        name="Kaplan compute-optimal",
        formula="N ∝ C^0.73, D ∝ C^0.27",
        relation="fixed compute",
        exponent=0.73 / 0.27,
        source=_KAPLAN,
    ),
    *(
        Law(
            name=name,
            formula="L = E + A/N^α + B/D^β, C = 6ND",
            relation="fixed compute",
            exponent=law.exponent,
            source=law.source,
        )
        for name, law in (
            ("Chinchilla", HOFFMANN),
            ("Chinchilla, unrounded", HOFFMANN_UNROUNDED),
            ("Chinchilla, refit", BESIROGLU),
            ("repeated data, one epoch", MUENNIGHOFF),
        )
    ),
    Law(
        name="capacity, facts",
        formula="N ≥ knowledge bits / 2",
        relation="storage",
        exponent=1.0,
        source="Allen-Zhu & Li 2024, 2404.05405",
    ),
    Law(
        name="capacity, random text",
        formula="N ≥ data bits / 3.6",
        relation="storage",
        exponent=1.0,
        source="Morris et al. 2025, 2505.24832",
    ),
)
"""Every competing law with its exponent; the paper's own is in `balance`, whose exponent depends on the reading."""

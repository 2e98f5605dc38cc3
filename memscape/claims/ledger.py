"""The paper as a list of claims: what is stated where, what is true instead, and the code that decides.

No claim carries a verdict: `evidence.status` derives it from what the check computes. Six claims are left to
experiments; `memscape reproduce NAME` writes the result that the audit then reads. Statements are those of version 2 of
Niu et al. (arXiv 2405.08707) unless another source is named.

>>> LEDGER["C3"].title
'Proposition 3'
"""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from memscape.claims import balance, capacity, energies, experiments, layers, loss, partition, retrieval
from memscape.claims.evidence import Evidence


class Claim(BaseModel):
    """One claim of the paper."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    as_stated: str
    """The claim as the paper has it."""
    corrected: str
    """What we found to be true instead, or what the claim needs."""
    check: Callable[..., Evidence] | None = None
    """Computes the evidence."""
    experiment: str | None = None
    """The experiment whose result adds evidence, or decides."""
    decided_by_experiment: bool = False
    """Whether only that experiment can decide; the check, if any, then adds what is known without it."""


def _decided(
    id: str, title: str, as_stated: str, corrected: str, check: Callable, experiment: str | None = None
) -> Claim:
    """A claim that its check decides."""
    return Claim(id=id, title=title, as_stated=as_stated, corrected=corrected, check=check, experiment=experiment)


def _open(id: str, title: str, as_stated: str, note: str, experiment: str, check: Callable | None = None) -> Claim:
    """A claim that only `experiment` decides."""
    claim = Claim(id=id, title=title, as_stated=as_stated, corrected=note, check=check, experiment=experiment)
    return claim.model_copy(update={"decided_by_experiment": True})


_CLAIMS = (
    _decided(
        "C1",
        "Proposition 1",
        "g - log d ≤ E ≤ g",
        "g - log(d)/β ≤ E_β ≤ g at any β; the right side is strict for d > 1",
        energies.nearest_bracket,
    ),
    _decided(
        "C2",
        "Proposition 2",
        "|E - (2 E_MCHN - log d)| ≤ Δ at β = 2",
        "one-sided at any β: 0 ≤ (2 E_MCHN - log(d)/β) - E_β ≤ Δ, E_MCHN at 2β",
        energies.mchn_bracket,
    ),
    _decided(
        "C3",
        "Proposition 3",
        "-Δ ≤ g - 2 E_MCHN ≤ Δ + log d",
        "0 ≤ 2 E_MCHN - g ≤ Δ + log(d)/β",
        energies.nearest_mchn_bracket,
    ),
    _decided(
        "C4",
        "Convexity",
        "the regularisation terms create a convex energy function",
        "no energy with two isolated minima is convex; two patterns δ apart make E_β non-convex iff δ > sqrt(2/β)",
        energies.convexity,
    ),
    _decided(
        "C5",
        "No regularisation term",
        "the distance energy E needs no regularisation term",
        "the term |x|² is inside it",
        energies.hidden_regulariser,
    ),
    _decided(
        "C6",
        "Attention as search",
        "attention is approximate nearest-neighbour search",
        "at inverse temperature 2β and with the key-norm bias -β|ρ|²; exact only as β grows without bound",
        energies.attention_search,
    ),
    _decided(
        "C7",
        "Retrieval",
        "E, as a smooth surrogate of g, retrieves the stored patterns",
        "it does where patterns are separated enough for β: the storage certificate",
        retrieval.retrieval,
    ),
    _decided(
        "C8",
        "E replaced by g",
        "with disjoint balls E may be replaced by g on Ω",
        "needs r_i ≤ δ_i/2 and β(δ² - 2rδ) well above log d",
        retrieval.replace_by_nearest,
    ),
    _open(
        "C9",
        "Assumption 1",
        "pre-training stores the training samples as patterns",
        "asks for bits per parameter and for the gap between trained and fresh text",
        "capacity",
        experiments.plateau_memory,
    ),
    _open(
        "C10",
        "Assumption 2",
        "held-out patterns lie in the stored set",
        "asks for training against held-out loss",
        "fractions",
    ),
    _open(
        "C11",
        "Assumption 3",
        "embedding makes the patterns well separated",
        "asks for separations against the radius used and against nulls",
        "correlation",
    ),
    _decided(
        "C12",
        "Equation 8",
        "min E_t - log l ≤ E_global < min E_t",
        "the right side is strict for l ≥ 2, an equality for l = 1",
        layers.layer_bracket,
    ),
    _decided(
        "C13",
        "Global energy",
        "E_global captures the layered architecture",
        "for layers with eq.-4 energies it is the energy of the union of their patterns, blind to the order of layers",
        layers.union_identity,
    ),
    _decided(
        "C14",
        "Majorization-minimization",
        "the layer steps of eq. 6 are majorization-minimization on E_global",
        "the surrogate must touch E_global: the mixture of all layers weighted by softmax(-β E_t) does",
        layers.majorization,
    ),
    _decided(
        "C15",
        "Layer energy",
        "E_t = exp(-g_t)/Z_t is an energy that retrieves patterns",
        "it is largest at the patterns; g_t itself, or eq. 4, is meant",
        layers.layer_density,
    ),
    _decided(
        "C16",
        "Equation 10",
        "E_global = E_t - log l + c with c constant in [0, log l) for one fixed t",
        "c depends on x and falls without limit towards patterns of other layers",
        layers.constant_offset,
    ),
    _decided(
        "C17",
        "Equations 12 and 13",
        "∫ exp(-|y|²) over a ball is 2π^{n/2} γ(n, r)/Γ(n/2)",
        "that is the integral of exp(-|y|); the squared one is π^{n/2} γ(n/2, r²)/Γ(n/2)",
        partition.printed_integral,
    ),
    _decided(
        "C18",
        "Equation 14",
        "d V e^{-r} ≤ Z ≤ d V",
        "the squared distance needs e^{-r²}; sharp: V e^{-r²}(1 + q) ≤ I ≤ V e^{-r²}/(1 - q), q = r²/(n/2 + 1)",
        partition.partition_bounds,
    ),
    _decided(
        "C19",
        "Ball volume",
        "V_n(sqrt(n / 2πe)) = O(1), of order one",
        "it falls as (πn)^{-1/2}",
        partition.ball_volume,
    ),
    _decided(
        "C20",
        "Proposition 4",
        "the cross-entropy is about ln Z + 1/Z, hence at least 1",
        "the formula mixes two definitions of E_t; either one, kept throughout, gives any real number",
        loss.printed_loss,
    ),
    _decided(
        "C21",
        "A loss of at least one",
        "the achievable cross-entropy is at least 1",
        "the floor of the training loss is the empirical entropy of the training set per token",
        loss.achievable_loss,
    ),
    _decided(
        "C22",
        "Chinchilla's E and Table 2",
        "E = 1.61 and the published losses of Table 2 corroborate the bound 1",
        "E is 1.69 in its source; per-token losses depend on the tokenizer and fall below 1 on characters",
        loss.table_two,
    ),
    _decided(
        "C23",
        "Proposition 5",
        "the optimal size is N = O(D²)",
        "a necessary upper bound for Z = 1 from a loose bound on Z; the exact root is N = O(log D)",
        balance.balance_optimum,
    ),
    _decided(
        "C24",
        "Width scaling",
        "N grows as D² when models are scaled in width",
        "the same argument gives D⁴ with the loose bound and log² D exactly",
        balance.width_scaling,
    ),
    _decided(
        "C25",
        "Table 3 and Proposition 5",
        "Table 3 corroborates Proposition 5",
        "with the theory's own prefactor the table is off by four orders of magnitude",
        balance.table_three,
    ),
    _open(
        "C26",
        "Radius",
        "the radius of GPT-2 activations is about sqrt(n / 2πe)",
        "Gaussian vectors of fixed deviation follow the same square-root law; n has changed its meaning",
        "radius",
        experiments.gaussian_null,
    ),
    _decided(
        "C27",
        "Question-Formation",
        "training losses near 1 on Question-Formation support Proposition 4",
        "1 is the entropy of the grammar per token; memorising the lines goes below",
        loss.question_formation,
        "question-formation",
    ),
    _open(
        "C28",
        "OpenELM",
        "N/D*² is constant over three OpenELM models, so N grows as D²",
        "three points and a coarse grid of D leave the exponent open",
        "openelm",
        experiments.table_three_exponent,
    ),
    _decided(
        "C29",
        "Table 1",
        "the dense memory of degree r holds Θ(n^r) patterns",
        "it holds Θ(n^{r-1})",
        capacity.capacities,
    ),
    _decided(
        "C30",
        "Remark 2",
        "z-loss and normalisation change the bound",
        "z-loss leaves the least cross-entropy where it was, if the output layer can shift its logits",
        loss.z_loss,
        "z-loss",
    ),
    _decided(
        "C31",
        "Parameters per layer",
        "N ≈ A l d_emb² with A ≈ 10 for GPT-2",
        "A = 12, as d_FF = 4 d_emb",
        balance.params_constant,
    ),
    _open(
        "C32",
        "NeuralDB",
        "knowledge editing by a gated table scales to 1e4 to 1e5 facts without side effects (arXiv 2507.18028)",
        "follows from none of the propositions; asks for a gate sweep, false fires and exact revert",
        "editing",
        experiments.gate_geometry,
    ),
)

LEDGER = {claim.id: claim for claim in _CLAIMS}
"""Claim id -> claim, C1 to C32."""

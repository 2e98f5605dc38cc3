"""What does a check compute, and which verdict follows from it?

A check returns `Evidence`: predicates it computed, and the figures behind them. `status` maps predicates to a word; no
claim and no check carries one. A claim that only an experiment decides brings `Trial`s instead, an interval each.

>>> status(Evidence(printed=False, amended=True, sentence="needs r ≤ δ/2"))
'holds with correction'
"""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, computed_field

from memscape.theory.measure import Measured

HOLDS, CORRECTED, NOT_IMPLIED, REFUTED = (
    "holds",
    "holds with correction",
    "not implied",
    "refuted by counterexample",
)
FAILS, UNDECIDED = "our correction fails", "undecided"
UNTESTED, SUPPORTED, CONTRADICTED, OPEN = (
    "empirical: untested",
    "empirical: supported",
    "empirical: contradicted",
    "empirical: undecided at this scale",
)


class Evidence(BaseModel):
    """Computed predicates: `printed` and perhaps the next two for a statement, the last two for an inference."""

    model_config = ConfigDict(frozen=True)

    printed: bool | None = None
    """The statement as printed holds in every case tried."""
    amended: bool | None = None
    """It holds in every case tried once the ledger's condition is added or its symbol read as the ledger says."""
    corrected: bool | None = None
    """Our own form of it holds in every case tried. False would refute memscape."""
    premises: bool | None = None
    """The exhibited model meets the premises of the inference."""
    conclusion: bool | None = None
    """The conclusion is true of the exhibited model."""
    sentence: str
    """The evidence in one sentence, with its figures."""
    figures: dict[str, float | int | str | list[float]] = {}
    """The numbers, by name."""


def status(evidence: Evidence) -> str:
    """Return the status word that the predicates amount to."""
    if evidence.corrected is False:
        return FAILS
    if evidence.premises is not None:
        return NOT_IMPLIED if evidence.premises and evidence.conclusion is False else UNDECIDED
    if evidence.printed is None:
        return UNDECIDED
    if evidence.printed:
        return HOLDS
    return CORRECTED if evidence.amended else REFUTED


class Trial(BaseModel):
    """One measured quantity beside the region in which the claim is true: how an experiment speaks to a claim."""

    model_config = ConfigDict(frozen=True)

    quantity: str
    """What was measured, in words: `exponent of N in D*`."""
    measured: Measured
    low: float | None = None
    """Lower end of the region in which the claim is true; None: none. Fixed in the recipe before the run."""
    high: float | None = None
    """Upper end; None: none."""
    sentence: str
    """The finding in one sentence, null and control included."""
    undecided: str | None = None
    """Why nothing may be concluded wherever the interval lies: too few sizes, training not finished."""

    @computed_field
    @property
    def outcome(self) -> str:
        """Supported if the whole interval lies in the region, contradicted if none of it does, else undecided."""
        if self.undecided is not None:
            return OPEN
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        below, above = self.measured.low, self.measured.high
        if below is None or above is None:
            return OPEN
        if above < low or below > high:
            return CONTRADICTED
        return SUPPORTED if low <= below and above <= high else OPEN


class ExperimentResult(BaseModel):
    """What `results/NAME/result.json` must hold for the audit; further fields are the experiment's own."""

    experiment: str
    scale: str
    """smoke, laptop, gpu or paper."""
    claims: dict[str, list[Trial]]
    """Claim id -> its trials, all of which the claim must pass."""


def experimental_status(trials: Sequence[Trial]) -> str:
    """Return the word for a claim that experiments decide: one contradiction suffices, support must be unanimous."""
    outcomes = {trial.outcome for trial in trials}
    if not outcomes:
        return UNTESTED
    if CONTRADICTED in outcomes:
        return CONTRADICTED
    return SUPPORTED if outcomes == {SUPPORTED} else OPEN

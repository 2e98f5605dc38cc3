"""What is an experiment? A question, criteria fixed before it runs, a plan for each scale, findings, and intervals.

Each file that bears an experiment's name makes one `Experiment` of these parts; `reproduce` carries it out.

>>> criterion = Criterion(name="exponent", quantity="exponent", sentence="N grows as D²", low=1.7, high=2.3)
>>> measured = Measured(value=1.1, unit="1", n=5, low=0.9, high=1.3, interval="95 % t interval over 5 sizes")
>>> criterion.trial(Finding(measured, "Five sizes.")).outcome
'empirical: contradicted'
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import linregress
from scipy.stats import t as student

from memscape.claims import Trial
from memscape.instruments import Profile, probe
from memscape.progress import Budget
from memscape.theory.measure import Measured
from memscape.training import Plan, ls

Scale = Literal["smoke", "laptop", "gpu", "paper"]
"""Seconds and minutes on two cores, one H100, and what the paper had, which is priced and not run."""

SETTLED = 0.03
"""A loss has settled if the last third of training moved it by no more than this, nats/token."""


class Criterion(BaseModel):
    """What must be measured for a statement to count as true: fixed in the recipe, written down before the run."""

    model_config = ConfigDict(frozen=True)

    name: str
    quantity: str
    """What is measured, in words."""
    sentence: str
    """What is true if the quantity lies in the region."""
    claim: str | None = None
    """The claim of the paper that this decides or adds evidence to; None: a question of our own."""
    low: float | None = None
    """Lower end of the region; None: none."""
    high: float | None = None
    """Upper end; None: none."""
    fewest: int = 3
    """With fewer independent units than this nothing is concluded."""
    widest: float | None = None
    """With an interval of a larger half-width nothing is concluded."""

    def trial(self, found: "Finding") -> Trial:
        """Return the finding beside the region."""
        m, reason = found.measured, found.undecided
        if m.n < self.fewest:
            reason = f"n = {m.n}, {self.fewest} needed"
        elif reason is None and self.widest and (m.low is None or m.high is None or m.high - m.low > 2 * self.widest):
            reason = f"the interval is wider than ±{self.widest:g}"
        told = found.sentence + (f" Undecided: {reason}." if reason else "")
        region = {"low": self.low, "high": self.high}
        return Trial(quantity=self.quantity, measured=m, sentence=told, undecided=reason, **region)


class Finding(NamedTuple):
    """One measured quantity, for the criterion of its name."""

    measured: Measured
    sentence: str
    """The finding in one sentence, null and control included."""
    undecided: str | None = None
    """Why nothing may be concluded from it, wherever its interval lies."""


class Setting(BaseModel):
    """What a plan is made for."""

    model_config = ConfigDict(frozen=True)

    scale: Scale
    seed: int = 0
    """Decides data, weights and order of all runs; another seed is an independent repetition."""
    corpus: str = "sample"
    """CORPUS of the experiments on text."""
    model: str | None = None
    """MODELs to look into, with commas, in place of the scale's own."""
    tokenizer: str = "gpt2"
    """GPT-2's tokenizer, where the paper's own is asked for: a Hub name or a folder."""

    def seeds(self, n: int) -> tuple[int, ...]:
        """Return `n` seeds that no other setting's seed has."""
        return tuple(range(100 * self.seed, 100 * self.seed + n))


def vocabulary(tokenizer: str) -> int:
    """Return the entries that a recipe's models have for a tokenizer, GPT-2's rounded up to a multiple of 64."""
    return {"bytes": 264, "bpe:4096": 4_096}.get(tokenizer, 50_304)


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper, or one open question."""

    name: str
    question: str
    criteria: tuple[Criterion, ...]
    minutes: dict[str, float]
    """Scale -> minutes: smoke and laptop on two cores, gpu on one H100."""
    plan: Callable[[Setting], Plan | None]
    """The runs of a scale; None if nothing is trained."""
    measure: Callable[["Work"], dict[str, Finding]]
    """From finished runs to a finding a criterion."""

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims of the paper that it speaks to."""
        return tuple(dict.fromkeys(c.claim for c in self.criteria if c.claim))

    def __str__(self) -> str:
        claims = f" [{', '.join(self.claims)}]" if self.claims else ""
        times = [f"{scale} {m:.0f} min" if m >= 1 else f"{scale} {60 * m:.0f} s" for scale, m in self.minutes.items()]
        return f"{self.name:<19}{self.question}{claims} ({', '.join(times)}; paper: priced)"


@dataclass(frozen=True)
class Work:
    """What `measure` works with: finished runs, and probes that continue where they stopped."""

    setting: Setting
    out: Path
    runs: tuple[dict[str, Any], ...]
    budget: Budget
    device: str

    def arm(self, name: str) -> list[dict[str, Any]]:
        """Return the runs whose run_id begins with `name-`; diverged ones are left out."""
        return [r for r in self.runs if r["run_id"].startswith(f"{name}-") and r["status"] != "diverged"]

    def unsettled(
        self, rows: Iterable[dict[str, Any]], loss: str = "fresh_loss", within: float = SETTLED
    ) -> str | None:
        """Return why `loss` of these runs says nothing yet of where it ends; None if it moved by `within` or less."""
        ids = ", ".join(f"'{row['run_id']}'" for row in rows)
        history = ls(
            self.out, f"select run_id, step, {loss} as loss from metrics where run_id in ({ids}) order by step"
        )
        ends = [group.loss.to_numpy()[-2:] for _, group in history.groupby("run_id")]
        moved = max((abs(float(end[-1] - end[0])) if len(end) > 1 else math.inf for end in ends), default=math.inf)
        return None if moved <= within else f"{loss} still moved by {moved:.2g} nats in the last third of training"

    def probe(self, model: str, *, name: str | None = None, corpus: Any = None, **options: Any) -> Profile:
        """Return the profile of a MODEL, or of the run of that id, kept in probe/<name>."""
        run = self.out / "runs" / model
        where = self.out / "probe" / (name or model).replace(":", "-").replace("/", "-")
        text = self.setting.corpus if corpus is None else corpus
        options = {"seed": self.setting.seed, "device": self.device, "budget": self.budget, **options}
        return probe(str(run) if run.is_dir() else model, text, where, **options)


def over(values: Iterable[float], unit: str, what: str = "seeds") -> Measured:
    """Return the mean of a few repetitions with its 95 % t interval; no interval for a single one, n = 0 for none.

    Seeds are too few to resample, and their range is no interval: Student's t is wide enough for two or three.
    """
    x = np.array([v for v in values if math.isfinite(v)], dtype=float)
    if len(x) < 2:
        return Measured(value=float(x[0]) if len(x) else 0.0, unit=unit, n=len(x))
    half = float(student.ppf(0.975, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return _measured(float(x.mean()), half, unit, len(x), what)


def slope(x: Sequence[float], y: Sequence[float], what: str = "sizes") -> Measured:
    """Return the least-squares slope of y on x with its 95 % t interval; no interval for fewer than three points."""
    fitted: Any = linregress(x, y)
    if len(x) < 3:
        return Measured(value=float(fitted.slope), unit="1", n=len(x))
    half = float(student.ppf(0.975, len(x) - 2)) * float(fitted.stderr)
    return _measured(float(fitted.slope), half, "1", len(x), what)


def _measured(value: float, half: float, unit: str, n: int, what: str) -> Measured:
    how = f"95 % t interval over {n} {what}"
    return Measured(value=value, unit=unit, n=n, low=value - half, high=value + half, interval=how)

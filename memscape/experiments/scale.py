"""Scale: what do small models say of one with 1e9 parameters, and how far can they be trusted?

The paper's models have 40M to 80M parameters; nothing of 1B and more was trained for it. The laws disagree there in
advance: at N = 1e9 the paper's ratio N / D² calls for 1.07e9 tokens, a line through its first model for 5.36e9, with
Kaplan's exponent for 2.32e9, and Kaplan's threshold for 2.29e10. Here a grid of small models is fitted, judged on
its largest size left out, and extrapolated with its interval; paper scale prices the run that would decide.
"""

import math

from memscape.errors import TableError
from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over
from memscape.laws import fit
from memscape.models import scaled
from memscape.theory import table3
from memscape.theory.measure import Measured
from memscape.training import Plan, RunConfig, recipes

BILLION = 1e9

TOKENS = 20e9
"""Tokens of the larger run: Chinchilla's twenty a parameter."""

CRITERIA = (
    Criterion(
        name="largest", quantity="ln(measured over predicted) held-out loss of the largest size, fitted without it",
        low=-0.05, high=0.05, sentence="The law of small models says the loss of a larger one to 5 %.",
    ),
    Criterion(
        name="interval", quantity="ln(upper over lower end) of the loss predicted at N = 1e9 and 2e10 tokens", high=0.2,
        fewest=8, sentence="Small models pin the loss of 1e9 parameters down to 20 %.",
    ),
    Criterion(
        name="balance", quantity="ln(N over 1e9) that small models call for where the paper's ratio says 1e9",
        low=-math.log(2), high=math.log(2), sentence="They agree with the paper's ratio to a factor of two.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return the grid of the recipe of that name; at paper scale the one run of a billion parameters."""
    if setting.scale == "smoke":
        return recipes.smoke(setting.corpus, seed=100 * setting.seed)
    if setting.scale == "laptop":
        return recipes.laptop(setting.corpus, seeds=setting.seeds(1), data_seed=setting.seed)
    if setting.scale == "gpu":
        return recipes.gpu(setting.corpus, seeds=setting.seeds(2), data_seed=setting.seed)
    model = scaled(2_048, 50_304, 1_024, n_layers=20)
    batch = 512
    run = RunConfig(
        run_id=f"main-d2048-s{setting.seed}", model=model, corpus=setting.corpus, tokenizer=setting.tokenizer,
        n_tokens=round(TOKENS), seed=setting.seed, steps=round(TOKENS / (batch * 1_024)), batch_size=batch,
    )  # fmt: skip
    return Plan.of([run], name="scale")


def measure(work: Work) -> dict[str, Finding]:
    """Return the error on the largest size, and what the fits say of a billion parameters."""
    rows = [row for row in work.runs if row["status"] != "diverged"]
    sizes = sorted({row["n_params"] for row in rows})
    errors, outcome = _left_out(rows, sizes)
    law, frontier = fit(rows, "chinchilla"), fit(rows, "frontier")
    width, told = _loss_at_a_billion(law)
    d_star = math.sqrt(BILLION / _ratio())
    where = {"n": frontier.n, "unit": "1", "value": 0.0}
    if frontier.params:
        found = frontier.predict(n_tokens=d_star)
        ends = {"value": found.value, "low": found.low, "high": found.high}
        logs = {name: None if end is None else math.log(max(end, 1.0) / BILLION) for name, end in ends.items()}
        where |= {**logs, "interval": found.interval, "n": found.n}
    else:
        where["n"] = min(frontier.n, 2)
    balance = Measured.model_validate(where)
    factor = BILLION / sizes[-1]
    missed = f"the law misses the held-out losses there by {errors.value:+.2%} on average." if errors.n else outcome
    return {
        "largest": Finding(
            errors,
            f"Fitted without the largest size of {sizes[-1]:,} parameters, {missed}",
        ),
        "interval": Finding(width, f"{told} That is {factor:,.0f} times the largest size trained."),
        "balance": Finding(
            balance,
            f"At {d_star:.3g} tokens, where the paper's ratio calls for 1e9 parameters, the runs call for "
            f"{BILLION * math.exp(balance.value):.2g}." if frontier.params else frontier.verdict,
        ),
    }  # fmt: skip


def _ratio() -> float:
    """N / D*² of the paper's first model."""
    return table3.TABLE[0].n_params / table3.PRINTED_D_STAR[0] ** 2


def _left_out(rows: list[dict], sizes: list[int]) -> tuple[Measured, str]:
    """Return ln(measured / predicted) over the data sizes of the largest size."""
    try:
        law = fit([row for row in rows if row["n_params"] < sizes[-1]], "chinchilla")
    except TableError as problem:
        return Measured(value=0.0, unit="1", n=0), str(problem)
    last = [row for row in rows if row["n_params"] == sizes[-1]]
    best: dict[int, float] = {}
    for row in last:
        best[row["n_tokens"]] = min(row["best_fresh_loss"], best.get(row["n_tokens"], math.inf))
    if not law.params:
        return Measured(value=0.0, unit="1", n=0), law.verdict
    errors = [math.log(loss / law.predict(n_params=sizes[-1], n_tokens=n).value) for n, loss in best.items()]
    return over(errors, "1", "data sizes"), ""


def _loss_at_a_billion(law) -> tuple[Measured, str]:
    if not law.params:
        return Measured(value=0.0, unit="1", n=0), law.verdict
    said = law.predict(n_params=BILLION, n_tokens=TOKENS)
    told = f"At N = 1e9 and {TOKENS:.0e} tokens the law says {said}, in this tokenizer and on this corpus."
    if said.low is None or said.high is None:
        return Measured(value=0.0, unit="1", n=said.n), told
    value = math.log(said.high / max(said.low, 1e-12))
    how = f"width of a {said.interval}"
    return Measured(value=value, unit="1", n=said.n, low=value, high=value, interval=how), told


EXPERIMENT = Experiment(
    name="scale",
    question="What do small models say of one with 1e9 parameters, and how surely?",
    criteria=CRITERIA,
    minutes={"smoke": 0.3, "laptop": 4, "gpu": 8},
    plan=plan,
    measure=measure,
)

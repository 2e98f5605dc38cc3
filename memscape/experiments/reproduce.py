"""`memscape reproduce NAME`: carry out one experiment of the paper, or one open question, and return its verdict.

    answer = reproduce("capacity", "runs/capacity", scale="laptop")
    print(answer)                                   # every criterion with its figure, interval, n and outcome

The folder holds criteria.json (written first; other criteria are refused), the sweep, probe/<model>/, table.csv,
result.json (which `memscape audit` reads), README.md and report.html. Killed or stopped, the same call continues.
"""

import importlib
import shlex
from pathlib import Path
from typing import get_args

from memscape.claims import ExperimentResult, Trial
from memscape.claims.evidence import experimental_status
from memscape.data import open_corpus
from memscape.errors import MemscapeError, PlanError, unknown
from memscape.experiments.experiment import Experiment, Finding, Scale, Setting, Work
from memscape.experiments.timing import machine, seconds, timed
from memscape.experiments.versions import versions
from memscape.folder import claim, write_json, write_whole, writing
from memscape.models.sizing import parameters
from memscape.pages import report
from memscape.progress import Budget, OutOfBudget, say
from memscape.training import Plan, Runs, sweep
from memscape.training.price import memory

NAMES = (
    "radius", "fractions", "question-formation", "openelm", "capacity",
    "correlation", "z-loss", "architecture", "landscape", "scale",
)  # fmt: skip
"""What can be reproduced; `question-formation` lies in question_formation.py."""

H100 = 2.05e14
"""FLOP/s of one H100 in the packed trainer at width 256 (docs/training.md): what plans are priced at that do not run
on this machine."""


class Reproduction(ExperimentResult):
    """What an experiment found: `result.json`."""

    question: str
    setting: Setting
    questions: dict[str, Trial]
    """Criterion -> its trial, where no claim of the paper is at stake."""
    command: str
    versions: dict[str, str]

    @property
    def trials(self) -> list[tuple[str, Trial]]:
        """Every trial with the claim it speaks to, or `-`."""
        of_claims = [(id, trial) for id, trials in self.claims.items() for trial in trials]
        return of_claims + [("-", trial) for trial in self.questions.values()]

    @property
    def verdict(self) -> dict[str, str]:
        """Claim, or criterion of our own -> supported, contradicted or undecided at this scale."""
        words = {id: experimental_status(trials) for id, trials in self.claims.items()}
        return {name: _word(w) for name, w in (words | {k: t.outcome for k, t in self.questions.items()}).items()}

    def __str__(self) -> str:
        lines = [f"{self.experiment}, {self.scale} scale, seed {self.setting.seed}: {self.question}"]
        for id, trial in self.trials:
            lines.append(
                f"{id:<4}{_word(trial.outcome):<25} {trial.quantity}: {trial.measured}; true in {_region(trial)}"
            )
            lines.append(f"    {trial.sentence}")
        return "\n".join([*lines, "; ".join(f"{name}: {word}" for name, word in self.verdict.items())])


def named(name: str) -> Experiment:
    """Return the experiment of that name; an unknown one lists the known."""
    if name not in NAMES:
        raise unknown("experiment", name, NAMES)
    return importlib.import_module(f"memscape.experiments.{name.replace('-', '_')}").EXPERIMENT


def reproduce(
    name: str,
    out: str | Path | None = None,
    *,
    scale: str = "laptop",
    seed: int = 0,
    corpus: str = "sample",
    model: str | None = None,
    tokenizer: str = "gpt2",
    engine: str = "local",
    device: str | None = None,
    budget: str | float | Budget | None = None,
) -> Reproduction:
    """Carry out an experiment in the folder `out` (runs/NAME-SCALE) and return its trials and verdict.

    Args:
        name: a name of `NAMES`.
        scale: smoke (seconds), laptop (minutes on two cores), gpu (one H100); paper is priced only (see `cost`).
        seed: another seed is an independent repetition, in another folder.
        corpus, model, tokenizer: see `Setting`.
        engine, device: as in `memscape.sweep`; what looks into models uses the GPU too unless `device` is cpu.
        budget: stop cleanly after this time (OutOfBudget); the same call continues.

    Raises:
        PlanError: unknown name or scale.
        FolderError: `out` was begun with other criteria or another setting, or cannot be written.
        CorpusError, ModelError: an input that cannot serve.
    """
    setting = _setting(scale, seed, corpus, model, tokenizer)
    if scale == "paper":
        raise PlanError("scale 'paper' is priced and not run; add --dry-run, or use --scale gpu.")
    this, budget = named(name), Budget.parse(budget)
    out = Path(f"runs/{name}-{scale}" if out is None else out)
    plan, text = this.plan(setting), open_corpus(corpus)
    if plan is not None:
        text.require(max((run.n_tokens for run in plan.runs if run.corpus == corpus), default=0))
    identity = {"experiment": name, **setting.model_dump(), "corpus_sha256": text.sha256, "criteria": this.criteria}
    with writing(out):
        claim(out / "criteria.json", identity)
        rows = ()
        if plan is not None:
            with timed(out, "train", device):
                rows = _trained(plan, out, engine, device, budget)
        budget.check("what looks into the models, and the verdict")
        with timed(out, "measure", device):
            findings = this.measure(Work(setting, out, rows, budget, _place(device)))
        time = f"{sum(seconds(out).values()) / 60:.1f} minutes on {machine(out)}"
        answer = _answer(this, setting, findings)
        if rows:
            frame = Runs.load(out).to_frame()
            write_whole(out / "table.csv", lambda part: frame.to_csv(part, index=False, float_format="%.6g"))
        write_whole(out / "README.md", lambda part: part.write_text(_page(answer, time), encoding="utf-8"))
        write_json(out / "result.json", answer)
        try:
            report(out)
        except MemscapeError as problem:  # the page is drawn from what stands by now
            say(f"{problem} The result is complete: {out / 'result.json'}.")
    return answer


def cost(name: str, *, scale: str = "laptop", seed: int = 0, corpus: str = "sample", device: str | None = None) -> str:
    """Return what an experiment will cost: its plan, then tokens, FLOPs, memory and time, here or in H100-hours."""
    setting = _setting(scale, seed, corpus)
    this = named(name)
    plan, lines = this.plan(setting), [str(this)]
    if plan is None:
        lines.append("nothing is trained at this scale")
    elif scale in ("smoke", "laptop"):
        lines += [str(plan), str(plan.price(device=device))]
    else:
        flops, most = sum(run.flops for run in plan.runs), max(parameters(run.model).total for run in plan.runs)
        room = max(memory(plan.members(pack), "cuda") for pack in plan.packs) / 2**30
        lines += [
            str(plan),
            f"models up to {most:,} parameters, packs up to {room:,.1f} GiB, {flops / H100 / 3600:,.3g} H100-hours",
        ]
    return "\n".join(lines)


def _setting(scale: str, seed: int, corpus: str, model: str | None = None, tokenizer: str = "gpt2") -> Setting:
    if scale not in get_args(Scale):
        raise unknown("scale", scale, get_args(Scale))
    fields = {"scale": scale, "seed": seed, "corpus": corpus, "model": model, "tokenizer": tokenizer}
    return Setting.model_validate(fields)


def _trained(plan: Plan, out: Path, engine: str, device: str | None, budget: Budget) -> tuple[dict, ...]:
    runs = sweep(plan, out, engine=engine, device=device, budget=budget)
    if not runs.complete:
        raise OutOfBudget(f"stopped as asked; left: {runs.left} of {runs.n_planned} runs, and the verdict.")
    return runs.rows


def _place(device: str | None) -> str:
    import torch

    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _answer(this: Experiment, setting: Setting, findings: dict[str, Finding]) -> Reproduction:
    claims: dict[str, list[Trial]] = {}
    own: dict[str, Trial] = {}
    for criterion in this.criteria:
        trial = criterion.trial(findings[criterion.name])
        if criterion.claim is None:
            own[criterion.name] = trial
        else:
            claims.setdefault(criterion.claim, []).append(trial)
    words = ["memscape", "reproduce", this.name]
    for option, value in setting.model_dump().items():
        if option == "scale" or value != Setting.model_fields[option].default:
            words += [f"--{option}", str(value)]
    return Reproduction(
        experiment=this.name, scale=setting.scale, claims=claims, question=this.question, setting=setting,
        questions=own, command=shlex.join(words), versions=versions(),
    )  # fmt: skip


BAR = "\\|"
"""A bar inside a cell of a Markdown table."""


def _page(answer: Reproduction, time: str) -> str:
    """The result as a page of text: question, verdict, a row a criterion, how to make it again."""
    rows = ["| claim | quantity | measured | true in | outcome |", "| --- | --- | --- | --- | --- |"]
    for id, trial in answer.trials:
        cells = (id, trial.quantity, str(trial.measured), _region(trial), _word(trial.outcome))
        rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    parts = [
        f"# {answer.experiment}, {answer.scale} scale, seed {answer.setting.seed}",
        answer.question,
        f"**{'; '.join(f'{name}: {word}' for name, word in answer.verdict.items())}.**",
        " ".join(trial.sentence for _, trial in answer.trials),
        "\n".join(rows),
        f"`{answer.command}`, {time}; "
        + ", ".join(f"{name} {number}" for name, number in answer.versions.items())
        + ".\n",
    ]
    return "\n\n".join(parts)


def _word(outcome: str) -> str:
    return outcome.removeprefix("empirical: ")


def _region(trial: Trial) -> str:
    low, high = (infinite if end is None else f"{end:g}" for end, infinite in ((trial.low, "-∞"), (trial.high, "∞")))
    return f"[{low}, {high}]"

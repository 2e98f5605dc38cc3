"""Does the paper hold? Every claim run as code, in one table: claim, verdict, evidence with its figures, seconds.

>>> audit(ids=["C15"])["C15"].status
'refuted by counterexample'
"""

import inspect
import shutil
import textwrap
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from memscape.claims.evidence import (
    CORRECTED,
    HOLDS,
    UNTESTED,
    Evidence,
    ExperimentResult,
    Trial,
    experimental_status,
    status,
)
from memscape.claims.ledger import LEDGER, Claim
from memscape.errors import FolderError, unknown
from memscape.folder import read_json, write_json
from memscape.progress import bar


class Verdict(BaseModel):
    """What the audit found on one claim."""

    model_config = ConfigDict(frozen=True)

    id: str
    claim: str
    as_stated: str
    corrected: str
    status: str
    """One of the ledger's status words."""
    verdict: str
    """The same for a reader, with the correction or the experiment it waits for."""
    evidence: str
    figures: dict[str, float | int | str | list[float]] = {}
    predicates: dict[str, bool] = {}
    trials: list[Trial] = []
    """What experiments measured, if any has been run."""


class Audit(BaseModel):
    """The verdicts, in the ledger's order. `print` shows the table; `claims` holds everything."""

    model_config = ConfigDict(frozen=True)

    claims: tuple[Verdict, ...]
    _seconds: dict[str, float] = PrivateAttr(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """Claim id -> seconds its check took."""
        return self._seconds

    def __getitem__(self, id: str) -> Verdict:
        """Return the verdict on one claim."""
        found = {verdict.id: verdict for verdict in self.claims}
        if id not in found:
            raise unknown("claim", id, found)
        return found[id]

    def counts(self) -> dict[str, int]:
        """Return how many claims have each status."""
        words = [verdict.status for verdict in self.claims]
        return {word: words.count(word) for word in dict.fromkeys(words)}

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in _rows(self))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{escape(_summary(self))}</p>"


def audit(
    out: Path | str | None = None,
    ids: Sequence[str] | None = None,
    results: Path | str | None = None,
    seed: int = 0,
) -> Audit:
    """Run the checks of all claims, or of `ids` only, and return the verdicts.

    `results` is the folder whose NAME/result.json experiments have written, by default one of that name. With `out`,
    audit.json and timing.json are written there. Seeds decide every random draw, so two runs agree.
    """
    chosen = [_known(id) for id in ids] if ids else list(LEDGER.values())
    if results is not None and not Path(results).is_dir():
        raise FolderError(f"{results} is no folder; expected one with NAME/result.json of experiments.")
    verdicts, seconds = [], {}
    with bar("checking the paper's claims", len(chosen), "claims") as progress:
        for claim in chosen:
            start = time.perf_counter()
            verdicts.append(judge(claim, Path(results or "results"), seed))
            seconds[claim.id] = time.perf_counter() - start
            progress.advance()
    answer = Audit(claims=tuple(verdicts))
    answer._seconds.update(seconds)
    if out is not None:
        write_json(Path(out) / "audit.json", answer)
        timing = Path(out) / "timing.json"
        earlier = read_json(timing) if timing.exists() else {}
        write_json(timing, {**earlier, "audit_seconds": seconds})
    return answer


def judge(claim: Claim, results: Path, seed: int = 0) -> Verdict:
    """Return the verdict on one claim from its check and, where there is one, its experiment's result."""
    found = None
    if claim.check is not None:
        found = claim.check(seed=seed) if "seed" in inspect.signature(claim.check).parameters else claim.check()
    told = _trials(claim, results)
    trials = [trial for _, trial in told]
    if claim.decided_by_experiment:
        word = experimental_status(trials)
        text = f"{word} (needs reproduce {claim.experiment})" if word == UNTESTED else word
    else:
        word = status(found or Evidence(sentence=""))
        text = f"{word}: {claim.corrected}" if word == CORRECTED else word
    sentences = [found.sentence] if found else []
    sentences += [f"{where}: {trial.sentence} {trial.quantity}: {trial.measured}." for where, trial in told]
    predicates = (
        found.model_dump(include={"printed", "amended", "corrected", "premises", "conclusion"}) if found else {}
    )
    return Verdict(
        id=claim.id,
        claim=claim.title,
        as_stated=claim.as_stated,
        corrected=claim.corrected,
        status=word,
        verdict=text,
        evidence=" ".join(sentences) or "No result yet.",
        figures=found.figures if found else {},
        predicates={name: value for name, value in predicates.items() if value is not None},
        trials=trials,
    )


_COLUMNS = ("id", "claim", "as stated", "verdict", "evidence", "s")


def table(answer: Audit, width: int | None = None) -> str:
    """Return the audit for a terminal of `width` columns (by default this one's): a claim a block, figures included."""
    width = max(60, width or shutil.get_terminal_size((100, 0)).columns)

    def field(name: str, text: str) -> str:
        indent = f"     {name:<10}"
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=" " * len(indent))

    room = width - 35 - 7
    blocks = [f"{'id':<5}{'claim':<30}{'verdict':<{room}}{'seconds':>7}"]
    for v in answer.claims:
        word = v.verdict if v.status == UNTESTED else v.status
        label = "note" if LEDGER[v.id].decided_by_experiment else "sharper" if v.status == HOLDS else "in truth"
        head = f"{v.id:<5}{v.claim:<30}{word:<{room}}{answer.seconds.get(v.id, 0):>7.1f}"
        lines = [field("stated", v.as_stated), field(label, v.corrected), field("evidence", v.evidence)]
        blocks.append("\n".join([head, *lines]))
    return "\n\n".join([*blocks, _summary(answer)])


def _rows(answer: Audit) -> list[tuple[str, ...]]:
    return [
        (v.id, v.claim, v.as_stated, v.verdict, v.evidence, f"{answer.seconds.get(v.id, 0):.1f}") for v in answer.claims
    ]


def _summary(answer: Audit) -> str:
    return f"{len(answer.claims)} claims: " + ", ".join(f"{n} {word}" for word, n in answer.counts().items()) + "."


def _known(id: str) -> Claim:
    if id.upper() not in LEDGER:
        raise unknown("claim", id, LEDGER)
    return LEDGER[id.upper()]


def _trials(claim: Claim, results: Path) -> list[tuple[str, Trial]]:
    """What experiments measured for the claim, and where, its own experiment first; nothing if none has been run."""
    own = results / (claim.experiment or "") / "result.json"
    found = []
    for path in sorted(results.glob("*/result.json"), key=lambda path: path != own):
        try:
            result = ExperimentResult.model_validate(read_json(path))
        except ValidationError as problem:
            raise FolderError(
                f"{path} is no experiment result ({problem.errors()[0]['msg']}); reproduce it again."
            ) from problem
        where = f"{result.experiment} at {result.scale} scale"
        found += [(where, trial) for trial in result.claims.get(claim.id, [])]
    return found

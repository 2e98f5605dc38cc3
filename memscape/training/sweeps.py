"""Carry out a plan: every run of it once, whatever happens in between.

    runs = sweep(recipes.laptop("book.txt"), "runs/book")

Repeating the call continues: finished runs are not trained again, begun packs go on from their checkpoints. A folder
belongs to the plan that began it.
"""

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import memscape.errors
from memscape.errors import FolderError, MemscapeError
from memscape.folder import claim, plain, read_json, write_json, writing
from memscape.progress import Bar, Budget, bar, say
from memscape.training import engines
from memscape.training.plan import Pack, Plan
from memscape.training.remote import Mirror, is_url, mirror_of
from memscape.training.runs import Runs
from memscape.training.tracking import log_run, tracker
from memscape.training.trainer import largest, prepare


def sweep(
    plan: Plan,
    out: str | Path,
    *,
    engine: str = "local",
    budget: str | float | Budget | None = None,
    device: str | None = None,
    track: str | None = None,
) -> Runs:
    """Train all runs of `plan` that the folder `out` does not hold yet, and return the table of finished runs.

    Args:
        plan: what to train.
        out: the result folder, made if need be; or an fsspec URL that every worker reaches (`s3://bucket/book`).
        engine: `local` (a worker a GPU, or a core), `ray` (a Ray cluster; pip install 'memscape[ray]').
        budget: stop cleanly after this time (`9m`, `90s`, seconds); `runs.left` says how many runs remain.
        track: also show runs in `trackio` or `wandb`.
        device: `cpu`, `cuda`, `cuda:1`; None: every GPU there is, else the CPU.

    Raises:
        PlanError: unknown engine or device, or a pack that cannot be trained.
        FolderError: `out` belongs to another plan, is written to by another process, or cannot be written.
        CorpusError: the corpus is missing or too short.
    """
    budget = Budget.parse(budget)
    run_engine = engines.named(engine)
    module = tracker(track) if track else None
    mirror = mirror_of(str(out)) if is_url(out) else None
    folder = mirror.folder if mirror else Path(out)
    with writing(folder):
        if mirror:
            mirror.pull("plan.json", "runs/*/*.json", "runs/*/*.parquet")
        plan = _claimed(plan, folder)
        if mirror:
            mirror.push("plan.json")
        for run in {_data(run): run for run in plan.runs}.values():
            prepare(run, folder, largest(plan, run))
        pending = [pack for pack in plan.packs if not _done(pack, folder)]
        if pending and not budget.spent:
            total = sum(run.tokens_seen for pack in pending for run in plan.members(pack))
            with bar(f"sweep {plan.name}", total, "tokens") as progress:
                sink = _Sweep(plan, folder, progress, mirror, module)
                run_engine(
                    str(out) if mirror else folder,
                    [pack.pack_id for pack in pending],
                    len(plan.packs),
                    device,
                    budget,
                    sink,
                )
            sink.close()
    runs = Runs.load(folder)
    if not runs.complete:
        say(runs.summary)
    return runs


class _Sweep:
    """Keeps the plan on disk true while engines work: splits packs that do not fit, remembers failures and times."""

    def __init__(self, plan: Plan, folder: Path, progress: Bar, mirror: Mirror | None, module: ModuleType | None):
        self.plan, self.folder, self.bar, self.mirror, self.module = plan, folder, progress, mirror, module
        self.lock, self.lost = threading.Lock(), {}

    def progress(self, tokens: int) -> None:
        with self.lock:
            self.bar.advance(tokens)

    def ended(self, pack_id: str, event: dict[str, Any]) -> list[str]:
        with self.lock:
            kind, pack = event["event"], self.plan.pack(pack_id)
            if kind == "finished":
                if self.mirror:
                    self.mirror.pull(*(f"runs/{run_id}/*" for run_id in pack.run_ids))
                if self.module:
                    for run_id in pack.run_ids:
                        log_run(self.module, self.plan.name, self.folder / "runs" / run_id)
            if kind == "refused":
                raise getattr(memscape.errors, event["kind"], MemscapeError)(event["reason"])
            if kind == "lost":
                self.lost[pack_id] = event["reason"]
            if kind != "memory":
                return []
            self.plan = self.plan.split(pack)
            write_json(self.folder / "plan.json", self.plan)
            if self.mirror:
                self.mirror.push("plan.json")
            halves = [p.pack_id for p in self.plan.packs if p.pack_id in (f"{pack_id}a", f"{pack_id}b")]
            say(f"pack {pack_id} does not fit ({event['reason']}); split into {' and '.join(halves)}.")
            return halves

    def close(self) -> None:
        """Raise if packs could not be trained; everything else is finished and kept."""
        if self.lost:
            which = "; ".join(f"{pack}: {why}" for pack, why in sorted(self.lost.items()))
            raise MemscapeError(
                f"{len(self.lost)} packs could not be trained ({which}); repeat the command to try again."
            )


def _claimed(plan: Plan, folder: Path) -> Plan:
    """Return the plan as the folder has it: written now, or found there with its packs perhaps split since."""
    path = folder / "plan.json"
    if not path.exists():
        claim(path, plan.model_dump(mode="json"))
        return plan
    found, wanted = read_json(path), plain(plan)
    if {**found, "packs": None} != {**wanted, "packs": None}:
        claim(path, wanted)  # raises, and says what differs
    try:
        return Plan.model_validate(found)
    except ValueError as problem:
        raise FolderError(f"{path} is damaged ({problem}); choose another --out.") from problem


def _data(run: Any) -> tuple:
    return (run.corpus, run.tokenizer, run.model.seq_len, run.data_seed)


def _done(pack: Pack, folder: Path) -> bool:
    return all((folder / "runs" / run_id / "result.json").exists() for run_id in pack.run_ids)

"""Carry out a plan: every run of it once, whatever happens in between.

    runs = sweep(recipes.laptop("book.txt"), "runs/book")

Repeating the call continues: finished runs are not trained again, begun packs go on from their checkpoints. A folder
belongs to the plan that began it.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import memscape.errors
from memscape.errors import FolderError, MemscapeError
from memscape.folder import claim, plain, read_json, write_json, writing
from memscape.progress import Budget, bar, say
from memscape.training import engines
from memscape.training.plan import Pack, Plan
from memscape.training.remote import is_url, mirror_of
from memscape.training.runs import Runs
from memscape.training.tracking import log_runs, tracker
from memscape.training.trainer import prepare
from memscape.training.worker import BEAT_SECONDS, beat


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
        engine: `local` (a worker a GPU, or a core), `ray` (a Ray cluster; pip install 'memscape[ray]'), `ddp` or `fsdp`
            (each pack on all GPUs).
        budget: stop cleanly after this time (`9m`, `90s`, seconds); `runs.left` says how many runs remain.
        device: `cpu`, `cuda`, `cuda:1`; None: every GPU there is, else the CPU.
        track: also show runs in `trackio` or `wandb`.

    Raises:
        PlanError: unknown engine or device, or a pack that cannot be trained.
        FolderError: `out` belongs to another plan, is written to by another process, or cannot be written.
        CorpusError: the corpus is missing or too short.
        MemscapeError: packs were lost (their workers died again and again); all other runs are finished.
    """
    budget, train = Budget.parse(budget), engines.named(engine)
    if engine != "ray":
        engines.devices(device)
    module = tracker(track) if track else None
    mirror = mirror_of(str(out)) if is_url(out) else None
    folder = mirror.folder if mirror else Path(out)
    lost: dict[str, str] = {}
    with writing(folder):
        if mirror:
            mirror.pull("plan.json", "runs/*/*.json", "runs/*/*.parquet")
        if begun := (folder / "plan.json").exists():
            plan = _claimed(plan, folder)
        for run in {run.data: run for run in plan.runs}.values():
            prepare(plan, run, folder)
        if not begun:  # a text that cannot serve leaves no claim behind
            plan = _claimed(plan, folder)
        if mirror:
            mirror.push("plan.json")
        waiting = [pack.pack_id for pack in plan.packs if not _done(pack, folder)]
        place = str(out) if mirror else str(folder.resolve())
        if waiting and not budget.spent:
            endings = train(place, waiting, len(plan.packs), device, budget)
            with _shown(lambda: plan, folder), contextlib.closing(endings):
                for pack_id, event in endings:
                    pack = plan.pack(pack_id)
                    match event["event"]:
                        case "refused":
                            raise getattr(memscape.errors, event["kind"], MemscapeError)(event["reason"])
                        case "lost":
                            lost[pack_id] = event["reason"]
                        case "memory":
                            plan, halves = plan.split(pack)
                            write_json(folder / "plan.json", plan)
                            if mirror:
                                mirror.push("plan.json")
                            say(f"pack {pack_id} does not fit ({event['reason']}); split into {' and '.join(halves)}.")
                            waiting += halves
                        case "finished":
                            if mirror:
                                mirror.pull(*(f"runs/{run_id}/*" for run_id in pack.run_ids))
                            if module:
                                log_runs(module, plan.name, [folder / "runs" / run_id for run_id in pack.run_ids])
    if lost:
        which = "; ".join(f"{pack_id}: {why}" for pack_id, why in sorted(lost.items()))
        raise MemscapeError(f"{len(lost)} packs could not be trained ({which}); repeat the command to try again.")
    runs = Runs.load(folder)
    if not runs.complete:
        say(runs.summary)
    return runs


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


def _done(pack: Pack, folder: Path) -> bool:
    return all((folder / "runs" / run_id / "result.json").exists() for run_id in pack.run_ids)


@contextlib.contextmanager
def _shown(plan: Callable[[], Plan], folder: Path) -> Iterator[None]:
    """Show a progress bar of the tokens to train, fed by what each pack writes down while it is at work."""

    def tokens(pack: Pack) -> int:
        return sum(run.tokens_seen for run in plan().members(pack))

    stop = threading.Event()
    with bar(f"sweep {plan().name}", sum(map(tokens, plan().packs)), "tokens") as progress:

        def look() -> None:
            packs = plan().packs
            now = sum(tokens(pack) if _done(pack, folder) else beat(folder, pack.pack_id) for pack in packs)
            progress.advance(max(0, now - progress.done))

        def watch() -> None:
            while not stop.wait(BEAT_SECONDS):
                look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            look()

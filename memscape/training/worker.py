"""A worker: one process that trains packs for a sweep, one after another, as its driver asks.

    python -m memscape.training.worker FOLDER DEVICE THREADS

It reads one JSON request a line from stdin, writes one JSON event a line to stdout, and ends at once when the driver
ends: a closed stdin is the driver's death.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memscape.errors import FolderError, MemscapeError
from memscape.folder import read_json, write_json, writing
from memscape.progress import Budget

BEAT_SECONDS = 1.0
"""How often a pack writes down how far it is."""


def run_pack(out: str | Path, pack_id: str, device: str, threads: int, until: float | None) -> dict[str, Any]:
    """Train one pack of the plan in `out`, a folder or URL, to its end or the Unix time `until`; return how it ended.

    Meanwhile the pack's folder says how far it is (`beat` reads it). The answer is that of `ending`.
    """
    import torch

    from memscape.training.plan import Plan
    from memscape.training.remote import is_url, mirror_of
    from memscape.training.trainer import train

    torch.set_num_threads(threads)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # Triton launches on the current GPU
    mirror = mirror_of(str(out)) if is_url(out) else None
    folder = mirror.folder if mirror else Path(out)
    pulse = heart(folder, pack_id)

    def progress(tokens: int) -> None:
        pulse(tokens)
        if mirror and mirror.late:
            mirror.push(f"packs/{pack_id}/*")

    def work() -> Any:
        if mirror:
            mirror.pull("plan.json", f"packs/{pack_id}/*")
        plan = Plan.load(folder)
        pack = plan.pack(pack_id)
        budget = Budget(None if until is None else until - time.time())
        with writing(folder / "packs" / pack_id):
            outcome = train(plan, pack, folder, device=device, budget=budget, progress=progress)
        if outcome.finished:  # a folder of results holds nothing that depends on the clock
            (folder / "packs" / pack_id / "progress.json").unlink(missing_ok=True)
        if mirror:
            mirror.push(f"packs/{pack_id}/*", *(f"runs/{run_id}/*" for run_id in pack.run_ids))
        return outcome

    return ending(work)


def heart(folder: Path, pack_id: str) -> Callable[[int], None]:
    """Return what writes down how many tokens a pack has trained on, when it is told so, now and then."""
    last = 0.0

    def pulse(tokens: int) -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_SECONDS:
            with contextlib.suppress(FolderError):  # a full disk is told by what needs it
                write_json(folder / "packs" / pack_id / "progress.json", {"tokens": tokens})
            last = time.monotonic()

    return pulse


def beat(folder: Path, pack_id: str) -> int:
    """Return the tokens that a pack has trained on, as it last wrote down."""
    try:
        return int(read_json(folder / "packs" / pack_id / "progress.json")["tokens"])
    except FolderError:  # it has not begun
        return 0


def ending(work: Callable[[], Any]) -> dict[str, Any]:
    """Return how a call of `train` ended, as an event of JSON values.

    `{"event": "finished" | "stopped"}`, `{"event": "memory", "reason"}` if the pack does not fit, or `{"event":
    "refused", "reason", "kind"}` for an error of the user's making.
    """
    import torch

    try:
        return {"event": "finished" if work().finished else "stopped"}
    except torch.OutOfMemoryError as problem:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {"event": "memory", "reason": str(problem).split(". ")[0]}
    except MemscapeError as problem:
        return {"event": "refused", "reason": str(problem), "kind": type(problem).__name__}


def leave_with_driver(hear: Callable[[str], None] = lambda line: None) -> None:
    """Pass lines of stdin on from a thread, and end this process when stdin closes: the driver is gone."""

    def listen() -> None:
        for line in sys.stdin:
            hear(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()


def main() -> None:
    """Serve requests until stdin closes."""
    out, device, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is talk, not an answer
    requests: queue.Queue[str] = queue.Queue()
    leave_with_driver(requests.put)
    while True:
        request = json.loads(requests.get())
        print(json.dumps(run_pack(out, request["pack"], device, threads, request["until"])), file=answers, flush=True)


if __name__ == "__main__":
    main()

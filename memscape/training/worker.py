"""A worker: one process that trains packs for a sweep, one after another, as its driver asks.

    python -m memscape.training.worker FOLDER DEVICE THREADS

It reads one JSON request a line from stdin, writes one JSON event a line to stdout, and ends at once when the driver
ends: a closed stdin is the driver's death.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memscape.errors import MemscapeError
from memscape.folder import read_json, write_json, writing
from memscape.progress import Budget

BEAT_SECONDS = 5.0
"""How often a pack that nobody listens to writes down how far it is."""


def run_pack(
    out: str | Path,
    pack_id: str,
    device: str,
    threads: int,
    seconds: float | None,
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train one pack of the plan in `out`, a folder or URL, and return how it ended.

    `tell` hears of progress; without it progress is written to the pack's folder now and then (`beat` reads it).
    """
    import torch

    from memscape.training.plan import Plan
    from memscape.training.remote import is_url, mirror_of
    from memscape.training.trainer import train

    torch.set_num_threads(threads)

    mirror = mirror_of(str(out)) if is_url(out) else None
    folder = mirror.folder if mirror else Path(out)

    pulse = folder / "packs" / pack_id / "progress.json"
    seen = {"tokens": 0, "at": time.monotonic()}

    def progress(tokens: int) -> None:
        seen["tokens"] += tokens
        if tell:
            tell({"event": "progress", "tokens": tokens})
        elif time.monotonic() - seen["at"] > BEAT_SECONDS:
            write_json(pulse, {"tokens": seen["tokens"]})
            seen["at"] = time.monotonic()
        if mirror and mirror.late:
            mirror.push(f"packs/{pack_id}/*")

    def work() -> Any:
        if mirror:
            mirror.pull("plan.json", f"packs/{pack_id}/*")
        plan = Plan.load(folder)
        pack = plan.pack(pack_id)
        with writing(folder / "packs" / pack_id):
            outcome = train(plan, pack, folder, device=device, budget=Budget(seconds), progress=progress)
            pulse.unlink(missing_ok=True)
        if mirror:
            mirror.push(f"packs/{pack_id}/*", *(f"runs/{run_id}/*" for run_id in pack.run_ids))
        return outcome

    return ending(work)


def beat(folder: Path, pack_id: str) -> int:
    """Return the tokens that a pack in another process was last known to have trained on."""
    path = folder / "packs" / pack_id / "progress.json"
    return int(read_json(path)["tokens"]) if path.exists() else 0


def ending(work: Callable[[], Any]) -> dict[str, Any]:
    """Return how a call of `train` ended, as an event of JSON values.

    `{"event": "finished" | "stopped", "seconds", "tokens"}`, `{"event": "memory", "reason"}` if the pack does not
    fit, or `{"event": "refused", "reason", "kind"}` for an error of the user's making.
    """
    import torch

    try:
        outcome = work()
    except torch.OutOfMemoryError as problem:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {"event": "memory", "reason": str(problem).split(". ")[0]}
    except MemscapeError as problem:
        return {"event": "refused", "reason": str(problem), "kind": type(problem).__name__}
    event = "finished" if outcome.finished else "stopped"
    return {"event": event, "seconds": outcome.seconds, "tokens": outcome.tokens}


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

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=answers, flush=True)

    while True:
        request = json.loads(requests.get())
        tell(run_pack(out, request["pack"], device, threads, request["seconds"], tell))


if __name__ == "__main__":
    main()

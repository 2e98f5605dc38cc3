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
from pathlib import Path
from typing import Any

from memscape.errors import MemscapeError
from memscape.folder import writing
from memscape.progress import Budget


def run_pack(
    folder: Path, pack_id: str, device: str, threads: int, seconds: float | None, tell=lambda event: None
) -> dict[str, Any]:
    """Train one pack of the folder's plan and return what happened, as an event of JSON values.

    `{"event": "finished" | "stopped", "seconds", "tokens"}`, `{"event": "memory", "reason"}` if the pack does not
    fit, or `{"event": "refused", "reason"}` for an error of the user's making.
    """
    import torch

    from memscape.training.plan import Plan
    from memscape.training.trainer import train

    torch.set_num_threads(threads)
    plan = Plan.load(folder)
    pack = next(p for p in plan.packs if p.pack_id == pack_id)
    try:
        with writing(folder / "packs" / pack_id):
            outcome = train(
                plan, pack, folder, device=device, budget=Budget(seconds),
                progress=lambda tokens: tell({"event": "progress", "tokens": tokens}),
            )  # fmt: skip
    except torch.OutOfMemoryError as problem:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        return {"event": "memory", "reason": str(problem).split(". ")[0]}
    except MemscapeError as problem:
        return {"event": "refused", "reason": str(problem), "kind": type(problem).__name__}
    return {
        "event": "finished" if outcome.finished else "stopped",
        "seconds": outcome.seconds,
        "tokens": outcome.tokens,
    }


def main() -> None:
    """Serve requests until stdin closes."""
    folder, device, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is talk, not an answer
    requests: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            requests.put(line)
        os._exit(0)

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=answers, flush=True)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        request = json.loads(requests.get())
        tell(run_pack(folder, request["pack"], device, threads, request["seconds"], tell))


if __name__ == "__main__":
    main()

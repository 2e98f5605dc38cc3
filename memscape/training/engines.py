"""Engines: who trains the packs of a plan, and what happens when one of them dies.

`local` starts a worker process per GPU, or on a CPU as many single-threaded workers as there are cores; `ray` sends the
same packs to a Ray cluster; `ddp` and `fsdp` share each pack among all GPUs. Packs meet only in the sweep's folder.

    for pack_id, event in local("runs/book", waiting := ["000", "001"], n_packs=2, device=None, budget=Budget()):
        ...

An engine takes packs from `waiting` until it is empty or the budget is spent and yields how each ended (the events of
`worker.ending`, or `lost`). Meanwhile its caller may put further packs there: the halves of one that did not fit.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from memscape.errors import MemscapeError, PlanError, unknown
from memscape.progress import Budget, say
from memscape.training.remote import is_url
from memscape.training.worker import run_pack

ATTEMPTS = 3
"""How often a pack is tried when its worker dies."""

Endings = Generator[tuple[str, dict[str, Any]]]


def named(engine: str) -> Callable[..., Endings]:
    """Return the engine of that name."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    return ENGINES[engine]


def devices(device: str | None) -> list[str]:
    """Return the devices to work on, a worker each: every GPU for None or `cuda`, one `cpu` a core otherwise.

    A list (`cuda:0,cuda:1`) names them one by one; a GPU named twice gets two workers, so that one compiles while the
    other trains.

    Raises:
        PlanError: unknown, or a GPU asked for that is not there.
    """
    import torch

    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if device != "cpu" else []
    if device in (None, "cpu") or (device == "cuda" and gpus):
        return gpus or ["cpu"] * n_cores()
    if wrong := [name for name in device.split(",") if name not in gpus]:
        raise PlanError(f"device {wrong[0]!r} is not here; expected cpu, cuda or cuda:N, torch sees {len(gpus)} GPUs.")
    return device.split(",")


def visible(gpu: str) -> str:
    """Return the name by which another process is told of this GPU (`cuda:N`) alone."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    n = int(gpu.removeprefix("cuda:"))
    return shown.split(",")[n] if shown else str(n)


def n_cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(n_packs: int, device: str) -> int:
    """Return threads a worker: all cores are used; the number depends on the whole plan, never on what is left.

    A result must not depend on how often the sweep was stopped, and sums depend on the number of threads.
    """
    return max(1, n_cores() // n_packs) if device == "cpu" else max(1, min(4, n_cores()))


def local(out: str, waiting: list[str], n_packs: int, device: str | None, budget: Budget) -> Endings:
    """Train packs in worker processes of this machine; a worker that dies is replaced and its pack tried again."""
    places = devices(device)[: len(waiting)]
    workers = [Worker(out, place, threads_for(n_packs, place)) for place in places]
    idle, busy = list(workers), {}
    with ThreadPoolExecutor(len(workers)) as threads:
        try:
            while busy or (waiting and not budget.spent):
                while waiting and idle and not budget.spent:
                    worker, pack_id = idle.pop(), waiting.pop(0)
                    busy[threads.submit(worker.train, pack_id, budget)] = worker, pack_id
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    worker, pack_id = busy.pop(future)
                    idle.append(worker)
                    yield pack_id, future.result()
        finally:
            for worker in workers:
                worker.close()  # a pack in work goes on from its checkpoint next time


class Worker:
    """A worker process and the pipe to it."""

    module = "memscape.training.worker"

    def __init__(self, out: str, device: str, threads: int):
        self.command = [sys.executable, "-m", self.module, out, device, str(threads)]
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.closed, self.process = False, self._start()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
            start_new_session=True,
        )  # fmt: skip

    def train(self, pack_id: str, budget: Budget) -> dict[str, Any]:
        """Return how a pack ended; `{"event": "lost"}` if its workers died `ATTEMPTS` times."""
        return attempted(pack_id, lambda: self._try({"pack": pack_id, "until": deadline(budget)}))

    def _try(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            event = json.loads(self.process.stdout.readline())  # type: ignore
        except (OSError, ValueError):  # a closed pipe, or a line that was never finished
            event = {"event": "stopped"} if self.closed else None
        if event is None or event["event"] == "memory":  # a device that ran out of memory is not trusted with the rest
            self._end()
            self.process = self._start()
        return event

    def close(self) -> None:
        """End the process, whatever it does."""
        self.closed = True
        self._end()

    def _end(self) -> None:
        """Close its stdin, upon which it leaves, and wait for that."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore
        self.process.wait()
        self.process.stdout.close()  # type: ignore


def attempted(pack_id: str, attempt: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Return the event of the first attempt at a pack that did not die."""
    for number in range(1, ATTEMPTS + 1):
        if (event := attempt()) is not None:
            return event
        say(f"the worker of pack {pack_id} died, attempt {number} of {ATTEMPTS}; its checkpoint goes on.")
    return {"event": "lost", "reason": f"its workers died {ATTEMPTS} times"}


def deadline(budget: Budget) -> float | None:
    """Return the Unix time at which a budget is spent: what other processes and machines understand."""
    return None if budget.seconds is None else time.time() + max(0.0, budget.left)


def ray(out: str, waiting: list[str], n_packs: int, device: str | None, budget: Budget) -> Endings:
    """Train packs as tasks of a Ray cluster: the one that is running (RAY_ADDRESS), else one on this machine.

    Every node must reach `out`, the same path or URL. A task whose worker or node dies is tried again from its
    checkpoint.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError as problem:
        raise MemscapeError("engine 'ray' needs Ray, which is not installed; pip install 'memscape[ray]'.") from problem

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    gpus = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    if device is not None and device.startswith("cuda") and not gpus:
        raise PlanError(f"device {device!r} asked for, the Ray cluster has no GPU; use --device cpu.")
    place = "cuda" if gpus else "cpu"
    threads = threads_for(n_packs, place)
    task = ray.remote(run_pack).options(
        max_retries=ATTEMPTS, num_cpus=1 if gpus else threads, num_gpus=1 if gpus else 0
    )
    running: dict[Any, str] = {}
    while running or (waiting and not budget.spent):
        while waiting:
            pack_id = waiting.pop(0)
            running[task.remote(out, pack_id, place, threads, deadline(budget))] = pack_id
        for future in ray.wait(list(running))[0]:
            try:
                event = ray.get(future)
            except RayError as problem:
                event = {"event": "lost", "reason": str(problem).splitlines()[0]}
            yield running.pop(future), event


def shared(how: str, out: str, waiting: list[str], n_packs: int, device: str | None, budget: Budget) -> Endings:
    """Train one pack after another, each on all GPUs of this machine (or all cores).

    `how`: a whole copy of the pack on each (`ddp`), or a part on each by FSDP2 (`fsdp`).
    """
    if is_url(out):
        raise PlanError(f"engine {how!r} works in a folder that its processes share, got {out}; give a path.")
    places = devices(device)
    kind = places[0].split(":")[0]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if kind == "cuda":
        if len(set(places)) < len(places):
            raise PlanError(f"engine {how!r} starts one process a GPU, got {device}; name each GPU once.")
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(visible, places))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(len(places))]

    def attempt(pack_id: str) -> dict[str, Any] | None:
        event, task = None, [out, pack_id, kind, json.dumps(deadline(budget)), how]
        with subprocess.Popen(
            [*torchrun, "-m", "memscape.training.sharded", *task],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        ) as process:  # fmt: skip
            for line in process.stdout or ():
                if line.startswith("{"):
                    event = json.loads(line)
                    if event["event"] in ("memory", "refused"):  # the others wait in a sum for the process that says so
                        process.stdin.close()  # type: ignore
        return event

    while waiting and not budget.spent:
        pack_id = waiting.pop(0)
        yield pack_id, attempted(pack_id, lambda pack_id=pack_id: attempt(pack_id))


ENGINES: dict[str, Callable[..., Endings]] = {
    "ddp": partial(shared, "ddp"), "fsdp": partial(shared, "fsdp"), "local": local, "ray": ray,
}  # fmt: skip
"""Name -> engine."""

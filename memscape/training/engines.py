"""Engines: who trains the packs of a plan, and what happens when one of them dies.

`local` starts a worker process per GPU, or on a CPU as many single-threaded workers as there are cores; `ray` sends the
same packs to a Ray cluster; `fsdp` shares each pack among all GPUs. Packs meet only in the sweep's folder.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from memscape.errors import MemscapeError, PlanError, unknown
from memscape.progress import Budget, say
from memscape.training.worker import BEAT_SECONDS, beat, run_pack

ATTEMPTS = 3
"""How often a pack is tried when its worker dies."""

SILENT_SECONDS = 600.0
"""A pack of a cluster that says nothing for so long is reported."""


@runtime_checkable
class Sink(Protocol):
    """What an engine tells the sweep."""

    def progress(self, tokens: int) -> None:
        """So many more tokens were trained on."""
        ...

    def ended(self, pack_id: str, event: dict[str, Any]) -> list[str]:
        """A pack ended as `event` says; return the packs to train in its place (halves, if it did not fit)."""
        ...


def devices(device: str | None) -> list[str]:
    """Return the devices to work on, a worker each: every GPU for None or `cuda`, one `cpu` a core otherwise.

    A list (`cuda:0,cuda:1`) names them one by one; a GPU named twice gets two workers, so that one compiles while the
    other trains.

    Raises:
        PlanError: a GPU asked for where there is none.
    """
    if device and "," in device:
        return [place for part in device.split(",") for place in devices(part.strip())[:1]]
    import torch

    n_gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device not in (None, "cpu") and not device.startswith("cuda"):
        raise PlanError(f"device {device!r} is unknown; expected cpu, cuda or cuda:N.")
    if device is not None and device.startswith("cuda"):
        index = int(device[5:] or 0) if device[4:5] in ("", ":") and (device[5:] or "0").isdecimal() else n_gpus
        if index >= n_gpus:
            raise PlanError(f"device {device!r} asked for, torch sees {n_gpus} GPUs; use --device cpu.")
        if ":" in device:
            return [device]
    return [f"cuda:{i}" for i in range(n_gpus)] or ["cpu"] * n_cores()


def n_cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(n_packs: int, device: str) -> int:
    """Return threads a worker: all cores are used; the number depends on the whole plan, never on what is left.

    A result must not depend on how often the sweep was stopped, and sums depend on the number of threads.
    """
    return max(1, n_cores() // n_packs) if device == "cpu" else max(1, min(4, n_cores()))


def named(engine: str) -> Callable[..., None]:
    """Return the engine of that name."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    return ENGINES[engine]


def local(folder: str | Path, packs: list[str], n_packs: int, device: str | None, budget: Budget, sink: Sink) -> None:
    """Train packs in worker processes of this machine; a worker that dies is replaced and its pack tried again."""
    places = devices(device)
    places = places[: max(1, len(packs))]
    waiting: queue.Queue[str] = queue.Queue()
    for pack in packs:
        waiting.put(pack)
    failures: list[BaseException] = []
    workers = [Worker(folder, place, threads_for(n_packs, place)) for place in places]

    def serve(worker: Worker) -> None:
        try:
            while not budget.spent and not failures:
                pack = waiting.get_nowait()
                for follower in sink.ended(pack, worker.train(pack, budget, sink)):
                    waiting.put(follower)
        except queue.Empty:
            pass
        except BaseException as problem:
            failures.append(problem)
        finally:
            worker.close()

    threads = [threading.Thread(target=serve, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as problem:
        failures.append(problem)
        for worker in workers:
            worker.close()  # it leaves at once; its pack goes on from its checkpoint next time
        raise
    if failures:
        raise failures[0]


class Worker:
    """A worker process and the pipe to it."""

    def __init__(self, folder: str | Path, device: str, threads: int):
        self.command = [sys.executable, "-m", "memscape.training.worker", str(folder), device, str(threads)]
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.closed = False
        self.process = self._start()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
            start_new_session=True,
        )  # fmt: skip

    def train(self, pack: str, budget: Budget, sink: Sink) -> dict[str, Any]:
        """Return how a pack ended; `{"event": "lost"}` if its workers died `ATTEMPTS` times."""
        for attempt in range(1, ATTEMPTS + 1):
            event = self._try(pack, budget, sink)
            if self.closed:
                return {"event": "stopped"}
            if event is None or event["event"] == "memory":
                self._end()  # a device that ran out of memory is not trusted with the halves
                self.process = self._start()
            if event is not None:
                return event
            say(f"worker of pack {pack} died, attempt {attempt} of {ATTEMPTS}; its checkpoint goes on.")
        return {"event": "lost", "reason": f"its workers died {ATTEMPTS} times"}

    def _try(self, pack: str, budget: Budget, sink: Sink) -> dict[str, Any] | None:
        seconds = None if budget.seconds is None else max(0.0, budget.left)
        try:
            print(json.dumps({"pack": pack, "seconds": seconds}), file=self.process.stdin, flush=True)
        except OSError:
            return None
        for line in self.process.stdout or ():
            event = json.loads(line)
            if event["event"] != "progress":
                return event
            sink.progress(event["tokens"])
        return None

    def close(self) -> None:
        """End the process, whatever it does."""
        self.closed = True
        self._end()

    def _end(self) -> None:
        """Close its stdin, upon which it leaves, and wait for that."""
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def ray(folder: str | Path, packs: list[str], n_packs: int, device: str | None, budget: Budget, sink: Sink) -> None:
    """Train packs as tasks of a Ray cluster: the one that is running (RAY_ADDRESS), else one on this machine.

    Every node must reach `folder`, the same path or URL. A task whose worker or node dies is tried again from its
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

    def submit(pack: str) -> Any:
        seconds = None if budget.seconds is None else max(0.0, budget.left)
        return task.remote(place_of(folder), pack, place, threads, seconds)

    running = {submit(pack): pack for pack in packs}
    heard = {pack: (0, time.monotonic()) for pack in packs}
    while running:
        ready, _ = ray.wait(list(running), timeout=BEAT_SECONDS)
        for future in ready:
            pack = running.pop(future)
            try:
                event = ray.get(future)
            except RayError as problem:
                event = {"event": "lost", "reason": str(problem).splitlines()[0]}
            for follower in sink.ended(pack, event):
                running[submit(follower)] = follower
                heard[follower] = (0, time.monotonic())
        if isinstance(folder, str):
            continue  # a URL is not asked every few seconds
        for pack in running.values():
            tokens, at = heard[pack]
            now = beat(folder, pack)
            if now > tokens:
                sink.progress(now - tokens)
                heard[pack] = (now, time.monotonic())
            elif time.monotonic() - at > SILENT_SECONDS:
                say(f"pack {pack} has been silent for {SILENT_SECONDS / 60:.0f} minutes; Ray has it still.")
                heard[pack] = (tokens, time.monotonic())


def fsdp(folder: str | Path, packs: list[str], n_packs: int, device: str | None, budget: Budget, sink: Sink) -> None:
    """Train one pack after another, each on all GPUs of this machine (or all cores), sharded by FSDP2."""
    if isinstance(folder, str):
        raise PlanError(f"engine 'fsdp' works in a folder that its processes share, got {folder}; give a path.")
    places, waiting = devices(device), list(packs)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(len(places))]
    while waiting and not budget.spent:
        pack, event = waiting.pop(0), None
        for attempt in range(1, ATTEMPTS + 1):
            seconds = None if budget.seconds is None else max(0.0, budget.left)
            task = ["-m", "memscape.training.sharded", str(folder), pack, places[0].split(":")[0], json.dumps(seconds)]
            with subprocess.Popen(
                [*torchrun, *task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            ) as process:  # fmt: skip
                lines = [line for line in process.stdout or () if line.startswith("{")]
            if process.returncode == 0 and lines:
                event = json.loads(lines[-1])
                break
            say(f"processes of pack {pack} died, attempt {attempt} of {ATTEMPTS}; its checkpoint goes on.")
        event = event or {"event": "lost", "reason": f"its processes died {ATTEMPTS} times"}
        sink.progress(int(event.get("tokens", 0)))
        waiting += sink.ended(pack, event)


def place_of(folder: str | Path) -> str:
    """Return a URL as it is and a path made absolute: other processes stand elsewhere."""
    return str(folder.resolve()) if isinstance(folder, Path) else folder


ENGINES: dict[str, Callable[..., None]] = {"fsdp": fsdp, "local": local, "ray": ray}
"""Name -> engine."""

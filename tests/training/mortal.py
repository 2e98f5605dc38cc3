"""Workers that die by kill -9 at chosen moments, or kill their driver: tests start them in place of memscape's own.

The folder MEMSCAPE_DEATHS holds the deaths to come, a file each: `0` with the text `worker 37`, then `1` and so on. A
moment is a training step, or the instant before or after a file is renamed into its place. The first process that has
lived through 37 moments since the death before dies, or its driver does, and the file is renamed to `0.happened`. No
clock is read, so the machine may be as slow as it likes.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from memscape.training import worker
from memscape.training.step import PackedStep

DEATHS = Path(os.environ["MEMSCAPE_DEATHS"])

moments = {"death": "", "n": 0}


def moment() -> None:
    """Live through one more moment, or die at it."""
    coming = sorted(path for path in DEATHS.iterdir() if not path.suffix)
    if not coming:
        return
    if moments["death"] != coming[0].name:
        moments.update(death=coming[0].name, n=0)
    moments["n"] += 1
    try:
        victim, n = coming[0].read_text().split()
        if moments["n"] < int(n):
            return
        coming[0].rename(coming[0].with_suffix(".happened"))
    except FileNotFoundError:  # another process was quicker: this death is its own
        return
    os.kill({"worker": os.getpid(), "driver": os.getppid()}[victim], signal.SIGKILL)


def mortal(work: Callable) -> Callable:
    """Return `work` with a moment before and after it."""

    def worked(*args):
        moment()
        answer = work(*args)
        moment()
        return answer

    return worked


def run_pack(*args):
    """Do what memscape's own does, in a process that can die."""
    return worker.run_pack(*args)


PackedStep.__call__ = mortal(PackedStep.__call__)
Path.replace = mortal(Path.replace)

if __name__ == "__main__":
    worker.main()

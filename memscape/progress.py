"""What a command says while it works: lines and one progress bar on stderr, so that stdout carries data only."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

_quiet = False


def be_quiet(quiet: bool = True) -> None:
    """Silence `say` and `bar` for this process (`--quiet`, `--json` in scripts)."""
    global _quiet
    _quiet = quiet


def say(line: str) -> None:
    """Print one line for a person, on stderr."""
    if not _quiet:
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(title: str, total: float, unit: str = "") -> Iterator["Bar"]:
    """Show a progress bar with an ETA; on a stderr that is no terminal, one line at the end."""
    start = time.perf_counter()
    if _quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        work = Bar(None, None)
        yield work
        say(f"{title}: {work.done:,.0f} of {total:,.0f} {unit}".rstrip() + f" in {time.perf_counter() - start:.1f} s")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress, progress.add_task(title, total=total))


class Bar:
    """The handle `bar` yields: `advance(n)` when n units are done."""

    def __init__(self, progress, task):
        self._progress, self._task, self.done = progress, task, 0.0

    def advance(self, n: float = 1) -> None:
        self.done += n
        if self._progress is not None:
            self._progress.advance(self._task, n)


class OutOfBudget(Exception):
    """The time limit has come: what is finished is kept, and the message says what is left. No error: exit 0."""


class Budget:
    """A time limit in seconds that work checks between steps: `--budget 9m` stops cleanly, exit 0, nothing lost."""

    def __init__(self, seconds: float | None = None):
        self.seconds, self._start = seconds, time.monotonic()

    @classmethod
    def parse(cls, text: "str | float | Budget | None") -> "Budget":
        """Read `90`, `90s`, `9m`, `1.5h`; None is no limit; a budget that runs already stays as it is."""
        from memscape.errors import PlanError

        if text is None or isinstance(text, Budget):
            return text or cls()
        unit = {"s": 1, "m": 60, "h": 3600}.get(str(text)[-1:])
        try:
            seconds = float(str(text)[:-1]) * unit if unit else float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise PlanError(f"--budget {text!r} is no time; write 90s, 9m or 1.5h.")
        return cls(seconds)

    @property
    def left(self) -> float:
        """Seconds left; infinite without a limit."""
        return float("inf") if self.seconds is None else self.seconds - (time.monotonic() - self._start)

    @property
    def spent(self) -> bool:
        return self.left <= 0

    def check(self, rest: str) -> None:
        """Raise OutOfBudget if the time has come; `rest` says what is left to do."""
        if self.spent:
            raise OutOfBudget(
                f"stopped after {self.seconds:g} s as asked; left: {rest}. Repeat the command to continue."
            )

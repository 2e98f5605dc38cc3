"""The runs of a folder as one table: a row a finished run, printed, framed, asked in SQL, or handed to the laws.

runs = Runs.load("runs/book")
runs.to_frame().groupby("d_model").train_loss.min()
ls("runs/book", "select d_model, min(train_loss) from runs group by d_model")
"""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memscape.errors import FolderError, TableError
from memscape.folder import read_json

SHOWN = ("run_id", "n_params", "n_tokens", "epochs", "status", "train_loss", "floor", "fresh_loss", "other_loss",
         "memorised_share", "bits_per_param", "extracted_share")  # fmt: skip
"""Columns worth a person's eye; `to_frame` has them all."""

PRINTED = {"index": False, "na_rep": "-", "float_format": "{:.4g}".format}
"""How pandas writes them."""


@dataclass(frozen=True)
class Runs:
    """Finished runs, and how many of the plan are still to come."""

    folder: Path
    rows: tuple[dict[str, Any], ...]
    """One flat dict a run: the content of its result.json."""
    n_planned: int
    """Runs in the plan, finished or not."""

    @classmethod
    def load(cls, folder: str | Path) -> "Runs":
        """Return the finished runs of a sweep's folder, in the order of its plan."""
        folder = Path(folder)
        if not (folder / "plan.json").exists():
            state = "holds no plan.json" if folder.is_dir() else "does not exist"
            raise FolderError(f"{folder} {state}; expected the folder of a sweep.")
        planned = [run["run_id"] for run in read_json(folder / "plan.json")["runs"]]
        done = [folder / "runs" / run_id / "result.json" for run_id in planned]
        return cls(folder, tuple(read_json(path) for path in done if path.exists()), len(planned))

    @property
    def left(self) -> int:
        """Runs of the plan that are not finished."""
        return self.n_planned - len(self.rows)

    @property
    def complete(self) -> bool:
        """Whether every run of the plan is finished."""
        return self.left == 0

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, a row a run, a column a field of result.json."""
        import pandas

        return pandas.DataFrame(list(self.rows))

    def model_dump(self, mode: str = "json") -> list[dict[str, Any]]:
        """Return the rows, for JSON."""
        return list(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.rows[i]

    @property
    def summary(self) -> str:
        """One line: how many runs, how many are left, where."""
        rest = "" if self.complete else f", {self.left} left: repeat the command to continue"
        return f"{len(self)} runs finished in {self.folder}{rest}"

    def __str__(self) -> str:
        return f"{self._shown.to_string(**PRINTED)}\n{self.summary}" if self.rows else self.summary

    def __repr__(self) -> str:
        return f"<Runs: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.summary)}</p>" + (self._shown.to_html(**PRINTED) if self.rows else "")

    @property
    def _shown(self) -> Any:
        return self.to_frame()[list(SHOWN)]


def ls(folder: str | Path, sql: str | None = None) -> Any:
    """Return a pandas DataFrame: the runs of a folder, or the answer to a query over its tables, by DuckDB.

    Tables: `runs` (a row a finished run, the fields of result.json), `metrics` (a row an evaluation), `packs` (pack_id,
    run_id). They are loaded first; then access to anything outside is disabled for good, so a query can read nothing
    else and write nothing at all.

    Raises:
        FolderError: no sweep there.
        TableError: the query cannot be answered; says what DuckDB says.
    """
    import duckdb
    import pandas

    runs = Runs.load(folder)
    histories = sorted(Path(folder).glob("runs/*/metrics.parquet"))
    packs = [
        {"pack_id": pack["pack_id"], "run_id": run_id}
        for pack in read_json(Path(folder) / "plan.json")["packs"]
        for run_id in pack["run_ids"]
    ]
    with duckdb.connect() as connection:
        for name, frame in (("runs", runs.to_frame()), ("packs", pandas.DataFrame(packs))):
            if len(frame.columns):
                connection.register("loaded", frame)
                connection.execute(f"create table {name} as select * from loaded")
                connection.unregister("loaded")
        if histories:
            files = [str(path) for path in histories]
            connection.execute("create table metrics as select * from read_parquet($files)", {"files": files})
        connection.execute("set enable_external_access = false; set lock_configuration = true")
        if sql is None:
            return runs.to_frame()[list(SHOWN)] if len(runs) else pandas.DataFrame(columns=list(SHOWN))
        try:
            found = connection.sql(sql)
            if found is None:
                raise duckdb.Error("it asks for nothing")
            return found.df()
        except duckdb.Error as problem:
            reason = " ".join(str(problem).split("\n\nLINE")[0].split())
            raise TableError(
                f"the query cannot be answered: {reason}; tables are runs, metrics and packs."
            ) from problem

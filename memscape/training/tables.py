"""Ask a folder anything in SQL: its runs, their histories and its packs as DuckDB tables.

    ls("runs/book", "select d_model, min(train_loss) from runs group by d_model")

Tables are loaded first; then access to anything outside is disabled for good, so a query can read nothing else and
write nothing at all.
"""

from pathlib import Path
from typing import Any

from memscape.errors import TableError
from memscape.folder import read_json
from memscape.training.runs import SHOWN, Runs


def ls(folder: str | Path, sql: str | None = None) -> Any:
    """Return a pandas DataFrame: the runs of a folder, or the answer to a query over its tables.

    Tables: `runs` (a row a finished run, the fields of result.json), `metrics` (a row an evaluation), `packs` (pack_id,
    run_id).

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
            return connection.sql(sql).df()
        except (duckdb.Error, AttributeError) as problem:
            reason = str(problem).strip().splitlines()[0]
            raise TableError(
                f"the query cannot be answered: {reason}; tables are runs, metrics and packs."
            ) from problem

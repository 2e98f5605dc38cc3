"""The command line: each command parses, calls one function of a room, and prints what it returned or where it is.

Data goes to stdout, talk to stderr; `--json` makes the data machine-readable. Exit 0 is success, 1 an error of the
user's making told in one line, 2 wrong usage. Rooms are imported inside the commands, so that `--help` is instant.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from memscape.errors import MemscapeError
from memscape.progress import OutOfBudget

app = typer.Typer(
    help="Map what a transformer has memorised, how much it can memorise, and how big it should be for its data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr.")]


def _named(name: str) -> str:
    if not name:
        raise typer.BadParameter("expected a folder, got an empty name.")
    return name


def _folder(name: str | Path) -> Path:
    if "://" in str(name):
        raise typer.BadParameter(f"expected a folder of this machine, got {name}; only a sweep goes to a URL.")
    return Path(_named(str(name)))


def _out(told: str) -> Any:
    return typer.Option("--out", parser=_folder, metavar="PATH", help=told)


Out = Annotated[Path, _out("Result folder; repeating the command continues there.")]
Folder = Annotated[Path, typer.Argument(help="A result folder.")]
Corpus = Annotated[
    str, typer.Option("--corpus", help="sample, a file or folder, hf:NAME, question-formation, random:V.")
]
Model = Annotated[str, typer.Option("--model", help="Hub name, folder, .gguf file, package:NAME, or stories260K.")]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="Stop cleanly after this time: 90s, 9m, 1.5h.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", help="local: a worker per GPU or core; ray: a Ray cluster; ddp, fsdp: each pack on all GPUs."
    ),
]
TrainingDevice = Annotated[str | None, typer.Option("--device", help="cpu or cuda; the GPU if there is one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print runs, tokens, FLOPs, memory and time, and stop.")]


class _Stopped(BaseException):
    """Ctrl-C: typer would end at a KeyboardInterrupt without a word."""


def _stop(*_: Any) -> None:
    raise _Stopped


def main() -> None:
    """Run the command line; an error of the user's making is one line on stderr and exit 1."""
    before = signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except MemscapeError as problem:
        print(f"memscape: {problem}", file=sys.stderr)
        sys.exit(1)
    except OutOfBudget as stop:
        print(f"memscape: {stop}", file=sys.stderr)
    except _Stopped:
        print("memscape: stopped; repeat the command to continue.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    finally:
        signal.signal(signal.SIGINT, before)


def _version(asked: bool) -> bool:
    from memscape import __version__

    if asked:
        typer.echo(f"memscape {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def _talk(quiet: bool) -> None:
    from memscape.progress import be_quiet

    be_quiet(quiet)


def _show(answer: Any, as_json: bool) -> None:
    """Print an answer for a person, or as JSON for a machine."""
    from memscape.folder import plain

    typer.echo(json.dumps(plain(answer), ensure_ascii=False, indent=1) if as_json else str(answer))


@app.command(short_help="From a text and a model to one page that answers.")
def study(
    out: Out = Path("runs/study"),
    recipe: Annotated[
        str, typer.Option("--recipe", help="How much to do: laptop (minutes) or smoke (seconds).")
    ] = "laptop",
    corpus: Corpus = "sample",
    model: Annotated[
        str | None, typer.Option("--model", help="MODEL to probe; by default SmolLM2-135M, else stories260K.")
    ] = None,
    budget: BudgetOption = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer for a corpus and a model: what is memorised, how much can be, what size does this data call for?

    Example: memscape study --recipe laptop --corpus book.txt --out runs/book
    """
    _talk(quiet)
    from memscape.experiments import plan_study, study

    if dry_run:
        _show(plan_study(recipe=recipe, corpus=corpus, model=model).price(), as_json)
        return
    _show(study(out, recipe=recipe, corpus=corpus, model=model, budget=budget), as_json)


@app.command(short_help="Draw the memory map of a model on a text.")
def probe(
    model: Annotated[
        str, typer.Argument(help="Hub name, folder, .gguf file, package:NAME, stories260K, or a run folder.")
    ],
    corpus: Corpus = "sample",
    out: Out = Path("runs/probe"),
    instruments: Annotated[
        str, typer.Option("--instruments", help="map, all, or names: radius,attention,basins,memories,extraction,...")
    ] = "map",
    reference: Annotated[
        str | None, typer.Option("--reference", help="CORPUS that the model cannot have seen: asks for extraction.")
    ] = None,
    canaries: Annotated[
        Path | None, typer.Option("--canaries", help="Planted secrets, a line each, in {braces}: asks for extraction.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Tokens to read, spread over all documents.")] = 8192,
    context: Annotated[
        int | None, typer.Option("--context", help="Tokens a context; 256, or as many as the model reads.")
    ] = None,
    queries: Annotated[int, typer.Option("--queries", help="States asked for their neighbours at every layer.")] = 1024,
    nulls: Annotated[int, typer.Option("--nulls", help="Tokens that the nulls read.")] = 8192,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the nulls.", min=0)] = 0,
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a Hub model.")] = None,
    revisions: Annotated[
        str | None, typer.Option("--revisions", help="Several, or run folders, with commas: one table over training.")
    ] = None,
    keep_states: Annotated[
        bool, typer.Option("--keep-states", help="Keep the captured states as safetensors.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the weights.")
    ] = False,
    budget: BudgetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the memory map of a model on a text: geometry, attention and descent at every layer, beside their nulls.

    Example: memscape probe HuggingFaceTB/SmolLM2-135M --corpus book.txt --out runs/probe
    """
    _talk(quiet)
    from memscape.instruments import probe, trajectory

    options = {"limit": limit, "context": context, "queries": queries, "nulls": nulls, "seed": seed, "budget": budget}
    options |= {"device": device, "dtype": dtype, "keep_states": keep_states, "trust_remote_code": trust_remote_code}
    options |= {"instruments": _names(instruments), "reference": reference, "canaries": canaries, "corpus": corpus}
    if revisions is None:
        _show(probe(model, out=out, revision=revision, **options), as_json)
    else:
        _show(trajectory(model, _names(revisions), out, **options), as_json)


@app.command(short_help="Train a grid of small transformers, many at once.")
def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe's name: laptop, smoke, gpu, ...")],
    out: Annotated[
        str,
        typer.Option(
            "--out", callback=_named, help="Result folder or URL (s3://...); repeating the command continues there."
        ),
    ] = "runs/sweep",
    corpus: Corpus = "sample",
    engine: Engine = "local",
    device: TrainingDevice = None,
    budget: BudgetOption = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a grid of small transformers, many at once; killed at any moment, the same command continues.

    Example: memscape sweep laptop --corpus book.txt --out runs/book
    """
    _talk(quiet)
    from memscape.training import recipes, sweep

    plan = recipes.named(recipe)(corpus=corpus)
    if dry_run:
        plan.require()
        _show(plan.price(device=device), as_json)
        return
    _show(sweep(plan, out, engine=engine, device=device, budget=budget), as_json)


@app.command(short_help="Fit the laws of size, data and memory to runs.")
def fit(
    source: Annotated[Path, typer.Argument(help="A result folder, or a table of runs: .csv, .parquet, .jsonl, .json.")],
    law: Annotated[str | None, typer.Option("--law", help="One law; all that the table can tell, by default.")] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Name a column: n_params=N, n_tokens=D, ...")
    ] = None,
    out: Annotated[
        Path | None,
        _out("Folder for the fit.json of a table, which `memscape report` makes a page of."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit the laws of size, data, loss and memorisation to a table of runs, with intervals; DIR/fit.json keeps them.

    Example: memscape fit runs/book --law frontier
    """
    _talk(quiet)
    from memscape.laws import fit

    if out is not None and law is not None:
        raise typer.BadParameter("fit.json keeps all laws; leave out --law or --out.", param_hint="--out")
    columns, out = _pairs(column) or None, out or (source if source.is_dir() else None)
    found = fit(source, columns=columns, out=out) if law is None else fit(source, law, columns=columns)
    _show(found, as_json)


@app.command(short_help="Which size, how many epochs, what to expect.")
def advise(
    tokens: Annotated[str, typer.Option("--tokens", help="Unique training tokens you have: 300k, 3M.")],
    epochs_max: Annotated[float, typer.Option("--epochs-max", help="Most passes over the data.")] = 40,
    params: Annotated[str | None, typer.Option("--params", help="Judge this size instead of choosing one: 4M.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Result folder, or a table of runs; published laws without.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Name a column of it: n_params=N, n_tokens=D, ...")
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Price the training on this GPU, e.g. h100.")] = None,
    throughput: Annotated[float | None, typer.Option("--throughput", help="Its measured tokens/s.")] = None,
    price: Annotated[float | None, typer.Option("--price", help="What an hour of it costs.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which size to train for how many epochs on so many tokens, what loss and memorisation to expect.

    Example: memscape advise --tokens 3M --epochs-max 40 --from runs/book
    """
    _talk(quiet)
    from memscape.laws import advise

    out, cost = source if source and source.is_dir() else None, {"gpu": gpu, "throughput": throughput, "price": price}
    table: Any = source
    if column and source:
        from memscape.laws.table import RunTable

        table = RunTable.read(source, columns=_pairs(column))
    _show(advise(tokens=tokens, epochs_max=epochs_max, params=params, source=table, out=out, **cost), as_json)


@app.command(short_help="Run every claim of the paper as code.")
def audit(
    out: Annotated[Path | None, _out("Also write audit.json there.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Check these claims only: C3, C21.")] = None,
    results: Annotated[Path | None, typer.Option("--results", help="Folder of experiment results: results.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run every claim of the paper as code and print what holds, what does not, and the evidence.

    Example: memscape audit --only C3
    """
    _talk(quiet)
    from memscape.claims import audit

    only = [name for names in only or () for name in _names(names)]
    _show(audit(out=out, ids=only or None, results=results), as_json)


@app.command(short_help="Repeat an experiment of the paper; without a name, list them.")
def reproduce(
    name: Annotated[str | None, typer.Argument(help="An experiment's name; leave out to list them.")] = None,
    scale: Annotated[
        str, typer.Option("--scale", help="smoke (seconds), laptop (minutes), gpu (one H100), paper (--dry-run only).")
    ] = "laptop",
    out: Annotated[
        Path | None,
        _out("Result folder, runs/NAME-SCALE; repeating the command continues there."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is an independent repetition.", min=0)] = 0,
    corpus: Corpus = "sample",
    model: Annotated[
        str | None, typer.Option("--model", help="MODELs to look into, with commas, in place of the scale's own.")
    ] = None,
    tokenizer: Annotated[str, typer.Option("--tokenizer", help="GPT-2's tokenizer: a Hub name or a folder.")] = "gpt2",
    engine: Engine = "local",
    device: TrainingDevice = None,
    budget: BudgetOption = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Repeat an experiment of the paper, or an open question: criteria fixed before it runs, and a verdict.

    Example: memscape reproduce capacity --scale smoke --out runs/capacity
    """
    _talk(quiet)
    from memscape import experiments

    if name is None:
        known = {each: experiments.named(each) for each in experiments.NAMES}
        _show(
            {each: known[each].question for each in known} if as_json else "\n".join(map(str, known.values())), as_json
        )
        return
    options = {"scale": scale, "seed": seed, "corpus": corpus, "device": device}
    if dry_run:
        _show(experiments.cost(name, **options), as_json)
        return
    options |= {"model": model, "tokenizer": tokenizer, "engine": engine, "budget": budget}
    _show(experiments.reproduce(name, out, **options), as_json)


@app.command(short_help="How many patterns does an associative memory hold?")
def recall(
    out: Out = Path("runs/recall"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the patterns.", min=0)] = 0,
    budget: BudgetOption = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure retrieval success against load and corruption, for classical, dense and exponential memories.

    Example: memscape recall --out runs/recall
    """
    _talk(quiet)
    from memscape.memory import recall
    from memscape.progress import Budget

    _show(recall(out, seed=seed, budget=Budget.parse(budget)), as_json)


@app.command(short_help="Write one page of everything a folder holds.")
def report(
    folder: Folder,
    out: Annotated[Path | None, _out("The page; DIR/report.html.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page of everything a result folder holds, and print its path.

    Example: memscape report runs/book
    """
    _talk(quiet)
    from memscape.pages import report

    path = report(folder, out)
    _show({"report": str(path)} if as_json else path, as_json)


@app.command(short_help="List runs, or ask them anything in SQL.")
def ls(
    folder: Folder,
    sql: Annotated[str | None, typer.Option("--sql", help="A query over the tables runs, metrics, packs.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the runs of a folder, or ask them anything in SQL; the query can read nothing else and write nothing.

    Example: memscape ls runs/book --sql "select d_model, min(train_loss) from runs group by d_model"
    """
    _talk(quiet)
    from memscape.training import ls

    frame = ls(folder, sql)
    typer.echo(frame.to_json(orient="records", indent=1) if as_json else frame.to_string(index=False))


@app.command(short_help="Pack results without weights into one archive.")
def bundle(
    folder: Folder,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Keep the weights of runs that match, e.g. '*-s0'.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack all results of a folder, without weights, into one small archive, and print its path.

    Example: memscape bundle runs/book
    """
    _talk(quiet)
    from memscape.training import bundle

    path = bundle(folder, weights)
    _show({"bundle": str(path)} if as_json else path, as_json)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _pairs(options: list[str] | None) -> dict[str, str]:
    from memscape.errors import PlanError

    pairs = [option.partition("=") for option in options or []]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise PlanError(f"expected NAME=COLUMN, got {wrong[0]!r}; for example --column n_params=N.")
    if twice := [name for name, n in Counter(name for name, _, _ in pairs).items() if n > 1]:
        raise PlanError(f"expected each name once, got --column {twice[0]}=... again; leave one out.")
    return {name: column for name, _, column in pairs}


if __name__ == "__main__":
    main()

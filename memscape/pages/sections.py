"""What does each section of the page hold? Facts, tables and figures of a part of a folder, for the template."""

from collections.abc import Iterator
from typing import Any

from memscape.pages import basins, energy, heads, law, memorised, memory_map, text
from memscape.pages.citation import Cited, Sentence, between, join, named, say, step
from memscape.pages.figure import Table, table
from memscape.pages.gather import Story

RUN_COLUMNS = {
    "run_id": ("run", "text"),
    "status": ("status", "text"),
    "n_params": ("parameters", "count"),
    "n_tokens": ("unique tokens", "count"),
    "epochs": ("epochs", "sig3"),
    "learning_rate": ("learning rate", "sig2"),
    "train_loss": ("train loss", "fixed3"),
    "fresh_loss": ("held-out loss", "fixed3"),
    "best_fresh_loss": ("lowest held-out", "fixed3"),
    "other_loss": ("other text", "fixed3"),
    "floor": ("floor", "fixed3"),
    "memorised_bits": ("bits memorised", "count"),
    "memorised_share": ("share memorised", "percent"),
    "bits_per_param": ("bits/parameter", "sig3"),
    "extracted_share": ("extracted", "percent"),
    "d_model": ("width", "count"),
    "n_layers": ("layers", "count"),
    "seed": ("seed", "text"),
    "steps": ("steps", "count"),
}
"""Field of a run -> its heading and style in the table; losses are nats per token."""

CHIPS = {
    "holds with": "corrected",
    "holds": "holds",
    "refuted": "refuted",
    "not implied": "refuted",
    "empirical: supp": "holds",
    "empirical: contra": "refuted",
}
"""How a claim's status begins -> the look of its chip."""

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "kappa": "κ"}

TOLD = (
    "plan.json",
    "fit.json",
    "advice.json",
    "audit.json",
    "profile.json",
    "trajectory.json",
    "result.json",
    "criteria.json",
    "recall.json",
    "points.json",
)
"""Files with a section of their own, or, like a plan, without news beside the runs."""

LONGEST_FACTS = 40
"""A JSON object with more entries than this is a table of something, not a fact about the folder."""


def probe(story: Story, profile: str) -> dict[str, Any]:
    """Everything about one probed model: its facts, its figures, its passage."""
    records = story.records
    curves = {name: memory_map.depth_curve(story, profile, name) for name in memory_map.instruments(story, profile)}
    first = [figure for name, figure in curves.items() if figure and name in memory_map.FIRST]
    more = [figure for name, figure in curves.items() if figure and name not in memory_map.FIRST]
    glance = [
        figure
        for null in memory_map.shown_nulls(story, profile)
        if (figure := memory_map.heat_map(story, profile, null))
    ]
    whole = [figure for figure in (energy.descent(story, profile), energy.landscape(story, profile)) if figure]
    pairs = [*first, *heads.maps(story, profile), *basins.figures(story, profile)]
    lead = join(
        "",
        [
            say("{model}", model=story.model(profile)),
            say(" ({params} parameters", params=records.number(f"{profile}#/model/n_params", "count")),
            say(", {layers} layers", layers=records.number(f"{profile}#/model/n_layers", "count")),
            say(", width {width}", width=records.number(f"{profile}#/model/d_model", "count")),
            say(", weights {weights}", weights=records.text(f"{profile}#/model/weights")),
            Sentence(")") if records.has(f"{profile}#/model/n_params") else None,
            say(", read on {corpus}", corpus=records.text(f"{profile}#/corpus/name")),
            say(": {tokens} tokens", tokens=records.number(f"{profile}#/corpus/n_tokens", "count")),
            say(" of {documents} documents", documents=records.number(f"{profile}#/corpus/n_documents", "count")),
        ],
    )
    return {
        "name": profile,
        "lead": lead,
        "halves": [*glance, *pairs],
        "wholes": whole,
        "more": more,
        "notes": _lines(story, f"{profile}#/notes"),
        "memorised": memorised.memorised(story, profile),
        "passage": text.passage(story, profile),
        "text": text.passage_text(story, profile) if records.has(f"{profile}#/passage/tokens") else None,
    }


def laws(story: Story) -> Table | None:
    """Every fitted law with its parameters and their intervals."""
    rows, told = [], story.records.text
    for name, fit in (story.records.first("fit.json#/laws") or {}).items():
        base = f"fit.json#/laws/{step(name)}"
        places = {param: f"{base}/params/{step(param)}" for param in fit.get("params") or {}}
        params = [
            say("{name} = {value}", name=_symbol(param, at), value=story.records.measured(at))
            for param, at in places.items()
        ]
        n, outcome = story.records.number(f"{base}/n", "count"), told(f"{base}/outcome/name")
        rows.append([told(f"{base}/law"), told(f"{base}/formula"), join("; ", params), n, outcome])
    return table("laws", {"law": True, "formula": True, "parameters": True, "n": False, "outcome": True}, rows)


def _symbol(param: str, source: str) -> Cited | Sentence:
    """Return the name of a parameter as its formula has it; one with digits is cited."""
    symbol = param
    for word, letter in GREEK.items():
        symbol = symbol.replace(word, letter)
    return Cited(param, source, "key") if any(c.isdigit() for c in param) else Sentence(symbol)


def advice(story: Story) -> dict[str, Any] | None:
    """The recommendation, its cost, and what would change it."""
    if not story.has("advice.json"):
        return None
    records = story.records
    styles = {
        "n_params": "count",
        "n_params_half": "count",
        "bits": "count",
        "flops": "count",
        "memorised_share": "percent",
        "epochs": "sig2",
    }
    names = {
        "n_params": "parameters",
        "n_params_half": "parameters for half of its bits, by the frontier",
        "fresh_loss": "held-out loss",
        "train_loss": "training loss",
        "floor": "floor of the training loss",
        "memorised_share": "share memorised",
        "epochs": "epochs",
        "flops": "compute",
        "hours": "time",
        "money": "cost",
    }
    facts = []
    for group, prefix in (("recommended", ""), ("memorise", "to memorise all: "), ("cost", "")):
        for name in records.first(f"advice.json#/{group}") or {}:
            measure = records.measured(f"advice.json#/{group}/{step(name)}", styles.get(name, "sig3"))
            if measure:
                known = names.get(name) or named(name, f"advice.json#/{group}/{step(name)}")
                facts.append((join("", [Sentence(prefix), known]), measure))
    return {
        "lead": records.text("advice.json#/sentence"),
        "facts": facts,
        "figure": law.advised(story),
        "changes": _lines(story, "advice.json#/changes"),
        "next": _lines(story, "advice.json#/next_runs"),
    }


def _lines(story: Story, source: str) -> list[Cited]:
    """Return the entries of a list as words: sentences as they stand, or the sentence of a record."""
    told = story.records.text
    places = [f"{source}/{i}" for i in range(len(story.records.first(source) or []))]
    return [line for place in places if (line := told(place) or told(f"{place}/sentence"))]


def claims(story: Story) -> list[dict[str, Any]]:
    """The audit's ledger, one entry a claim."""
    claims = []
    for i, claim in enumerate(story.records.first("audit.json#/claims") or []):
        base = f"audit.json#/claims/{i}"
        told = story.records.text
        status = str(claim.get("status", ""))
        numbers = [
            say(
                "{name} {value}",
                name=named(key, at := f"{base}/figures/{step(key)}"),
                value=story.records.number(at, "sig4"),
            )
            for key, value in (claim.get("figures") or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        claims.append(
            {
                "id": told(f"{base}/id"),
                "claim": told(f"{base}/claim"),
                "stated": told(f"{base}/as_stated"),
                "corrected": told(f"{base}/corrected") if claim.get("corrected") and status != "holds" else None,
                "status": told(f"{base}/status"),
                "verdict": told(f"{base}/verdict"),
                "evidence": told(f"{base}/evidence"),
                "numbers": [n for n in numbers if n],
                "look": next((look for start, look in CHIPS.items() if status.startswith(start)), "open"),
            }
        )
    return claims


def experiment(story: Story) -> dict[str, Any] | None:
    """What an experiment asked and found: each quantity beside the range in which the claim would be true."""
    if not story.has("result.json"):
        return None
    records, rows, told = story.records, [], []
    for trial in story.trials():
        style = "percent" if trial.style == "percent" else "short3"
        true = between(*(records.number(f"{trial.source}/{end}", style) for end in ("low", "high")))
        rows.append([trial.name, trial.asked, trial.quantity, true, trial.measured, Sentence(trial.outcome)])
        told.append(records.text(f"{trial.source}/sentence"))
    headings = {"of": True, "asked": True, "quantity": True, "true in": False, "measured": False, "outcome": True}
    once = {sentence.value: sentence for sentence in told if sentence}  # a trial may speak to several claims
    return {"told": list(once.values()), "table": table("experiment", headings, rows)}


def runs(story: Story) -> Table | None:
    """Every finished run, diverged ones too."""
    if not story.runs:
        return None
    fields = [name for name in RUN_COLUMNS if any(value is not None for value in story.run_values(name))]
    words = {name for name in fields if RUN_COLUMNS[name][1] == "text" and name != "seed"}

    def cell(run: str, name: str) -> Cited | None:
        style = RUN_COLUMNS[name][1]
        source = f"{run}#/{name}"
        return story.records.text(source) if style == "text" else story.records.number(source, style)

    rows = [[cell(run, name) for name in fields] for run in story.runs]
    return Table("runs", [(RUN_COLUMNS[name][0], name in words) for name in fields], rows)


def command(story: Story) -> Sentence | None:
    """Return the command that makes the folder again, from what the folder says of itself."""
    told = story.records.text
    for file in ("provenance.json", "result.json"):
        if story.has(file):
            return say("{whole}", whole=told(f"{file}#/command"))
    options = [
        say(f"--{name} {{value}}", value=told(f"probe.json#/{name}"))
        for name in ("limit", "context", "queries", "nulls", "seed", "dtype", "revision")
    ]
    asked = story.records.values("probe.json#/instruments/*")
    names = [told(f"probe.json#/instruments/{i}") for i in range(len(asked))]
    return say(
        "memscape probe {model} --corpus {corpus} {options}",
        model=told("probe.json#/model"),
        corpus=told("profile.json#/corpus/spec") or told("profile.json#/corpus/name"),
        options=join(" ", [*options, say("--instruments {names}", names=join(",", names))]),
    )


def provenance(story: Story) -> list[tuple[str | Cited, list[tuple[Sentence, Any]]]]:
    """Return what the folder's own files say of settings, versions, seeds, time and machine; other files come last."""
    titles = {
        "study.json#": "Study",
        "provenance.json#": "Versions",
        "result.json#/versions": "Versions",
        "probe.json#": "Probe",
        "timing.json#": "Time and machine (times in seconds)",
    }
    shown = {source.split("#")[0] for source in titles}
    others = [f"{file}#" for file in story.records.files if "/" not in file and file not in (*shown, *TOLD)]
    found = [
        (titles.get(at) or Cited(at[:-1], at[:-1], "file"), list(_leaves(story, at, story.records.first(at) or {}, [])))
        for at in (*titles, *others)
    ]
    return [(title, facts) for title, facts in found if facts]


def _leaves(story: Story, source: str, content: dict[str, Any], names: list[Any]) -> Iterator[tuple[Sentence, Any]]:
    """Yield the single and the measured values below `content` with their names; long tables belong to their files."""
    for key, value in content.items() if len(content) <= LONGEST_FACTS else ():
        at = f"{source}/{step(key)}"
        path = [*names, named(key, at)]
        if isinstance(value, dict) and not {"value", "unit"} <= set(value):
            yield from _leaves(story, at, value, names if key.endswith("seconds") else path)
        elif not isinstance(value, list):
            whole, style = not isinstance(value, dict | float), "sig2" if isinstance(value, float) else "sig3"
            fact = story.records.text(at) if whole else story.records.measured(at, style)
            if fact and (name := join(" ", path)):
                yield name, fact

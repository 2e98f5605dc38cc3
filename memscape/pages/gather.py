"""What does this folder hold? Reads the result files of any memscape folder, whole study or a single part of one.

Every file is optional. One that cannot be read as JSON is named on the page instead of stopping it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memscape.errors import FolderError
from memscape.pages.citation import Cited, Measure, Records, step

PATTERNS = ("*.json", "runs/*/result.json", "probe/*/profile.json")
"""Where results lie in a folder; `verdict.json` is what a report itself writes."""
RUNS = "runs/*/result.json"
OWN = "verdict.json"
PICTURE = "figure.svg"


class Tried(NamedTuple):
    """One quantity that an experiment measured."""

    source: str
    name: Cited
    """The claim it speaks to, or the question's own name."""
    asked: Cited | None
    """What was written down before the run, in a sentence."""
    quantity: Cited | None
    measured: Measure | None
    style: str
    """How its numbers are shown."""
    outcome: str
    """In a word, or empty."""
    of_claim: bool


@dataclass(frozen=True)
class Story:
    """A folder's results as the page tells them."""

    records: Records
    profiles: tuple[str, ...]
    """Paths of the probe profiles, in the order of their names."""
    runs: tuple[str, ...]
    """Paths of the finished runs, in the order of their names."""
    damaged: tuple[str, ...]
    """Files that were there but could not be read."""
    picture: bytes | None = None
    """The drawing of an experiment, an SVG."""

    def has(self, file: str) -> bool:
        return file in self.records.files

    def law(self, name: str) -> str | None:
        """Return the source of a fitted law, or None where it was not fitted."""
        source = f"fit.json#/laws/{name}"
        return source if self.records.has(source) else None

    def capacity(self) -> str | None:
        """Return the source of the fitted bits per parameter, by its unit."""
        law = self.law("capacity")
        params = self.records.first(f"{law}/params") if law else None
        for name, value in (params or {}).items():
            if isinstance(value, dict) and str(value.get("unit", "")).startswith("bits/param"):
                return f"{law}/params/{name}"
        return None

    def trials(self) -> list[Tried]:
        """Return what an experiment measured; what speaks to a claim comes first."""
        found = []
        for id, trials in (self.records.first("result.json#/claims") or {}).items():
            source = f"result.json#/claims/{step(id)}"
            found += [self._tried(f"{source}/{i}", Cited(id, source, "key"), True) for i in range(len(trials))]
        questions = self.records.first("result.json#/questions") or {}
        places = {name: f"result.json#/questions/{step(name)}" for name in questions}
        return found + [self._tried(source, Cited(name, source, "key"), False) for name, source in places.items()]

    def _tried(self, source: str, name: Cited, of_claim: bool) -> Tried:
        records, quantity = self.records, self.records.text(f"{source}/quantity")
        words = [str(records.first(f"{source}/measured/unit")), str(quantity)]
        share = any(text.startswith("share") for text in words)
        written = "criteria.json#/criteria"
        asked = {c.get("quantity"): f"{written}/{i}/sentence" for i, c in enumerate(records.first(written) or [])}
        return Tried(
            source, name, records.text(asked.get(quantity and quantity.value, "")), quantity,
            records.measured(f"{source}/measured", style := "percent" if share else "sig3"), style,
            str(records.first(f"{source}/outcome") or "").removeprefix("empirical: "), of_claim,
        )  # fmt: skip

    def run_values(self, name: str) -> list:
        """Return one value of every finished run, in the order of `runs`."""
        return self.records.values(f"{RUNS}#/{name}")

    def model(self, profile: str) -> Cited | None:
        return self.records.text(f"{profile}#/model/name")

    def corpus(self) -> Cited | None:
        """Return the name of the text the folder is about."""
        places = [f"{p}#/corpus/name" for p in self.profiles] + [f"{p}#/corpus" for p in self.runs[:1]]
        return next((text for place in places if (text := self.records.text(place))), None)


def gather(folder: Path) -> Story:
    """Return the story of `folder`; a folder without a single result file is a `FolderError`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FolderError(
            f"expected a result folder, found none at {folder}; run `memscape study --out {folder}` first."
        )
    files: dict[str, Any] = {}
    damaged = []
    for path in sorted({path for pattern in PATTERNS for path in folder.glob(pattern)}):
        name = path.relative_to(folder).as_posix()
        if name == OWN:
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError):
            content = None
        if isinstance(content, dict):
            files[name] = content
        else:
            damaged.append(name)
    runs = tuple(name for name in files if name.startswith("runs/"))
    profiles = tuple(name for name in files if name.rsplit("/", 1)[-1] == "profile.json")
    if not files:
        raise FolderError(
            f"expected results in {folder} (fit.json, probe/*/profile.json, runs/*/result.json, ...), found none "
            f"that can "
            f"be read; run `memscape study --out {folder}` or another memscape command first."
        )
    drawing = folder / PICTURE
    return Story(Records(files), profiles, runs, tuple(damaged), drawing.read_bytes() if drawing.is_file() else None)

"""A plan: which runs, grouped into which packs, and what they will cost before anything starts.

    plan = recipes.laptop("book.txt")
    print(plan)                 axes, runs, packs
    print(plan.price())         tokens, FLOPs, memory, seconds on this machine

Runs of one shape and one schedule are trained side by side as a pack. Which run lies in which pack is part of the
plan, so that a sweep killed at any moment goes on with the same packs.
"""

import html
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from memscape.data import open_corpus, split_corpus
from memscape.errors import PlanError
from memscape.folder import read_json
from memscape.models.config import ModelConfig
from memscape.training.config import RunConfig


class Pack(BaseModel):
    """Runs trained side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pack_id: str
    """Name of the pack and of its folder."""
    run_ids: tuple[str, ...]
    """Its members, in the order of the pack axis."""


class Axes(BaseModel):
    """What a sweep varies and why (after Godbole et al., Deep Learning Tuning Playbook)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scientific: dict[str, tuple[Any, ...]] = {}
    """The axes the question is about."""
    nuisance: dict[str, tuple[Any, ...]] = {}
    """Axes that must be optimised or averaged over for a fair comparison."""
    fixed: dict[str, Any] = {}
    """What is held constant, and so limits the conclusions."""


class Plan(BaseModel):
    """A recipe carried out: every run in full, grouped into packs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The recipe's name."""
    axes: Axes
    """What varies, and in which role."""
    runs: tuple[RunConfig, ...]
    """Every run."""
    packs: tuple[Pack, ...]
    """Every run in exactly one pack."""

    @model_validator(mode="after")
    def _each_run_once(self) -> "Plan":
        n_twice = len(self.runs) - len(self.by_id)
        if n_twice:
            raise PlanError(f"plan {self.name!r} names {n_twice} runs twice; give each its own run_id.")
        if sorted(run_id for pack in self.packs for run_id in pack.run_ids) != sorted(self.by_id):
            raise PlanError(f"plan {self.name!r} must hold every run in exactly one pack; use Plan.of(runs).")
        for pack in self.packs:
            if len({run.shape for run in self.members(pack)}) > 1:
                raise PlanError(
                    f"pack {pack.pack_id} mixes shapes or schedules; only rates, seeds and data may differ."
                )
        return self

    @classmethod
    def of(cls, runs: Iterable[RunConfig], *, name: str, axes: Axes | None = None, pack_size: int = 16) -> "Plan":
        """Return the plan of some runs: those of one shape and schedule share packs of at most `pack_size` members.

        The longest packs come first, so that workers finish together.
        """
        runs = tuple(runs)
        if not runs:
            raise PlanError(f"plan {name!r} holds no run; give at least one.")
        groups: dict[tuple, list[RunConfig]] = {}
        for run in runs:
            groups.setdefault(run.shape, []).append(run)
        members = [
            group[start : start + pack_size] for group in groups.values() for start in range(0, len(group), pack_size)
        ]
        members.sort(key=lambda group: -sum(run.flops for run in group))
        packs = tuple(
            Pack(pack_id=f"{i:03d}-d{group[0].model.d_model}x{len(group)}", run_ids=tuple(r.run_id for r in group))
            for i, group in enumerate(members)
        )
        return cls(name=name, axes=axes or Axes(), runs=runs, packs=packs)

    @classmethod
    def grid(
        cls,
        name: str,
        models: Sequence[ModelConfig],
        n_tokens: Sequence[int],
        learning_rates: Sequence[float] | Callable[[ModelConfig], Sequence[float]],
        seeds: Sequence[int] = (0,),
        *,
        pack_size: int = 16,
        **fields: Any,
    ) -> "Plan":
        """Return every combination of model, data size, learning rate and seed.

        Args:
            models: the sizes, one configuration each.
            n_tokens: training-set sizes in unique tokens; smaller ones nest in larger ones.
            learning_rates: peak rates, the same for all models, or a function of the model.
            seeds: seeds of weights, order and dropout.
            fields: further fields of `RunConfig`, each a value or a function of (model, n_tokens): `steps` at least.
        """
        rates = learning_rates if callable(learning_rates) else lambda _: learning_rates

        def field(value: Any, model: ModelConfig, n: int) -> Any:
            return value(model, n) if callable(value) else value

        runs = [
            RunConfig(
                run_id=f"{m.family}-d{m.d_model}l{m.n_layers}-D{n}-lr{rate:.3g}-s{seed}",
                model=m, n_tokens=n, learning_rate=rate, seed=seed,
                **{name: field(value, m, n) for name, value in fields.items()},
            )
            for m, n in product(models, n_tokens)
            for rate, seed in product(rates(m), seeds)
        ]  # fmt: skip
        fixed = {name: value for name, value in fields.items() if not callable(value)}
        axes = Axes(
            scientific={"d_model": tuple(m.d_model for m in models), "n_tokens": tuple(n_tokens)},
            nuisance={"learning_rate": tuple(sorted({r.learning_rate for r in runs})), "seed": tuple(seeds)},
            fixed={"family": models[0].family, "seq_len": models[0].seq_len, **fixed},
        )
        return cls.of(runs, name=name, axes=axes, pack_size=pack_size)

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Return the plan of a sweep's folder, with the splits that running out of memory has forced since."""
        return cls.model_validate(read_json(Path(folder) / "plan.json"))

    @cached_property
    def by_id(self) -> dict[str, RunConfig]:
        """Runs by their names."""
        return {run.run_id: run for run in self.runs}

    def pack(self, pack_id: str) -> Pack:
        """Return the pack of that name."""
        return next(pack for pack in self.packs if pack.pack_id == pack_id)

    def members(self, pack: Pack) -> list[RunConfig]:
        """Return the runs of a pack in the order of its axis."""
        return [self.by_id[run_id] for run_id in pack.run_ids]

    def split(self, pack: Pack) -> tuple["Plan", list[str]]:
        """Return the plan with one pack halved, as running out of memory asks for, and the names of the halves."""
        if len(pack.run_ids) < 2:
            raise PlanError(f"pack {pack.pack_id} holds one run and still needs too much memory; lower its batch_size.")
        half = (len(pack.run_ids) + 1) // 2
        halves = [
            Pack(pack_id=f"{pack.pack_id}{letter}", run_ids=part)
            for letter, part in (("a", pack.run_ids[:half]), ("b", pack.run_ids[half:]))
        ]
        at = self.packs.index(pack)
        packs = (*self.packs[:at], *halves, *self.packs[at + 1 :])
        return self.model_copy(update={"packs": packs}), [half.pack_id for half in halves]

    def require(self) -> None:
        """Raise CorpusError if a text is missing or too short for its runs.

        Deduplication decides how much is left, so the split is made; a text fifty times as long needs no trial.
        """
        for run in {run.data: run for run in sorted(self.runs, key=lambda run: run.n_tokens)}.values():
            text = open_corpus(run.corpus)
            if text.kind != "random" and text.n_bytes < 50 * run.n_tokens:
                split_corpus(text, run.tokenizer, run.model.seq_len, run.data_seed, run.n_tokens)

    def price(self, *, device: str | None = None):
        """Return what the plan will cost, from a short calibration on this machine (see price.py)."""
        from memscape.training.price import price

        return price(self, device=device)

    def __str__(self) -> str:
        def values(value: Any) -> str:
            several = value if isinstance(value, tuple | list) else (value,)
            return ", ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in several)

        tokens, flops = sum(r.tokens_seen for r in self.runs), sum(r.flops for r in self.runs)
        head = f"{self.name}: {len(self.runs)} runs in {len(self.packs)} packs, {tokens:,} tokens, {flops:.3g} FLOPs"
        roles = [(role, axes) for role, axes in self.axes if axes]
        lines = [f"  {role}: " + "; ".join(f"{k} = {values(v)}" for k, v in axes.items()) for role, axes in roles]
        return "\n".join([head, *lines])

    def __repr__(self) -> str:
        return f"<Plan {self}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

"""Architecture: which parts of a transformer change its descent, its capacity and its radius?

The paper's theory has no skip or lateral connections, no mixture of experts, no relative positions and no sparse
attention, and its Remark 2 names normalisation. In theory a skip is a damped mean shift, soft experts are a weighted
union, and rotary positions leave the key norms alone. Here each variant is trained beside the same base, a GPT-2 shape:
on uniform random tokens, four bits of them per parameter of the base, for the bits it holds; and on text, for the
distance between its states and the share of steps in which the energy falls beyond the straight line. Beside each
stands the same variant with untrained weights: what it shows too, training did not make.
"""

import math
from itertools import product
from typing import Any, NamedTuple

from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over
from memscape.models import parameters, scaled
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates

V, FULL = 64, 4.0

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "experts": {"n_experts": 4},
    "skip": {"connection": "skip"},
    "lateral": {"connection": "lateral"},
    "bare": {"connection": "none"},
    "rotary": {"position": "rotary"},
    "alibi": {"position": "alibi"},
    "unplaced": {"position": "none"},
    "window": {"window": 8},
    "sparse": {"top_k": 4},
    "rms": {"norm": "rms"},
    "unnormed": {"norm": "none"},
}
"""Name -> what is changed in the base."""

IN_SMOKE = ("base", "experts", "bare")

SAME = 0.1
"""What differs from the base by less than this share is called unchanged."""

CRITERIA = tuple(
    criterion
    for name in VARIANTS
    if name != "base"
    for criterion in (
        Criterion(
            name=f"{name}-capacity", quantity=f"{name}: bits per parameter over those of the base", low=1 - SAME,
            high=1 + SAME, sentence="The variant holds as many bits per parameter, embeddings and experts counted.",
        ),
        Criterion(
            name=f"{name}-radius", quantity=f"{name}: distance to the nearest state over that of the base",
            low=1 - SAME, high=1 + SAME, sentence="Its states lie as far apart after the final norm.",
        ),
        Criterion(
            name=f"{name}-descent", quantity=f"{name}: excess of falling steps minus that of the base", low=-SAME,
            high=SAME, sentence="Its energy falls as often beyond the straight line.",
        ),
    )
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return every variant on random tokens and on text, some seeds each."""
    width, depth, length, batch, epochs, n_text, text_steps, n_seeds = {
        "smoke": (12, 2, 16, 16, 20, 16_384, 40, 1),
        "laptop": (24, 4, 32, 16, 100, 400_000, 400, 3),
        "gpu": (64, 4, 64, 128, 150, 4_000_000, 600, 4),
        "paper": (768, 12, 1_024, 16, 100, 400_000, 100_000, 3),
    }[setting.scale]
    runs = []
    names = IN_SMOKE if setting.scale == "smoke" else tuple(VARIANTS)
    base = scaled(width, V + 1, length, n_layers=depth)
    n_random = round(FULL * parameters(base).total / 6 / length) * length
    for name, seed in product(names, setting.seeds(n_seeds)):
        common = {"seed": seed, "data_seed": setting.seed, "learning_rate": rates(base, (0.7,))[0]}
        common |= {"evaluations": 4, "n_evaluated": 32 if setting.scale == "smoke" else 256, "warmup": 20}
        common |= {"batch_size": batch}
        runs += [
            RunConfig(
                run_id=f"{name}-random-s{seed}", model=scaled(width, V + 1, length, n_layers=depth, **VARIANTS[name]),
                corpus=f"random:{V}", tokenizer="ids", n_tokens=n_random,
                steps=max(80, round(epochs * n_random / (batch * length))), **common,
            ),
            RunConfig(
                run_id=f"{name}-text-s{seed}", model=scaled(width, 264, length, n_layers=depth, **VARIANTS[name]),
                corpus=setting.corpus, n_tokens=n_text, steps=text_steps, **common,
            ),
        ]  # fmt: skip
    return Plan.of(runs, name="architecture", pack_size=1 if setting.scale == "paper" else n_seeds)


class Shape(NamedTuple):
    """What a probe shows of one run, and of the same model with untrained weights."""

    radius: float
    """Median distance to the nearest state of another document after the final norm, halved."""
    excess: float
    """Share of steps in which the energy falls, beyond the straight line."""
    untrained_radius: float
    untrained_excess: float


def measure(work: Work) -> dict[str, Finding]:
    """Return how each variant differs from the base of the same seed."""
    bits: dict[str, dict[int, dict]] = {}
    shapes: dict[str, dict[int, Shape]] = {}
    for row in work.runs:
        name, kind = row["run_id"].split("-")[:2]
        if row["status"] != "diverged":
            if kind == "random":
                bits.setdefault(name, {})[row["seed"]] = row
            else:
                shapes.setdefault(name, {})[row["seed"]] = _shape(work, row["run_id"])
    found = {}
    for name in VARIANTS:
        if name != "base":
            found |= _compared(name, bits, shapes)
    return found


def _shape(work: Work, run_id: str) -> Shape:
    small = work.setting.scale == "smoke"
    size = 384 if small else 4_096
    profile = work.probe(
        run_id, instruments=("radius", "descent"), limit=size, nulls=size, queries=48 if small else 512
    )
    radius, descent = profile.layers[-1].radius, profile.descent or {}
    far = [m.value if m else math.nan for m in (radius and radius.trained, radius and radius.untrained)]
    falls = [descent[who]["excess"].value if descent.get(who) else math.nan for who in ("trained", "untrained")]
    return Shape(far[0], falls[0], far[1], falls[1])


def _compared(name: str, bits: dict[str, dict], shapes: dict[str, dict]) -> dict[str, Finding]:
    """Return the three findings of one variant; n = 0 where it was not trained at this scale."""
    mine, base = bits.get(name, {}), bits["base"]
    held = over([row["bits_per_param"] / base[s]["bits_per_param"] for s, row in mine.items() if s in base], "1")
    if not mine:
        return {
            f"{name}-{what}": Finding(held, f"{name} is not trained.") for what in ("capacity", "radius", "descent")
        }
    pairs = [(shape, shapes["base"][s]) for s, shape in shapes.get(name, {}).items() if s in shapes["base"]]
    radius = over([a.radius / b.radius for a, b in pairs], "1")
    fall = over([a.excess - b.excess for a, b in pairs], "share of steps")
    untrained = over([a.untrained_radius / b.untrained_radius for a, b in pairs], "1").value
    own = over([a.radius / a.untrained_radius for a, _ in pairs], "1").value
    falls = over([a.excess for a, _ in pairs], "1").value, over([a.untrained_excess for a, _ in pairs], "1").value
    one, other = (over([row["bits_per_param"] for row in rows.values()], "bits").value for rows in (mine, base))
    n, n_base = (next(iter(rows.values()))["n_params_total"] for rows in (mine, base))
    return {
        f"{name}-capacity": Finding(
            held,
            f"{name} holds {one:.3g} bits per parameter of {n:,}, the base {other:.2f} of {n_base:,}: "
            f"{one * n / (other * n_base):.3g} times its bits.",
        ),
        f"{name}-radius": Finding(
            radius,
            f"{name}: its states lie {radius.value:.2f} times as far apart as the base's, with untrained weights "
            f"{untrained:.2f} times; training takes its own distance to {own:.2f} times.",
        ),
        f"{name}-descent": Finding(
            fall,
            f"{name}: the share of steps in which its energy falls, minus that of the straight line, is "
            f"{falls[0]:.2g}, with untrained weights {falls[1]:.2g}; that is {fall.value:+.2g} compared with the base.",
        ),
    }


EXPERIMENT = Experiment(
    name="architecture",
    question="Which parts of a transformer change its descent, its capacity, its radius?",
    criteria=CRITERIA,
    minutes={"smoke": 0.5, "laptop": 9, "gpu": 10},
    plan=plan,
    measure=measure,
)

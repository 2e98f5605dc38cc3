"""Radius: do activations lie sqrt(n / 2πe) apart, at every width, and not only because any cloud does?

The paper takes the last-layer activations of GPT-2 medium (width 1024) on 80,000 or 100,000 chunks of OpenWebText and
finds nearest neighbours around 20 apart, "radius ≈ 10", near the predicted sqrt(1024 / 2πe) = 7.74; no table of values,
one model, one width. Independent Gaussian vectors have the same square-root law, and the final norm's gain sets the
scale. Here: GPT-2 shapes trained at several widths, real models beside them, distances across documents at 25 to 100 %
of the sample, before and after the gain is brought to rms 1, against the Gaussian of the same moments and untrained
weights; and a push test of the real basins. At gpu scale the text, some 67 MB, is seen once.
"""

import math
from typing import Any, NamedTuple

from memscape.errors import ModelError
from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over, slope, vocabulary
from memscape.folder import write_json
from memscape.instruments import Profile
from memscape.instruments.anatomy import dissect
from memscape.instruments.radius import predicted
from memscape.models import scaled
from memscape.models.pretrained import DEFAULT, load
from memscape.progress import say
from memscape.theory.measure import Measured
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates

RATIO = 2 * predicted(1)
"""Nearest-neighbour distance over sqrt(n) that the paper predicts: 2 / sqrt(2πe) = 0.4839."""

NEAR = 0.1
"""Ratios that differ by less than this share are called equal."""

CRITERIA = (
    Criterion(
        name="exponent", claim="C26", quantity="exponent of the distance in the width n, own models", low=0.4, high=0.6,
        fewest=4, sentence="The distance to the nearest neighbour over sqrt(n) is the same at all widths.",
    ),
    Criterion(
        name="ratio", claim="C26", quantity="|ln(distance over sqrt(n), over 0.484)|, all models", high=NEAR,
        sentence="That constant is 2 / sqrt(2πe) = 0.484.",
    ),
    Criterion(
        name="gain", claim="C26", quantity="the same, the final norm's gain brought to rms 1", high=NEAR,
        sentence="It is 0.484 also where the gain of the final norm is taken out.",
    ),
    Criterion(
        name="gaussian", quantity="|ln(distance over that of a Gaussian of the same mean and covariance)|", low=NEAR,
        sentence="Activations can be told from a Gaussian of the same moments by this distance.",
    ),
    Criterion(
        name="basins", quantity="states that return after a push by the claimed radius sqrt(n / 2πe)", low=0.9,
        sentence="The claimed radius is a basin of attraction.",
    ),
)  # fmt: skip


class Seen(NamedTuple):
    """What one model shows at its final norm."""

    name: str
    width: int
    own: bool
    distance: float
    """Median distance to the nearest state of another document."""
    gaussian: float
    untrained: float
    gain: float
    """rms of the final norm's gain."""
    returned: float
    """Share of states that return after the push nearest to the claimed radius."""


def plan(setting: Setting) -> Plan:
    """Return one GPT-2 shape at each of four widths or more."""
    widths, depth, length, n_tokens, batch, steps, tokenizer = {
        "smoke": ((12, 16, 24, 32), 2, 32, 32_768, 16, 60, "bytes"),
        "laptop": ((32, 48, 64, 96), 2, 64, 500_000, 16, 600, "bytes"),
        "gpu": ((128, 256, 384, 512, 768), 6, 256, 15_000_000, 64, 1_000, "bpe:4096"),
        "paper": ((768, 1_024, 1_280, 1_600), 24, 1_024, 9_000_000_000, 480, 18_300, setting.tokenizer),
    }[setting.scale]
    models = [scaled(width, vocabulary(tokenizer), length, n_layers=depth) for width in widths]
    return Plan.of(
        (
            RunConfig(
                run_id=f"d{model.d_model}-s{seed}", model=model, corpus=setting.corpus, tokenizer=tokenizer,
                n_tokens=n_tokens, data_seed=setting.seed, seed=seed, steps=steps, batch_size=batch,
                learning_rate=rates(model, (0.5 if model.d_model > 256 else 1.0,))[0], warmup=steps // 20,
                evaluations=2, n_evaluated=16,
            )
            for model in models
            for seed in setting.seeds(1)
        ),
        name="radius",
    )  # fmt: skip


def measure(work: Work) -> dict[str, Finding]:
    """Return how the distance grows with the width, what it is, and whether a Gaussian has the same."""
    big = work.setting.scale != "smoke"
    reading: dict[str, Any] = {
        "instruments": ("radius", "basins"), "limit": 4_096 if big else 512, "nulls": 4_096 if big else 512,
        "queries": 512 if big else 64,
    }  # fmt: skip
    found = [_seen(work, row["run_id"], True, reading) for row in work.runs]
    others = (work.setting.model or (f"stories260K,{DEFAULT}" if big else "stories260K")).split(",")
    for name in others:
        try:
            found.append(_seen(work, name, False, reading))
        except ModelError as problem:
            if work.setting.model:
                raise
            say(f"{problem} It is left out.")
    write_json(work.out / "models.json", {"models": [s._asdict() for s in found]})
    own = [s for s in found if s.own]
    grows = slope([math.log(s.width) for s in own], [math.log(s.distance) for s in own], "widths")
    of_gaussian = slope([math.log(s.width) for s in own], [math.log(s.gaussian) for s in own], "widths")
    ratio = over([abs(math.log(s.distance / math.sqrt(s.width) / RATIO)) for s in found], "1", "models")
    scaled_ratio = over([abs(math.log(s.distance / math.sqrt(s.width) / s.gain / RATIO)) for s in found], "1", "models")
    apart = over([abs(math.log(s.distance / s.gaussian)) for s in found], "1", "models")
    back = over([s.returned for s in found], "share of states", "models")
    if back.low is not None and back.high is not None:  # the t interval of a share knows no ends
        back = back.model_copy(update={"low": max(0.0, back.low), "high": min(1.0, back.high)})
    each = ", ".join(f"{s.name} ({s.width}) {s.distance / math.sqrt(s.width):.3f}" for s in found)
    nulls = ", ".join(f"{s.gaussian / math.sqrt(s.width):.3f}" for s in found)
    untrained = ", ".join(f"{s.untrained / math.sqrt(s.width):.3f}" for s in found)
    gains = ", ".join(f"{s.distance / math.sqrt(s.width) / s.gain:.3f}" for s in found)
    return {
        "exponent": Finding(
            grows,
            f"Over widths {', '.join(str(s.width) for s in own)} the distance grows as n to the {grows.value:.2f}, "
            f"that of a Gaussian of the same moments as n to the {of_gaussian.value:.2f}.",
        ),
        "ratio": Finding(ratio, f"Distance over sqrt(n): {each}; Gaussian {nulls}; untrained weights {untrained}."),
        "gain": Finding(scaled_ratio, f"With the gain of the final norm at rms 1: {gains}."),
        "gaussian": Finding(apart, f"The distance differs from the Gaussian's by {apart.value:.2f} in its logarithm."),
        "basins": Finding(
            back, f"Pushed at the last layer but one by the multiple of their distance nearest to sqrt(n / 2πe), "
            f"{back.value:.0%} of the states return.",
        ),
    }  # fmt: skip


def _seen(work: Work, model: str, own: bool, reading: dict[str, Any]) -> Seen:
    profile = work.probe(model, **reading)
    last = profile.layers[-1].radius
    assert last is not None
    assert last.trained is not None
    place = str(work.out / "runs" / model) if own else model
    norm = dissect(load(place).model).final_norm
    gain = 1.0 if norm is None else float(next(norm.parameters()).detach().square().mean().sqrt())
    width = int(profile.model["d_model"])
    nulls = [m.value if m is not None else math.nan for m in (last.inner_gaussian, last.untrained)]
    return Seen(
        str(profile.model["name"]), width, own, 2 * last.trained.value, 2 * nulls[0], 2 * nulls[1], gain,
        _returned(profile, width),
    )  # fmt: skip


def _returned(profile: Profile, width: int) -> float:
    """Return the share that returns from the push nearest to the claimed radius, at the last layer that was pushed."""
    if not profile.basins or not profile.basins["trained"]:
        return math.nan
    pushes = profile.basins["trained"][-1]["pushes"]
    push = min(pushes, key=lambda p: abs(math.log(p["rho"] / predicted(width))))
    returned: Measured = push["returned"]
    return returned.value


EXPERIMENT = Experiment(
    name="radius",
    question="Do activations lie sqrt(n / 2πe) apart at every width, unlike a Gaussian cloud?",
    criteria=CRITERIA,
    minutes={"smoke": 0.4, "laptop": 8, "gpu": 3},
    plan=plan,
    measure=measure,
)

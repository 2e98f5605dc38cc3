"""Capacity: does training store the samples as patterns, and how many bits of them can a model hold?

The paper's Assumption 1 says that pre-training stores all samples; it measures no memory. Uniform random tokens are the
clean case (Morris et al., arXiv 2505.24832): nothing can be learnt, so what a model saves on them it has memorised, and
bits against data size bend to a plateau where the model is full. Published: 3.5 to 3.8 bits per parameter, models of
0.1M to 20M parameters, a million steps. Here: GPT-2 shapes of 8k parameters and more, one learning rate by the rule of
`training.recipes`, each set repeated the same number of times; the control is the loss on random tokens never seen.
"""

from itertools import product

from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over
from memscape.laws import fit
from memscape.models import parameters, scaled
from memscape.theory.measure import Measured
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates

V, T = 64, 32

FITS, FULL = 0.5, 4.0
"""Bits of data per parameter at and below which a set should fit, and at and above which it cannot."""

CRITERIA = (
    Criterion(
        name="fits", claim="C9", quantity="share memorised of sets of half a bit per parameter", low=0.9,
        sentence="Sets well within capacity are stored whole.",
    ),
    Criterion(
        name="beyond", claim="C9", quantity="share memorised of sets of four bits per parameter and more", low=0.9,
        sentence="Sets beyond it are stored too, as Assumption 1 takes for granted.",
    ),
    Criterion(
        name="saturation", quantity="bits held of the largest set over bits held of half of it", low=0.85, high=1.15,
        sentence="More data bring no more bits: the models are full.",
    ),
    Criterion(
        name="linear", quantity="exponent g of capacity in N", low=0.85, high=1.15, fewest=8, widest=0.3,
        sentence="Capacity grows linearly in the number of parameters.",
    ),
    Criterion(
        name="bits", quantity="capacity, bits per parameter, embeddings counted", low=3.5, high=3.8, fewest=8,
        sentence="Models reach the published 3.5 to 3.8 bits per parameter.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return every width on sets of `ratios` bits per parameter of it, each repeated as often."""
    widths, ratios, epochs, n_seeds = {
        "smoke": ((12, 16), (FITS, 2.0, FULL), 60, 2),
        "laptop": ((12, 16, 24, 32), (FITS, 1.0, 2.0, FULL), 100, 2),
        "gpu": ((16, 24, 32, 48, 64, 96), (FITS, 1.0, 2.0, FULL, 2 * FULL), 600, 3),
        "paper": ((64, 128, 256, 512), (FITS, 1.0, 2.0, FULL, 2 * FULL, 4 * FULL), 4_000, 3),
    }[setting.scale]
    batch = {"gpu": 128, "paper": 64}.get(setting.scale, 32)
    runs = []
    for width, ratio, seed in product(widths, ratios, setting.seeds(n_seeds)):
        model = scaled(width, vocab_size=V + 1, seq_len=T)
        n_tokens = round(ratio * parameters(model).total / 6 / T) * T  # a token carries log2 V = 6 bits
        steps = max(200 if setting.scale == "smoke" else 600, round(epochs * n_tokens / (batch * T)))
        runs.append(
            RunConfig(
                run_id=f"d{width}-r{ratio:g}-s{seed}", model=model, corpus=f"random:{V}", tokenizer="ids",
                n_tokens=n_tokens, data_seed=setting.seed, seed=seed, steps=steps, batch_size=batch,
                learning_rate=rates(model, (1.0,))[0], warmup=50, evaluations=6, n_evaluated=512,
            )
        )  # fmt: skip
    return Plan.of(runs, name="capacity", pack_size=2 * n_seeds)


def measure(work: Work) -> dict[str, Finding]:
    """Return the share that is held within and beyond capacity, whether models are full, and the two fitted laws."""
    rows = [row for row in work.runs if row["status"] != "diverged"]
    ratio = {row["run_id"]: row["data_bits"] / row["n_params_total"] for row in rows}
    fits = [row for row in rows if ratio[row["run_id"]] < 1.1 * FITS]
    full = [row for row in rows if ratio[row["run_id"]] > 0.9 * FULL]
    within = over([row["memorised_share"] for row in fits], "1", "runs")
    beyond = over([row["memorised_share"] for row in full], "1", "runs")
    by_size: dict[tuple, list[tuple[float, float]]] = {}
    for row in rows:
        by_size.setdefault((row["n_params"], row["seed"]), []).append((row["data_bits"], row["memorised_bits"]))
    ends = [sorted(pairs)[-2:] for pairs in by_size.values()]
    saturation = over([last / max(before, 1) for (_, before), (_, last) in ends], "1", "models")
    settled = work.unsettled(full, "train_loss")
    linear, bits = (_fitted(work, law, name) for law, name in (("capacity-power", "g"), ("capacity", "c")))
    unseen = over([row["fresh_loss"] - row["uniform_loss"] for row in rows], "nats/token", "runs")
    n = len({row["n_params"] for row in rows})
    return {
        "fits": Finding(
            within, f"Of random sets of {FITS} bits per parameter the models hold {within.value:.0%} of the bits."
        ),
        "beyond": Finding(
            beyond,
            f"Of random sets of {FULL:g} bits per parameter and more they hold {beyond.value:.0%}: what does not fit "
            f"is not stored. On random tokens never seen they are {unseen.value:.2f} nats/token worse than guessing.",
        ),
        "saturation": Finding(
            saturation, f"Over {n} sizes the largest set leaves {saturation.value:.2f} times the bits of half of it."
        ),
        "linear": Finding(linear, f"Fitted over {n} sizes, capacity grows as N to the {linear.value:.2f}.", settled),
        "bits": Finding(
            bits,
            f"Models hold {bits.value:.2f} bits per parameter, embeddings counted; every set was repeated "
            f"{min(row['epochs'] for row in rows):.0f} times or more.",
            settled,
        ),
    }


def _fitted(work: Work, law: str, name: str) -> Measured:
    # Held-out loss of random tokens is no loss of a text: the law needs sizes, bits, and what tells runs apart.
    columns = (
        "n_params",
        "n_params_total",
        "n_tokens",
        "memorised_bits",
        "data_bits",
        "learning_rate",
        "seed",
        "status",
    )
    found = fit([{name: row[name] for name in columns} for row in work.runs], law)
    return found.params.get(name, Measured(value=0.0, unit="1", n=0))


EXPERIMENT = Experiment(
    name="capacity",
    question="Does training store its samples as patterns, and how many bits per parameter?",
    criteria=CRITERIA,
    minutes={"smoke": 0.3, "laptop": 6, "gpu": 3},
    plan=plan,
    measure=measure,
)

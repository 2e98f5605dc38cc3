"""Fractions: are held-out patterns among the stored ones, or does less data only mean more overfitting?

Version 1 of the paper trains GPT-2 small on 100, 1 and 0.1 % of OpenWebText and shows the cross-entropies (a figure,
removed in version 2; neither values nor hyperparameters are known). Its Assumption 2 puts held-out patterns into the
stored set: then held-out and training loss would agree. Here one GPT-2 shape is trained for the same number of steps on
100, 10, 1 and 0.1 % of a corpus. `fresh` chunks of the very same documents are the held-out text, beside the floor
ln d / T of each subset, and membership asks whether their states lie as near to the stored ones as members do. At gpu
scale it has the width and depth of GPT-2 small, sees the whole once, and needs some 67 MB of text.
"""

from itertools import product

from memscape.experiments.experiment import Criterion, Experiment, Finding, Setting, Work, over, vocabulary
from memscape.instruments.membership import membership_of_run
from memscape.models import scaled
from memscape.models.pretrained import load
from memscape.training import Plan, RunConfig
from memscape.training.recipes import rates

SHARES = {"whole": 1.0, "tenth": 0.1, "hundredth": 0.01, "thousandth": 0.001}
"""Arm -> share of the corpus."""

SAME = 0.05
"""Losses this near to each other, nats/token, are called equal."""

CRITERIA = (
    Criterion(
        name="whole", claim="C10", quantity="held-out minus training loss on the whole corpus", low=-SAME, high=SAME,
        fewest=2, sentence="Held-out text is known as well as trained text.",
    ),
    Criterion(
        name="hundredth", claim="C10", quantity="held-out minus training loss on 1 % of it", low=-SAME, high=SAME,
        fewest=2, sentence="The same, where the training set is repeated until it is memorised.",
    ),
    Criterion(
        name="nearest", claim="C10", quantity="AUROC of members by distance to stored states", low=0.4, high=0.6,
        fewest=8, sentence="States of held-out text lie as near to stored states as states of trained text.",
    ),
    Criterion(
        name="memorised", quantity="share memorised of 1 % of the corpus", low=0.8, fewest=2,
        sentence="The small subset is memorised.",
    ),
    Criterion(
        name="overfits", quantity="held-out loss at the end minus its lowest, on 1 %", low=SAME, fewest=2,
        sentence="Memorising it makes the model worse on text it has not seen.",
    ),
)  # fmt: skip


def plan(setting: Setting) -> Plan:
    """Return the arms of `SHARES`: one shape, the same steps, 100 to 0.1 % of the corpus."""
    width, n_tokens, length, batch, steps, tokenizer, n_seeds = {
        "smoke": (24, 49_152, 32, 16, 160, "bytes", 2),
        "laptop": (64, 700_000, 64, 32, 1_100, "bytes", 2),
        "gpu": (768, 12_000_000, 256, 64, 750, "bpe:4096", 2),
        "paper": (768, 9_000_000_000, 1_024, 480, 300_000, setting.tokenizer, 1),
    }[setting.scale]
    model = scaled(width, vocabulary(tokenizer), length)
    return Plan.of(
        (
            RunConfig(
                run_id=f"{arm}-s{seed}", model=model, corpus=setting.corpus, tokenizer=tokenizer,
                n_tokens=max(2 * length, round(share * n_tokens)), data_seed=setting.seed, seed=seed, steps=steps,
                batch_size=batch, learning_rate=rates(model, (0.5 if width > 256 else 1.0,))[0], warmup=steps // 20,
                evaluations=10, n_evaluated=64 if setting.scale == "smoke" else 256,
            )
            for (arm, share), seed in product(SHARES.items(), setting.seeds(n_seeds))
        ),
        name="fractions",
        pack_size={"gpu": 2, "paper": 1}.get(setting.scale, 4),
    )  # fmt: skip


def measure(work: Work) -> dict[str, Finding]:
    """Return the gaps between held-out and training loss, what is memorised, and where held-out states lie."""
    gap = {arm: over([r["fresh_loss"] - r["train_loss"] for r in work.arm(arm)], "nats/token") for arm in SHARES}
    one = {arm: work.arm(arm)[0] for arm in SHARES}
    held = over([r["memorised_share"] for r in work.arm("hundredth")], "1")
    worse = over([r["fresh_loss"] - r["best_fresh_loss"] for r in work.arm("hundredth")], "nats/token")
    tenth = load(str(work.out / "runs" / one["tenth"]["run_id"]), device=work.device)
    members = membership_of_run(tenth, seed=work.setting.seed, budget=work.budget)
    near, by_loss = members["scores"]["distance at final norm"], members["scores"]["loss"]
    losses = ", ".join(
        f"{100 * SHARES[arm]:g} % {r['train_loss']:.2f} and {r['fresh_loss']:.2f} (floor {r['floor']:.2f})"
        for arm, r in one.items()
    )
    whole = one["whole"]
    return {
        "whole": Finding(
            gap["whole"],
            f"Training and held-out loss of the first seed, by share of the corpus: {losses}; the whole was seen "
            f"{whole['epochs']:.1f} times.",
            None if whole["epochs"] >= 1 else "the corpus was not seen once",
        ),
        "hundredth": Finding(gap["hundredth"], f"On 1 % the gap is {gap['hundredth'].value:.2f} nats/token."),
        "nearest": Finding(
            near,
            f"Members of the tenth are told from held-out text by distance with AUROC {near.value:.2f}, by their loss "
            f"with {by_loss.value:.2f}, by their words alone with {members['control'].value:.2f}.",
        ),
        "memorised": Finding(held, f"Of 1 % of the corpus {held.value:.0%} of the bits are memorised."),
        "overfits": Finding(worse, f"Held-out loss on 1 % ends {worse.value:.2f} nats/token above its lowest."),
    }


EXPERIMENT = Experiment(
    name="fractions",
    question="Are held-out patterns stored too, or does a small share of the data only overfit?",
    criteria=CRITERIA,
    minutes={"smoke": 0.3, "laptop": 7, "gpu": 8},
    plan=plan,
    measure=measure,
)

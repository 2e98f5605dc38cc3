"""Grids of runs with a known truth: rows as `training` writes them, from a planted loss law and a planted frontier.

>>> write_grid(folder, gamma=1.0)      # folder/runs/<id>/result.json, 4 sizes x 5 data sizes x 3 rates x 2 seeds
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memscape.folder import write_json


@dataclass(frozen=True)
class Truth:
    """The planted laws: L = E + A/N^alpha + B/D^beta, and half memorised at N = coefficient * D^gamma."""

    E: float = 1.2
    A: float = 60.0
    B: float = 70.0
    alpha: float = 0.40
    beta: float = 0.35
    gamma: float = 1.0
    coefficient: float = 1.2
    sharpness: float = 1.6

    def fresh_loss(self, n_params, n_tokens):
        return self.E + self.A / np.asarray(n_params) ** self.alpha + self.B / np.asarray(n_tokens) ** self.beta

    def share(self, n_params, n_tokens):
        """Memorised share (1 + (2^p - 1)(D/D*)^p)^(-1/p): one half at D* = (N / coefficient)^(1/gamma)."""
        crossing = (np.asarray(n_params) / self.coefficient) ** (1 / self.gamma)
        p = self.sharpness
        return (1 + (2**p - 1) * (np.asarray(n_tokens) / crossing) ** p) ** (-1 / p)


LAPTOP_SIZES = (5_000, 14_000, 38_000, 100_000)
LAPTOP_DATA = (4_000, 8_000, 16_000, 32_000, 64_000)
WIDE_SIZES = (10_000, 30_000, 90_000, 270_000, 810_000, 2_400_000)
WIDE_DATA = tuple(4_000 * 3**k for k in range(8))


def rows(
    truth: Truth = Truth(),
    sizes=LAPTOP_SIZES,
    data_sizes=LAPTOP_DATA,
    rates=(1e-3, 3e-3, 1e-2),
    seeds=2,
    noise=0.003,
    seed_noise=0.0,
    share_noise=0.01,
    seed=0,
    seq_len=64,
    vocab_size=512,
    history=False,
) -> list[dict]:
    """Return run rows; noise is relative on losses (per run, and shared within a seed), absolute on the share."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, seed_noise, seeds) if seed_noise else np.zeros(seeds)
    found = []
    for n in sizes:
        for d in data_sizes:
            for r, rate in enumerate(rates):
                mistuned = 0.03 * abs(r - len(rates) // 2)
                for s in range(seeds):
                    fresh = float(truth.fresh_loss(n, d) * math.exp(mistuned + shared[s] + rng.normal(0, noise)))
                    floor = math.log(d / seq_len) / seq_len
                    share = float(np.clip(truth.share(n, d) - mistuned + rng.normal(0, share_noise), 0.001, 0.999))
                    train = fresh - share * (fresh - floor)
                    data_bits = d * (fresh - floor) / math.log(2)
                    bits = share * data_bits
                    width = max(8, round(math.sqrt(n / 24) / 8) * 8)
                    total = n + vocab_size * width
                    found.append(
                        {
                            "run_id": f"n{n}-d{d}-r{r}-s{s}", "family": "gpt2", "d_model": width, "n_layers": 2,
                            "n_heads": 2, "seq_len": seq_len, "vocab_size": vocab_size, "tokenizer": "bpe-512",
                            "corpus": "planted", "n_params": n, "n_params_total": total, "n_tokens": d,
                            "n_sequences": d // seq_len, "tokens_seen": 40 * d, "epochs": 40.0, "steps": 40 * d // 1024,
                            "learning_rate": rate, "weight_decay": 0.0, "dropout": 0.0, "seed": s, "data_seed": s,
                            "status": "finished", "train_loss": train, "train_loss_sem": 0.002, "fresh_loss": fresh,
                            "fresh_loss_sem": 0.01, "other_loss": fresh + 0.12, "other_loss_sem": 0.01, "floor": floor,
                            "uniform_loss": math.log(vocab_size), "n_eval_train": 256, "n_eval_fresh": 64,
                            "n_eval_other": 64, "memorised_bits": bits, "data_bits": data_bits,
                            "memorised_share": share, "bits_per_param": bits / total,
                            "extracted_share": max(0.0, 2 * share - 1), "flops": 6.0 * n * 40 * d,
                        }
                    )  # fmt: skip
                    if history:  # the loss law is met at 12 epochs; later the model overfits
                        best = {"best_fresh_loss": fresh, "best_fresh_epochs": 12.0}
                        found[-1] |= {"fresh_loss": fresh + share, **best}
    return found


def write_grid(folder: Path, truth: Truth | None = None, gamma: float = 1.0, **how) -> Path:
    """Write a planted grid as a result folder and return it."""
    for row in rows(truth or Truth(gamma=gamma), **how):
        write_json(Path(folder) / "runs" / row["run_id"] / "result.json", row)
    return Path(folder)


def chinchilla_shape(seed: int = 0, noise: float = 0.01) -> list[dict]:
    """Return 240 (N, D, loss) rows spread like the digitised Chinchilla runs, from Besiroglu et al.'s constants."""
    rng = np.random.default_rng(seed)
    n = np.exp(rng.uniform(math.log(4e7), math.log(1.6e10), 240))
    flop = np.exp(rng.uniform(math.log(6e18), math.log(3e21), 240))
    d = flop / 6 / n
    loss = (1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658) * np.exp(noise * rng.standard_t(3, 240))
    return [{"n_params": a, "n_tokens": b, "loss": c} for a, b, c in zip(n, d, loss, strict=True)]

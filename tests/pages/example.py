"""A result folder as a study leaves it, in miniature: planted laws, seeded noise, every file optional."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from memscape.folder import write_json

PARTS = ("study", "runs", "fit", "advice", "probe", "audit", "experiment", "recall")
SIZES = (5_120, 14_336, 36_864, 98_304)
TOKENS = (4_096, 8_192, 16_384, 32_768, 65_536)
VOCAB = 512
BITS = 2.5
TEXT = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want "
    "of a wife. "
    "In 1813 <b>nobody</b> & no one minded: \u201cMy dear Mr. Bennet,\u201d said his lady to him one day, "
    "\u201chave you heard?\u201d"
)


def measured(
    value: float, unit: str, n: int, half: float, interval: str = "95 % bootstrap over 12 documents"
) -> dict[str, Any]:
    """A `Measured` as JSON."""
    return {"value": value, "unit": unit, "n": n, "low": value - half, "high": value + half, "interval": interval}


def make(
    folder: Path, parts: tuple[str, ...] = PARTS, runs: int = 0, cannot_tell: bool = False, inside_grid: bool = False
) -> Path:
    """Write `parts` of a study into `folder`; `runs` asks for more runs by more seeds than the grid's own twenty."""
    rng = np.random.default_rng(0)
    rows = _runs(rng, max(1, math.ceil(runs / (len(SIZES) * len(TOKENS)))))
    if "runs" in parts:
        for row in rows:
            write_json(folder / "runs" / row["run_id"] / "result.json", row)
    if "fit" in parts:
        write_json(folder / "fit.json", _fit(rows, cannot_tell))
    if "advice" in parts:
        write_json(folder / "advice.json", _advice(inside_grid))
    if "probe" in parts:
        write_json(folder / "probe" / "SmolLM2-135M" / "profile.json", _profile(rng))
        write_json(folder / "trajectory.json", _trajectory())
    if "audit" in parts:
        write_json(folder / "audit.json", {"claims": _CLAIMS})
    if "experiment" in parts:
        write_json(folder / "result.json", _EXPERIMENT)
        write_json(folder / "criteria.json", {"criteria": [{"quantity": _TRIAL["quantity"], "sentence": _ASKED}]})
        (folder / "figure.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    if "recall" in parts:
        write_json(folder / "recall.json", _recall())
    if "study" in parts:
        write_json(
            folder / "study.json",
            {"recipe": "laptop", "model": "SmolLM2-135M", "corpus": {"name": "sample", "sha256": "ab" * 32}},
        )
        write_json(
            folder / "provenance.json",
            {
                "command": "memscape study --recipe laptop --out runs/book",
                "versions": {"memscape": "0.1.0", "torch": "2.13.0"},
            },
        )
        write_json(
            folder / "timing.json",
            {"machine": {"cores": 2, "cpu": "Xeon 6975P"}, "seconds": {"probe": 91.2, "sweep": 148.75}},
        )
    return folder


def _runs(rng: np.random.Generator, seeds: int) -> list[dict[str, Any]]:
    rows = []
    for seed in range(seeds):
        for size in SIZES:
            for tokens in TOKENS:
                data_bits = tokens * 2.1 / math.log(2)
                memorised = (data_bits**-3 + (BITS * size) ** -3) ** (-1 / 3) * (1 + 0.03 * rng.standard_normal())
                fresh = 2.1 + 90 / size**0.5 + 300 / tokens**0.6 + 0.02 * rng.standard_normal()
                train = fresh - memorised * math.log(2) / tokens
                rows.append(
                    {
                        "run_id": f"gpt2-n{size}-d{tokens}-s{seed}",
                        "family": "gpt2",
                        "d_model": 32,
                        "n_layers": 2,
                        "n_heads": 2,
                        "seq_len": 64,
                        "vocab_size": VOCAB,
                        "tokenizer": "bpe-512",
                        "corpus": "sample",
                        "n_params": size,
                        "n_params_total": size + VOCAB * 32,
                        "n_tokens": tokens,
                        "n_sequences": tokens // 64,
                        "tokens_seen": 12 * tokens,
                        "epochs": 12.0,
                        "steps": 12 * tokens // 1024,
                        "learning_rate": 3e-3,
                        "weight_decay": 0.0,
                        "dropout": 0.0,
                        "seed": seed,
                        "data_seed": 0,
                        "status": "finished",
                        "train_loss": train,
                        "train_loss_sem": 0.012,
                        "fresh_loss": fresh,
                        "fresh_loss_sem": 0.02,
                        "other_loss": fresh + 0.12,
                        "other_loss_sem": 0.02,
                        "floor": math.log(tokens // 64) / 64,
                        "uniform_loss": math.log(VOCAB),
                        "memorised_bits": memorised,
                        "data_bits": data_bits,
                        "memorised_share": min(1.0, memorised / data_bits),
                        "bits_per_param": memorised / size,
                        "extracted_share": 0.4 * min(1.0, memorised / data_bits),
                        "flops": 6.0 * size * 12 * tokens,
                    }
                )
    rows[-1] |= {
        "status": "diverged",
        "fresh_loss": None,
        "train_loss": None,
        "memorised_bits": 0.0,
        "memorised_share": None,
    }
    return rows


def _fit(rows: list[dict[str, Any]], cannot_tell: bool) -> dict[str, Any]:
    gamma, half = (1.62, 0.55) if cannot_tell else (1.06, 0.14)
    grid = np.geomspace(3e3, 2e5, 24)
    frontier = 0.9 * grid**gamma / 8_000 ** (gamma - 1)
    spread = np.exp(half * np.abs(np.log(grid / 16_000)) / 2 + 0.08)
    anchor = 0.9 * 16_000**gamma / 8_000 ** (gamma - 1)
    references = [
        {
            "label": label,
            "x": grid.tolist(),
            "y": (anchor * (grid / 16_000) ** slope).tolist(),
            "slope": slope,
            "inside": abs(slope - gamma) < half,
        }
        for label, slope in (
            ("1 storage", 1.0),
            ("1.35 Kaplan", 1.35),
            ("2 Niu et al., frozen", 2.0),
            ("4 Niu et al., width", 4.0),
        )
    ]
    inside = [str(r["slope"]) for r in references if r["inside"]]
    told = (
        f"cannot tell {' from '.join(inside)}"
        if len(inside) > 1
        else f"{inside[0]} lies inside the interval, 2 does not."
    )
    fitted = lambda r: 2.1 + 90 / r["n_params"] ** 0.5 + 300 / r["n_tokens"] ** 0.6  # noqa: E731
    kept = [r for r in rows if r["fresh_loss"] is not None]
    loss = {
        "x": "unique training tokens",
        "y": "held-out loss (nats/token)",
        "points": [
            {
                "x": r["n_tokens"],
                "y": r["fresh_loss"],
                "n_params": r["n_params"],
                "residual": math.log(r["fresh_loss"] / fitted(r)),
                "runs": [r["run_id"]],
            }
            for r in kept
        ],
        "lines": [
            {
                "label": f"{s} parameters",
                "x": grid.tolist(),
                "y": [2.1 + 90 / s**0.5 + 300 / d**0.6 for d in grid],
                "n_params": s,
            }
            for s in SIZES
        ],
        "references": [],
    }
    good = {"name": "converged", "sentence": f"{len(kept)} points, 5 parameters."}
    laws = {
        "frontier": {
            "law": "frontier",
            "formula": "N = c D^gamma",
            "source": "this grid",
            "target": "memorised_share",
            "params": {
                "c": measured(0.9, "parameters/token^gamma", 4, 0.3, "95 % t interval"),
                "gamma": measured(gamma, "1", 4, half, "95 % t interval"),
            },
            "outcome": {"name": "converged", "sentence": "4 crossings of half the text memorised."},
            "n": 4,
            "objective": 0.01,
            "verdict": f"gamma = {gamma:.2f} [{gamma - half:.2f}, {gamma + half:.2f}]: {told}",
            "curve": {
                "x": "unique training tokens",
                "y": "parameters (no embeddings)",
                "points": [
                    {
                        "x": float(d),
                        "y": float(0.9 * d**gamma / 8_000 ** (gamma - 1) * f),
                        "x_low": 0.8 * d,
                        "x_high": 1.25 * d,
                    }
                    for d, f in ((4_800, 1.04), (12_500, 0.94), (33_000, 1.07), (79_000, 0.97))
                ],
                "lines": [
                    {
                        "label": "fit",
                        "x": grid.tolist(),
                        "y": frontier.tolist(),
                        "low": (frontier / spread).tolist(),
                        "high": (frontier * spread).tolist(),
                    }
                ],
                "references": references,
            },
        },
        "chinchilla": {
            "law": "chinchilla",
            "formula": "L = E + A/N^alpha + B/D^beta",
            "source": "Hoffmann et al. 2022",
            "target": "fresh_loss",
            "params": {
                "E": measured(2.1, "nats/token", len(kept), 0.2, "95 % profile"),
                "alpha": measured(0.5, "1", len(kept), 0.08, "95 % profile"),
                "beta": measured(0.6, "1", len(kept), 0.05, "95 % profile"),
            },
            "outcome": good,
            "n": len(kept),
            "objective": 0.002,
            "noise": 0.008,
            "curve": loss,
        },
        "capacity": {
            "law": "capacity",
            "formula": "M = (b^-p + (cN)^-p)^(-1/p)",
            "source": "Morris et al. 2025",
            "target": "memorised_bits",
            "params": {"c": measured(BITS, "bits/parameter", len(kept), 0.14, "95 % profile")},
            "outcome": good,
            "n": len(kept),
            "noise": 0.03,
            "curve": {"x": "bits of training data", "y": "bits memorised", "points": [], "lines": [], "references": []},
        },
    }
    ranking = [
        {
            "law": law,
            "about": "loss",
            "heldout_error": error,
            "largest_size_error": error,
            "n_heldout": 8,
            "aic": -80 + 900 * error,
            "bic": -76 + 900 * error,
            "n_params": n,
        }
        for law, error, n in (
            ("chinchilla", 0.011, 5),
            ("kaplan", 0.034, 4),
            ("repeated", 0.014, 6),
            ("broken", 0.019, 7),
        )
    ]
    return {
        "table": {"source": "runs", "rows": len(kept)},
        "laws": laws,
        "ranking": ranking,
        "next_runs": [],
        "sentence": f"On {len(kept)} runs chinchilla predicts best, and the frontier has exponent {gamma}.",
    }


def _advice(inside_grid: bool) -> dict[str, Any]:
    sizes = np.geomspace(1e4, 1e8, 30)
    loss = 2.1 + 90 / sizes**0.5 + 300 / 3e6**0.6 + (sizes / 3e8) ** 0.8
    return {
        "tokens": 3_000_000,
        "epochs_max": 40.0,
        "recommended": {
            "n_params": measured(4_210_000, "parameters", 19, 1_300_000, "95 % bootstrap over cells"),
            "epochs": measured(6.0, "epochs", 19, 2.0),
            "fresh_loss": measured(2.183, "nats/token", 19, 0.09),
            "train_loss": measured(1.9, "nats/token", 19, 0.08),
            "floor": measured(0.167, "nats/token", 1, 0.0),
            "memorised_share": measured(0.31, "share", 19, 0.08),
        },
        "memorise": {"n_params": measured(3.1e7, "parameters", 19, 6e6), "bits": measured(9.09e6, "bits", 19, 2e5)},
        "cost": {"flops": {"value": 4.5e14, "unit": "FLOPs", "n": 1, "low": None, "high": None, "interval": "none"}},
        "extrapolation": {
            "factor": 1.0 if inside_grid else 45.8,
            "sentence": "" if inside_grid else "The text is 45.8 times larger than the largest data size of the grid.",
        },
        "changes": [
            "With 10 times the text the size would grow to 39 M parameters.",
            "With 1 epoch only we would train 1.2 M parameters.",
        ],
        "next_runs": [
            {
                "n_params": 98_304,
                "n_tokens": 262_144,
                "quantity": "gamma",
                "shrink": 0.5,
                "sentence": "size 98.3k at data sizes around 262k would narrow gamma to 50 % of its interval.",
            }
        ],
        "sentence": "Train 4.21 M parameters for 6 epochs.",
        "curve": {
            "x": "parameters (no embeddings)",
            "y": "held-out loss (nats/token)",
            "points": [],
            "references": [],
            "lines": [
                {
                    "label": "expected",
                    "x": sizes.tolist(),
                    "y": loss.tolist(),
                    "low": (loss - 0.1).tolist(),
                    "high": (loss + 0.1).tolist(),
                }
            ],
        },
    }


def _attention(rng: np.random.Generator) -> dict[str, Any]:
    share = lambda value: measured(value, "share", 16, 0.01)  # noqa: E731
    heads = [
        {
            "layer": layer,
            "head": head,
            "agreement_rest": share(float(rng.uniform(0, 0.4))),
            "effective": share(float(rng.uniform(0.01, 0.9))),
            "regime": str(rng.choice(["single pattern", "metastable", "global average"])),
        }
        for layer in range(1, 31)
        for head in range(1, 10)
    ]
    counts = {"single pattern": 90, "metastable": 120, "global average": 60}
    return {"heads": heads, "chance": share(0.02), "regimes": counts, "untrained": counts}


def _basins() -> dict[str, Any]:
    def sites(scale: float) -> list[dict[str, Any]]:
        return [
            {
                "site": f"layer {layer}",
                "radius": 3.5,
                "pushes": [
                    {
                        "factor": factor,
                        "rho": 3.5 * factor,
                        "contraction": measured(scale * factor**0.1, "ratio", 16, 0.02),
                        "returned": measured(1 / (1 + factor**2), "share of states", 16, 0.05),
                    }
                    for factor in (0.25, 0.5, 1, 2, 4)
                ],
            }
            for layer in (6, 18, 30)
        ]

    return {"trained": sites(0.7), "untrained": sites(0.95), "predicted": 5.8}


def _extraction() -> dict[str, Any]:
    return {
        "prompt": 50,
        "extractable": measured(0.031, "share of 50-token windows", 32, 0.02),
        "right": measured(0.41, "share of tokens", 32, 0.03),
        "longest_span": 64,
        "spans": [
            {"title": "Emma, 1815", "length": 64, "before": "Emma <i>", "text": "Woodhouse, handsome, clever & 21"}
        ],
        "canaries": [
            {"canary": "My card is {4917}.", "exposure": measured(2.9, "bits", 1000, 0.2), "rank": 135, "most": 26.6}
        ],
        "reference": {
            "extractable": measured(0.0, "share of 50-token windows", 32, 0.0),
            "below": measured(0.6, "AUROC", 32, 0.1),
        },
        "cannot_say": ["Greedy decoding over 50 tokens gives a lower bound."],
    }


def _recall() -> dict[str, Any]:
    success = [measured(value, "share of cues", 16, 0.05, "95 % bootstrap over 16 networks") for value in (0.9, 0.2)]
    curve = {"memory": "dense", "flipped": 0.1, "load": [0.03, 0.09], "n_patterns": [30, 90], "success": success}
    return {
        "curves": [curve | {"n": 40}, curve | {"n": 60}, {"memory": "classical", "n": 500, "load": [], "success": []}],
        "capacity": {"dense": measured(1.9, "1", 3, 0.2)},
        "theory": {"dense": "a multiple of n^2"},
        "sentence": "Half of the cues return: dense up to n^1.900.",
        "left": 6,
    }


def _trajectory() -> dict[str, Any]:
    radius = [measured(3.0 + i, "distance", 16, 0.2) for i in range(3)]
    return {
        "model": "runs/book-d32",
        "sites": ["embedding", "layer 1", "final norm"],
        "checkpoints": [
            {
                "name": f"step {step}",
                "loss": measured(4.0 - step / 1000, "nats/token", 16, 0.1),
                "layers": {"radius": radius},
            }
            for step in (100, 400)
        ],
    }


def _profile(rng: np.random.Generator) -> dict[str, Any]:
    depth = np.arange(0, 31)
    shape = np.exp(2.6 + 2.4 * np.sin(np.pi * (depth / 33) ** 1.3)) / 2
    layers = []
    for d in depth:
        trained = float(shape[d] * (1 + 0.03 * rng.standard_normal()))
        last = d == 30
        trained = 11.5 if last else trained
        radius = {
            "trained": measured(trained, "distance", 16, 0.06 * trained, "95 % bootstrap over 16 documents"),
            "untrained": measured(13.5 if last else 5 + 0.4 * float(d), "distance", 16, 0.3),
            "gaussian": measured(17.0 if last else 2.4 * trained, "distance", 16, 0.4),
            "predicted": math.sqrt(576 / (2 * math.pi * math.e)),
        }
        twins = 0.76 * math.exp(-float(d))
        duplicates = {
            "trained": measured(twins, "share of states", 16, 0.01),
            "untrained": measured(twins, "share of states", 16, 0.01),
            "gaussian": measured(0.0, "share of states", 16, 0.0),
        }
        energy = {
            "trained": measured(0.62 - 0.013 * float(d), "spread", 16, 0.02),
            "untrained": measured(0.55, "spread", 16, 0.01),
            "gaussian": measured(0.9, "spread", 16, 0.01),
        }
        layers.append(
            {
                "site": "final norm" if last else f"layer {d}" if d else "embedding",
                "depth": int(d),
                "radius": radius,
                "energy": energy if d else {"trained": None, "reason": "twins"},
                "duplicates": duplicates,
                "spread": trained**2,
            }
        )
    x = np.linspace(-3, 3, 41)
    gx, gy = np.meshgrid(x, x)
    points = [(-1.2, -0.6), (1.3, -0.4), (0.0, 1.4)]
    distances = np.stack([(gx - a) ** 2 + (gy - b) ** 2 for a, b in points])
    energy = -np.log(np.exp(-2.2 * distances).sum(0)) / 2.2
    pieces = [piece + " " for piece in TEXT.split(" ")]
    loss = [None, *np.round(np.abs(rng.gamma(1.2, 2.2, len(pieces) - 1)), 4).tolist()]
    return {
        "model": {
            "name": "SmolLM2-135M",
            "n_params": 106_203_456,
            "d_model": 576,
            "n_layers": 30,
            "vocab_size": 49_152,
            "weights": "4-bit, dequantised",
        },
        "corpus": {"name": "32 public-domain books", "sha256": "ab" * 32, "n_documents": 32, "n_tokens": 20_480},
        "loss": {
            "mean": measured(3.365, "nats/token", 16, 0.21),
            "shuffled": measured(6.921, "nats/token", 16, 0.12),
            "uniform": math.log(49_152),
        },
        "layers": layers,
        "attention": _attention(rng),
        "basins": _basins(),
        "extraction": _extraction(),
        "membership": {
            "scores": {
                "loss": measured(0.61, "AUROC", 64, 0.05),
                "energy at layer 4": measured(0.55, "AUROC", 64, 0.06),
            },
            "control": measured(0.50, "AUROC", 64, 0.06),
            "void": False,
            "best": "loss",
        },
        "notes": ["2 of 32 documents were shorter than one context."],
        "descent": {
            who: {
                "beta": 0.02,
                "energy": [
                    measured(700 - 22 * float(d) - 4 * math.sin(float(d)), "distance²", 16, 9) for d in depth[:-1]
                ],
                "straight": [measured(700 - 21 * float(d), "distance²", 16, 9) for d in depth[:-1]],
                "falling": measured(0.83, "share of steps", 16, 0.03),
                "falling_straight": measured(0.97, "share of steps", 16, 0.01),
            }
            for who in ("trained",)
        },
        "energy_and_loss": measured(0.21, "rank correlation", 16, 0.05),
        "passage": {
            "title": "Pride and Prejudice",
            "first": "",
            "units": {"loss": "nats", "energy": "spread"},
            "tokens": pieces,
            "loss": loss,
            "energy": np.round(rng.normal(0.5, 0.1, len(pieces)), 4).tolist(),
        },
        "landscape": {
            "x": x.tolist(),
            "y": x.tolist(),
            "energy": energy.tolist(),
            "points": [{"x": a, "y": b} for a, b in points],
            "beta": 2.2,
            "unit": "spread",
        },
    }


_CLAIMS = [
    {
        "id": "C1",
        "claim": "Prop. 1: g − log d ≤ E ≤ g",
        "status": "holds",
        "evidence": "0 violations in 20,000 random draws.",
        "figures": {"violations": 0, "draws": 20_000},
    },
    {
        "id": "C2",
        "claim": "Prop. 2: E ≈ 2E_MCHN − log d within Δ",
        "status": "holds",
        "evidence": "0 violations; one-sided.",
        "figures": {"largest gap": 0.9871},
    },
    {
        "id": "C3",
        "claim": "Prop. 3: −Δ ≤ g − 2E_MCHN ≤ Δ + log d",
        "status": "refuted by counterexample",
        "evidence": "ρ = ±1, x = 1: 2E_MCHN = 0.674997 where Δ = 0.",
        "figures": {"2E_MCHN": 0.674997253},
    },
    {
        "id": "C5",
        "claim": "E needs no regularisation term",
        "status": "holds with correction",
        "evidence": "‖x‖² is inside it.",
        "figures": {"error": 4.4e-16},
    },
    {
        "id": "C20",
        "claim": "Prop. 4: L ≈ ln Z + 1/Z",
        "status": "not implied",
        "evidence": "two definitions of E_t.",
        "figures": {"L": -52.3561},
    },
    {
        "id": "C28",
        "claim": "OpenELM: N/D*² constant confirms D²",
        "status": "empirical: untested (needs reproduce openelm)",
        "evidence": "exponent 1.90, grid range 1.42–2.43",
        "figures": {"exponent": 1.8998},
    },
]


_ASKED = "No training loss goes under 1."
_TRIAL = {
    "quantity": "training loss of models that repeat 512 lines",
    "measured": measured(0.52, "nats/token", 2, 0.26, "95 % t interval over 2 seeds"),
    "low": 1.0,
    "high": None,
    "sentence": "512 lines repeated 74 times are memorised down to 0.520 nats/token.",
    "outcome": "empirical: contradicted",
}
_EXPERIMENT = {
    "experiment": "question-formation",
    "scale": "laptop",
    "setting": {"seed": 1},
    "versions": {"torch": "2.13.0"},
    "question": "Is the loss of 1 a bound?",
    "claims": {"C27": [_TRIAL]},
    "questions": {"near 1": _TRIAL | {"measured": measured(0.98, "share of lines", 4, 0.01)}},
}

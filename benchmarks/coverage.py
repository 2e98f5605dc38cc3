"""Do the 95 % intervals cover? Simulated grids with planted laws, read back by the same code that reads real ones.

    python benchmarks/coverage.py [--grids 2000] [--seed 1]

Every grid has run noise and a shift shared by all runs of a seed, three learning rates and several seeds. Counted: the
interval of the frontier's exponent, and of the expected loss at four places inside and beyond the grid. Each count must
lie inside the exact binomial 99 % band around 95 %, Bonferroni over all cells of the table. The constants A, B, E,
alpha, beta are reported. Exit status 1 if a gated cell lies outside.
"""

import argparse
import math
import multiprocessing
import os
import sys
import time

import numpy as np
from scipy.stats import binom

from memscape.laws.frontier import frontier
from memscape.laws.intervals import estimate, parameters, predictions, profile
from memscape.laws.law import LAWS
from memscape.laws.table import RunTable

E, A, B, ALPHA, BETA = 1.2, 60.0, 70.0, 0.40, 0.35
SHARPNESS = 1.6

DESIGNS = {
    "laptop": (np.array([5e3, 14e3, 38e3, 100e3]), np.array([2e3, 4e3, 8e3, 16e3, 32e3, 64e3, 128e3])),
    "wide": (1e4 * 3.0 ** np.arange(6), 4e3 * 3.0 ** np.arange(8)),
}
"""Sizes and data sizes; the first is that of a study on two cores, the second that of the grid of 288 runs."""


def simulate(rng, sizes, data, seeds, noise, gamma) -> RunTable:
    """Return a table of runs: losses with relative noise `noise` per run, half of it more shared by a seed's runs."""
    middle = math.exp(np.log(data).mean()), math.exp(np.log(sizes).mean())
    n, d, r, s = (v.ravel() for v in np.meshgrid(sizes, data, np.arange(3.0), np.arange(float(seeds)), indexing="ij"))
    mistuned = 0.03 * np.abs(r - 1)
    shared = rng.normal(0, 0.5 * noise, seeds)
    loss = (E + A / n**ALPHA + B / d**BETA) * np.exp(mistuned + shared[s.astype(int)] + rng.normal(0, noise, len(n)))
    crossing = middle[0] * (n / middle[1]) ** (1 / gamma) * math.exp(rng.uniform(-0.3, 0.3))
    share = (1 + (2**SHARPNESS - 1) * (d / crossing) ** SHARPNESS) ** (-1 / SHARPNESS)
    share = share - mistuned + 3 * (shared[s.astype(int)] + rng.normal(0, noise, len(n)))
    names = np.array([str(i) for i in range(len(n))], dtype=object)
    columns = {"run_id": names, "n_params": n, "n_tokens": d, "learning_rate": r, "seed": s}
    return RunTable({**columns, "heldout_loss": loss, "memorised_share": share})


def places(sizes, data) -> np.ndarray:
    """Return (ln N, ln D) of four predictions: centre, a corner, beyond the grid fourfold in N, fourfold in both."""
    n, d, far = np.log(sizes), np.log(data), math.log(4)
    return np.array([[n.mean(), n[0], n[-1] + far, n[-1] + far], [d.mean(), d[-1], d[-1], d[-1] + far]])


def both(first, second, split: int = 4):
    """Return one quantity out of two: the first `split` indices belong to the first."""

    def value(theta, at):
        a, b = first(theta, np.minimum(at, split - 1)), second(theta, np.maximum(at - split, 0))
        use = at < split
        return np.where(use, a[0], b[0]), np.where(use[:, None], a[1], b[1])

    return value


LAW, TRUTH = LAWS["chinchilla"], np.array([math.log(A), math.log(B), math.log(E), ALPHA, BETA])
STARTS = TRUTH + np.array(
    [[0, 0, 0, 0, 0], [-1, -1, -0.5, -0.1, -0.1], [1, 1, -0.5, 0.1, 0.1], [1, -1, 0.2, 0.1, -0.1]]
)
GATED = ("gamma", "centre", "corner", "4x N", "4x N, D")


def covered(cell) -> np.ndarray:
    """Return for one simulated grid which of the ten intervals hold their truth; nan where gamma has none."""
    design, seeds, noise, number = cell
    sizes, data = DESIGNS[design]
    rng = np.random.default_rng([number, seeds, round(1e4 * noise), len(sizes)])
    gamma = float(rng.choice([1.0, 1.35, 2.0]))
    table = simulate(rng, sizes, data, seeds, noise, gamma)
    found = frontier(table, sensitivity=False).params.get("gamma")
    low, high = (None, None) if found is None else (found.low, found.high)
    x = places(sizes, data)
    known = np.concatenate([LAW.value(TRUTH[None], x)[0][0], TRUTH])
    problem = estimate(LAW, table.cells("heldout_loss"), starts=STARTS)
    _, below, above = profile(problem, both(predictions(LAW, x), parameters(problem)), 9)
    own = math.nan if found is None else float((low or 0.0) <= gamma <= (math.inf if high is None else high))
    return np.concatenate([[own], (below <= known) & (known <= above)])


def main() -> int:
    """Print the table; return 1 if a gated cell lies outside its band."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="another seed simulates other grids")
    parser.add_argument("--design", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[3])
    parser.add_argument("--noise", type=float, nargs="*", default=[0.002, 0.006, 0.015])
    ask = parser.parse_args()
    cells = [(d, s, noise) for d in ask.design for s in ask.seeds for noise in ask.noise]
    tail = 0.005 / (len(cells) * len(GATED))
    band = binom.ppf([tail, 1 - tail], ask.grids, 0.95) / ask.grids
    print(f"{ask.grids} grids a row; a gated share must lie in [{band[0]:.4f}, {band[1]:.4f}]")
    head = "".join(f"{name:>9}" for name in GATED) + " |" + "".join(f"{p.name:>7}" for p in LAW.parameters)
    print(f"{'grid':8}{'seeds':>6}{'noise':>7} |{head}")
    began, bad = time.perf_counter(), 0
    with multiprocessing.Pool() as pool:
        for design, seeds, noise in cells:
            work = [(design, seeds, noise, ask.seed * 1_000_000 + g) for g in range(ask.grids)]
            inside = np.array(pool.map(covered, work, chunksize=max(1, ask.grids // 64)))
            share = np.nanmean(inside, axis=0)
            out = (share[:5] < band[0]) | (share[:5] > band[1])
            bad += int(out.sum())
            gated = "".join(f"{v:>8.3f}{'*' if o else ' '}" for v, o in zip(share, out, strict=False))
            told = "".join(f"{v:>7.3f}" for v in share[5:])
            lost = int(np.isnan(inside[:, 0]).sum())
            print(
                f"{design:8}{seeds:>6}{noise:>7} |{gated} |{told}" + (f"  {lost} without gamma" if lost else ""),
                flush=True,
            )
    print(f"{time.perf_counter() - began:.0f} s; {bad} of {len(cells) * len(GATED)} gated shares outside the band (*)")
    return int(bad > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

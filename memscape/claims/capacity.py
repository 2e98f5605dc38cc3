"""How many patterns does a dense memory hold? The claim of Table 1, against simulation.

>>> capacities().printed
False
"""

from collections.abc import Callable

import numpy as np

from memscape.claims.evidence import Evidence
from memscape.theory import capacity


# C29
def capacities(
    seed: int = 0,
    n_bits: int = 40_000,
    printed_power: Callable = lambda degree: degree,
    power: Callable = lambda degree: degree - 1,
    bit_error: Callable = capacity.dense_bit_error,
) -> Evidence:
    """Table 1: the dense memory of degree r holds Θ(n^r) patterns; simulated, it holds Θ(n^{r-1})."""
    rng = np.random.default_rng(seed)
    exponents = {}
    ratios = []
    for degree, sizes in ((2, (60, 120, 240)), (3, (40, 60, 90))):
        loads = []
        for n in sizes:
            limit = n ** (degree - 1) / capacity.odd_factorial(2 * degree - 3)
            grid = [int(limit * share) for share in (0.15, 0.2, 0.27)]
            errors = [_simulated_bit_error(rng, n, k, degree, n_bits) for k in grid]
            loads.append(np.interp(np.log(0.015), np.log(errors), np.log(grid)))
            ratios.append(errors[-1] / bit_error(n, grid[-1], degree))
        exponents[degree] = float(np.polyfit(np.log(sizes), loads, 1)[0])
    return Evidence(
        printed=all(abs(p - printed_power(r)) < 0.3 for r, p in exponents.items()),
        amended=all(abs(p - power(r)) < 0.3 for r, p in exponents.items()),
        corrected=all(0.6 < ratio < 1.1 for ratio in ratios),
        sentence="Simulated load at 1.5 % wrong bits grows as "
        + ", ".join(f"n^{p:.2f} for r = {r}" for r, p in exponents.items())
        + f"; bit errors are {min(ratios):.2f} to {max(ratios):.2f} of the leading-order formula.",
        figures={
            **{f"exponent_degree_{r}": p for r, p in exponents.items()},
            "error_over_formula": float(np.mean(ratios)),
        },
    )


def _simulated_bit_error(rng: np.random.Generator, n: int, n_patterns: int, degree: int, n_bits: int) -> float:
    """Share of the bits of stored patterns that lower the energy by flipping; ties count half."""
    wrong = total = 0.0
    while total < n_bits:
        patterns = rng.choice([-1.0, 1.0], (n_patterns, n))
        for state in patterns[:8]:
            overlap = patterns @ state
            flipped = overlap[:, None] - 2 * patterns * state
            change = np.prod([overlap] * degree, axis=0).sum() - np.prod([flipped] * degree, axis=0).sum(0)
            wrong += (change < 0).sum() + (change == 0).sum() / 2
            total += n
    return wrong / total

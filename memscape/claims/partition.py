"""Are the paper's integrals over balls right? Claims on equations 12 to 14.

>>> round(printed_integral().figures["quadrature"], 9)
2.380979719
"""

import math
from collections.abc import Callable
from functools import partial

from scipy.integrate import quad

from memscape.claims.evidence import Evidence
from memscape.theory import partition

CASES = ((2, 0.7), (3, 1.0), (10, 1.5), (10, 0.765))
DIMENSIONS = (2, 3, 10, 20, 21, 64, 256, 768, 1024, 4096, 1_310_720)


def _quadrature(n: int, r: float) -> float:
    """∫ exp(-|y|²) over the ball, from its radial integral."""
    surface = n * math.exp(partition.log_ball_volume(n, 1.0))
    return surface * quad(lambda s: s ** (n - 1) * math.exp(-s * s), 0, r, epsabs=0, epsrel=1e-12)[0]


# C17
def printed_integral(
    printed: Callable = partial(partition.log_ball_integral, squared=False),
    corrected: Callable = partition.log_ball_integral,
) -> Evidence:
    """Eqs. 12 and 13: ∫ exp(-|y|²) = 2π^{n/2} γ(n, r)/Γ(n/2); that is the integral of exp(-|y|)."""
    wrong, right = (
        max(abs(math.exp(formula(n, r)) / _quadrature(n, r) - 1) for n, r in CASES) for formula in (printed, corrected)
    )
    value, quadrature = math.exp(printed(3, 1.0)), _quadrature(3, 1.0)
    return Evidence(
        printed=wrong < 1e-9,
        corrected=right < 1e-9,
        sentence=f"n = 3, r = 1: the printed formula gives {value:.5f}, quadrature {quadrature:.5f}; "
        f"(π/β)^(n/2) γ(n/2, βr²)/Γ(n/2) agrees to {right:.0e}.",
        figures={"printed": value, "quadrature": quadrature, "printed_error": wrong, "corrected_error": right},
    )


# C18
def partition_bounds(
    printed: Callable = partition.printed_bounds,
    amended: Callable = partition.crude_bounds,
    tight: Callable = partition.tight_bounds,
) -> Evidence:
    """Eq. 14: V e^{-r} ≤ I ≤ V at r = sqrt(n / 2πe), for the squared distance; there it must be e^{-r²}."""

    def holds(bounds: Callable, n: int, r: float) -> bool:
        exact = partition.log_ball_integral(n, r)
        low, high = bounds(n, r)
        return low - 1e-9 * abs(exact) <= exact <= high + 1e-9 * abs(exact)

    radius = partition.paper_radius
    fails = [n for n in range(1, 200) if not holds(printed, n, radius(n))]
    anywhere = [(n, radius(n)) for n in DIMENSIONS] + [(n, r) for n in (1, 5, 50) for r in (0.1, 1.0, 3.0)]
    at = 1024
    exact = partition.log_ball_integral(at, radius(at))
    low, high = printed(at, radius(at))
    return Evidence(
        printed=not fails,
        amended=all(holds(amended, n, r) for n, r in anywhere),
        corrected=all(holds(tight, n, r) for n, r in anywhere),
        sentence=f"Printed lower side fails from n = {fails[0] if fails else 'none'} on; at n = {at} by "
        f"{low - exact:.4f} in ln Z, the upper is loose by {high - exact:.2f}. V e^(-r²) ≤ I ≤ V and the surface "
        f"bounds hold in all of {len(anywhere)} cases.",
        figures={"first_failing_n": fails[0] if fails else 0, "excess_1024": low - exact, "slack_1024": high - exact},
    )


# C19
def ball_volume(
    rate: Callable = lambda n: -math.log(math.pi * n) / 2 - 1 / (6 * n),
    log_volume: Callable = partition.log_ball_volume,
) -> Evidence:
    """V_n(sqrt(n / 2πe)) is of order one; it falls as (πn)^{-1/2}."""
    logs = {n: log_volume(n, partition.paper_radius(n)) for n in DIMENSIONS}
    error = max(abs(logs[n] - rate(n)) for n in DIMENSIONS if n >= 1024 and n <= 4096)
    unit = partition.unit_volume_radius(1024)
    return Evidence(
        printed=max(logs.values()) - min(logs.values()) < math.log(10),
        amended=error < 4e-9,
        corrected=abs(log_volume(1024, unit)) < 1e-8,
        sentence=f"V is {math.exp(logs[2]):.3f} at n = 2 and {math.exp(logs[1_310_720]):.5f} at n = 1,310,720; ln V = "
        f"-½ ln(πn) - 1/(6n) to {error:.0e}. The ball of volume one has radius {unit:.4f} at n = 1024, not "
        f"{partition.paper_radius(1024):.4f}.",
        figures={
            "volume_n_2": math.exp(logs[2]),
            "volume_n_1310720": math.exp(logs[1_310_720]),
            "unit_radius_1024": unit,
        },
    )

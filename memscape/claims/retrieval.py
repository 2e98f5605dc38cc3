"""Are stored patterns found again? Claims on retrieval and on replacing the energy by the nearest distance.

>>> replace_by_nearest(n=200).printed
False
"""

import math
from collections.abc import Callable

import torch
from scipy.integrate import quad
from torch import Tensor

from memscape.claims.draws import draws
from memscape.claims.evidence import Evidence
from memscape.memory import energies
from memscape.memory.separation import replacement_bound, step_bound, stored
from memscape.theory.partition import log_partition

SOME = 5_000
"""Random memories per statement."""


def _to_others(patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of pattern 0 to all others, and its separation δ_0."""
    distances = (patterns[:, 1:] - patterns[:, :1]).norm(dim=-1)
    return distances, distances.amin(-1)


def _on_sphere(centre: Tensor, r: Tensor, generator: torch.Generator) -> Tensor:
    """A random point at distance r from each centre."""
    way = torch.randn(centre.shape, dtype=centre.dtype, generator=generator)
    return centre + (r / way.norm(dim=-1))[:, None] * way


# C7
def retrieval(seed: int = 0, n: int = SOME, bound: Callable = step_bound, certified: Callable = stored) -> Evidence:
    """E, as a surrogate of g, has retrieval ability: mean shifts from the ball around a pattern stay in it."""
    generator = torch.Generator().manual_seed(seed)
    over = lost = admitted = kept = followed = 0
    for k, draw in enumerate(draws(n, seed, geometry="cloud")):
        to_the_end = k % 4 == 0
        rho = draw.patterns
        distances, separation = _to_others(rho)
        beta = 2 ** (6 * torch.rand((), generator=generator).item() - 1) / float(separation.square().median())
        r = 0.3 * separation
        ends = []
        for _ in range(3):
            x = _on_sphere(rho[:, 0], r, generator)
            x = x - energies.distance_gradient(x, rho, beta) / 2
            miss = (x - rho[:, 0]).norm(dim=-1)
            over += int((miss > bound(distances, r, beta) + draw.tolerance).sum())
            for _ in range(30 if to_the_end else 0):
                x = x - energies.distance_gradient(x, rho, beta) / 2
            ends.append(x)
        if not to_the_end:
            continue
        inside = torch.stack([(x - rho[:, 0]).norm(dim=-1) <= r * (1 + 1e-9) for x in ends]).all(0)
        same = torch.stack([(x - ends[0]).norm(dim=-1) <= 1e-3 * r for x in ends]).all(0)
        ok = certified(distances, r, beta)
        followed += len(r)
        kept += int(inside.sum())
        admitted += int(ok.sum())
        lost += int((ok & ~(inside & same)).sum())
    return Evidence(
        printed=kept == followed,
        amended=admitted > 0 and lost == 0,
        corrected=over == 0,
        sentence=f"Of {followed} random patterns {kept / followed:.0%} keep the ball of radius 0.3 δ; of the "
        f"{admitted} that the certificate admits {lost} fail; the one-step bound fails in {over} / {3 * n}.",
        figures={
            "share_kept": kept / followed,
            "certified": admitted,
            "certified_lost": lost,
            "bound_violations": over,
        },
    )


# C8
def replace_by_nearest(
    seed: int = 0,
    n: int = SOME,
    bound: Callable = replacement_bound,
    radii: tuple[float, float] = (0.9, 0.05),
    margin: float = math.log(100),
) -> Evidence:
    """Under disjoint balls E may be replaced by g on Ω: needs r_i ≤ δ_i/2 and β(δ² - 2rδ) well above log d."""

    def weight(x: float) -> float:
        return math.exp(-min(x * x, (x - 1) ** 2))

    union = quad(weight, -radii[0], radii[0], points=[0.5])[0] + quad(weight, 1 - radii[1], 1 + radii[1])[0]
    separate = math.exp(log_partition(1, radii))
    generator = torch.Generator().manual_seed(seed)
    over = admitted = 0
    worst = 0.0
    for draw in draws(n, seed, geometry="cloud"):
        distances, separation = _to_others(draw.patterns)
        r = separation * torch.rand(separation.shape, dtype=torch.float64, generator=generator) / 2
        x = _on_sphere(draw.patterns[:, 0], r, generator)
        gap = energies.nn_energy(x, draw.patterns) - energies.distance_energy(x, draw.patterns, draw.beta)
        over += int(((gap < -draw.tolerance) | (gap > bound(distances, r, draw.beta) + draw.tolerance)).sum())
        slack = draw.beta * (separation.square() - 2 * r * separation) - math.log(draw.n_patterns)
        safe = draw.beta * gap[slack > margin]
        admitted += len(safe)
        worst = max([worst, *safe.tolist()])
    return Evidence(
        printed=math.isclose(union, separate, rel_tol=1e-6),
        amended=over == 0 and admitted > 0 and worst <= 0.01,
        sentence=f"Disjoint balls of radii {radii[0]} and {radii[1]} around 0 and 1 hold {union:.4f}, not the "
        f"{separate:.4f} of separate balls; with r ≤ δ/2 the bound on g - E fails in {over} / {n}, and where "
        f"β(δ² - 2rδ) > log(100 d) the gap is at most {worst:.3f}/β.",
        figures={"union": union, "separate": separate, "bound_violations": over, "largest_gap_where_safe": worst},
    )

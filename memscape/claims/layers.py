"""Does one global energy describe a stack of layers as the paper says? Claims on equations 6 to 10.

>>> majorization().figures["energy_after"]
1.0
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from memscape.claims.draws import draws
from memscape.claims.evidence import Evidence
from memscape.memory import energies
from memscape.memory.layered import global_energy as combine
from memscape.memory.layered import layer_energies, majorizer, nearest_step

SOME = 5_000


def _dealt(patterns: Tensor, n_layers: int, generator: torch.Generator) -> list[Tensor]:
    """The patterns dealt over the layers at random, none of them empty."""
    order = torch.randperm(patterns.shape[-2], generator=generator)
    return [patterns[:, part] for part in order.tensor_split(n_layers) if len(part)]


# C12
def layer_bracket(
    seed: int = 0,
    n: int = SOME,
    global_energy: Callable = combine,
    lower: Callable = lambda least, n_layers: least - math.log(n_layers),
    upper: Callable = lambda least: least,
) -> Evidence:
    """Eq. 8: min E_t - log l ≤ E_global < min E_t; strict for two layers or more, an equality for one."""
    generator = torch.Generator().manual_seed(seed)
    outside = 0
    for n_layers in (2, 3, 6, 12, 24):
        layers = 4 * torch.randn(n // 5, n_layers, dtype=torch.float64, generator=generator)
        least, whole = layers.amin(-1), global_energy(layers)
        outside += int(((whole < lower(least, n_layers) - 1e-12) | (whole >= upper(least))).sum())
    single = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    off = float((global_energy(single) - single[:, 0]).abs().max())
    return Evidence(
        printed=outside == 0,
        corrected=off < 1e-12,
        sentence=f"{outside} / {n} violations for 2 to 24 layers, right side strict; with one layer E_global = E_1.",
        figures={"violations": outside, "draws": n, "one_layer_difference": off},
    )


# C13
def union_identity(seed: int = 0, n: int = SOME, global_energy: Callable = combine) -> Evidence:
    """E_global captures the layered architecture: for layers of eq. 4 it is the energy of the union, in any order."""
    generator = torch.Generator().manual_seed(seed)
    error = between = 0.0
    for draw in draws(n, seed, geometry="cloud"):
        whole = energies.distance_energy(draw.states, draw.patterns, draw.beta)
        stacks = [
            global_energy(layer_energies(draw.states, _dealt(draw.patterns, n, generator), draw.beta), draw.beta)
            for n in (2, 3, 3)
        ]
        size = draw.tolerance * 1e9
        error = max(error, *(float(((stack - whole).abs() / size).max()) for stack in stacks))
        between = max(between, float(((stacks[1] - stacks[2]).abs() / size).max()))
    return Evidence(
        printed=between > 1e-6,
        amended=error < 4e-15,
        sentence=f"However patterns are dealt over the layers, E_global is E_β of the whole bank to {error:.0e}; two "
        f"layerings differ by {between:.0e}.",
        figures={"identity_error": error, "difference_between_layerings": between, "draws": n},
    )


# C14
def majorization(
    seed: int = 0,
    n: int = SOME,
    step: Callable = nearest_step,
    surrogate: Callable = majorizer,
    slack: Callable = math.log,
) -> Evidence:
    """Layer steps (6) are majorization-minimization on E_global: then none may raise it."""
    double = torch.float64
    first, second = torch.zeros(1, 1, dtype=double), torch.full((1, 1), 10.0, dtype=double)
    x = torch.zeros(1, dtype=double)

    def stack(y: Tensor, parts: list[Tensor]) -> Tensor:
        return torch.stack([energies.nn_energy(y, part) for part in parts], -1)

    moved = step(x, second, 1.0)
    before, after = (float(combine(stack(y, [first, second]))) for y in (x, moved))
    generator = torch.Generator().manual_seed(seed)
    raised = lowest_raised = below = beyond = 0
    tangent = 0.0
    for draw in draws(n, seed, geometry="cloud"):
        beta, x0 = draw.beta, draw.states
        banks = _dealt(draw.patterns, 4, generator)
        level = combine(stack(x0, banks))
        size = float(x0.norm(dim=-1).mean())
        choice = int(torch.randint(len(banks), (), generator=generator))
        raised += int((combine(stack(step(x0, banks[choice], size), banks)) > level + draw.tolerance).sum())
        lowest = stack(x0, banks).argmin(-1)
        best = torch.stack([step(x0, bank, size) for bank in banks], 1)
        best = best.take_along_dim(lowest[:, None, None], 1).squeeze(1)
        rise = combine(stack(best, banks)) - level
        lowest_raised += int((rise > draw.tolerance).sum())
        beyond += int((rise > slack(len(banks)) + draw.tolerance).sum())
        here = layer_energies(x0, banks, beta)
        other = x0 + size * torch.randn(x0.shape, dtype=double, generator=generator)
        there = layer_energies(other, banks, beta)
        below += int((surrogate(there, here, beta) < combine(there, beta) - draw.tolerance).sum())
        tangent = max(tangent, float((surrogate(here, here, beta) - combine(here, beta)).abs().max() * beta))
    return Evidence(
        printed=after <= before and raised == 0,
        corrected=below == 0 and tangent < 1e-8 and beyond == 0,
        sentence=f"Layers {{0}}, {{10}}: the second layer's step from 0 to {float(moved):g} raises E_global from "
        f"{before + 0:.0f} to {after:.0f}; a random layer's step raises it in {raised / n:.0%} of {n} draws, the "
        f"lowest layer's in {lowest_raised / n:.0%}, in {beyond} by more than log l. The weighted majorizer lies below "
        f"E_global in {below} and touches it to {tangent:.0e}.",
        figures={
            "energy_before": before,
            "energy_after": after,
            "share_raised_random_layer": raised / n,
            "share_raised_lowest_layer": lowest_raised / n,
            "rises_beyond_log_l": beyond,
            "majorizer_violations": below,
            "tangency_error": tangent,
        },
    )


# C15
def layer_density(
    energy: Callable = lambda g, log_z: np.exp(-g - log_z), start: float = 0.3, reach: float = 0.5
) -> Evidence:
    """E_t = exp(-g_t)/Z_t is an energy whose minima are the patterns: one pattern 0, eq. 6 from x = 0.3."""
    x = np.linspace(start - reach, start + reach, 100_001)
    values = energy(x**2, math.log(math.sqrt(math.pi)))
    found = float(x[np.argmin(values)])
    consistent = float(x[np.argmin(x**2)])
    return Evidence(
        printed=abs(found) < abs(start),
        corrected=abs(consistent) < 1e-4,
        sentence=f"Its minimiser within {reach} of x = {start} is {found:.1f}, away from the pattern 0; that of E_t = "
        f"g_t is {abs(consistent):.0f}.",
        figures={"minimiser": found, "minimiser_of_g": consistent},
    )


# C16
def constant_offset(
    layers: tuple[float, ...] = (0.0, 10.0),
    global_energy: Callable = combine,
    layer_energy: Callable = energies.nn_energy,
) -> Evidence:
    """Eq. 10: E_global = E_t - log l + c with c constant in [0, log l) for one fixed t, at the stored patterns."""
    patterns = torch.tensor(layers, dtype=torch.float64)[:, None]
    stack = torch.stack([layer_energy(patterns, p[None, :]) for p in patterns], -1)
    n_layers = len(layers)
    offset = (global_energy(stack)[:, None] - stack + math.log(n_layers)).numpy()
    fits = [
        bool(offset[:, t].min() >= -1e-12 and offset[:, t].max() < math.log(n_layers) + 1e-12) for t in range(n_layers)
    ]
    worst = float(offset.min())
    return Evidence(
        printed=any(fits),
        sentence=f"Layers {{0}}, {{10}}: at x = 10 the c of layer 1 is {worst:.2f}, outside [0, "
        f"{math.log(n_layers):.2f}); no layer has it inside at both patterns.",
        figures={"lowest_c": worst, "log_l": math.log(n_layers)},
    )

"""Landscape: the energy around three stored states, on the plane through them, as a surface one can turn."""

import numpy as np
import torch

from memscape.instruments.cloud import Cloud, energies
from memscape.memory.neighbours import search, temperature

SHARP = 1.5
"""Effective patterns of the drawn energy: few enough that the wells of single states can be seen."""


def landscape(cloud: Cloud, size: int = 41) -> dict:
    """Return E_beta on a grid of the plane through a typical state and its two nearest stored states.

    The typical state is the query whose nearest-neighbour distance is the median one.

    Returns:
        `x`, `y` (distance) and `energy` (spread), the three `points` with their pattern numbers, and `beta`.
    """
    order = cloud.nearest.distance[:, 0].argsort()
    row = int(order[len(order) // 2])
    first, second = (int(i) for i in cloud.nearest.index[row, :2])
    corners = cloud.patterns_MD[[int(cloud.queries_Q[row]), first, second]].double()
    basis, origin = _plane(corners)
    flat = (corners - origin) @ basis.T
    low, high = flat.min(0).values, flat.max(0).values
    margin = 0.6 * float((high - low).max())
    x = np.linspace(float(low[0]) - margin, float(high[0]) + margin, size)
    y = np.linspace(float(low[1]) - margin, float(high[1]) + margin, size)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)) @ basis + origin
    beta = temperature(cloud.nearest.distance.double(), SHARP)
    near = search(grid.float(), cloud.patterns_MD, k=1, beta=beta, device=cloud.device)
    energy = energies(near).reshape(size, size) / cloud.spread
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "energy": energy.tolist(),
        "points": [{"x": float(a), "y": float(b)} for a, b in flat],
        "patterns": [int(cloud.queries_Q[row]), first, second],
        "beta": beta,
        "unit": "spread",
    }


def _plane(corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis (2, D) of the plane through three points, and their mean."""
    edges = torch.stack([corners[1] - corners[0], corners[2] - corners[0]])
    basis = torch.linalg.qr(edges.T).Q.T
    return basis, corners.mean(0)

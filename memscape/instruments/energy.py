"""Energy: how deep in the wells of the stored states do the states of other documents lie?

E_beta(x) = -(1/beta) log sum_i exp(-beta |x - rho_i|²) over the states of all *other* documents at the same layer, in
units of the cloud's spread, so that layers and nulls compare: 0 is on top of a stored state, and larger is farther.
beta is set so that three patterns share the energy of the median state.
"""

import numpy as np
from scipy.stats import rankdata

from memscape.instruments.cloud import Cloud
from memscape.instruments.documents import median
from memscape.theory.measure import Measured, statistic


def energy(cloud: Cloud) -> Measured:
    """Return the median energy of a site divided by its spread, with its interval over documents."""
    return median((cloud.energy_Q / cloud.spread).numpy(), cloud.documents_Q, "spread")


def follows_loss(energy_Q: np.ndarray, loss_Q: np.ndarray, documents_Q: np.ndarray) -> Measured:
    """Return Spearman's rank correlation between the energy of states and the loss of their next tokens."""
    ranks = np.stack([rankdata(energy_Q), rankdata(loss_Q)], axis=-1)
    groups = [ranks[documents_Q == d] for d in np.unique(documents_Q)]
    size = max(map(len, groups))
    ragged = np.full((len(groups), size, 2), np.nan)
    for row, group in zip(ragged, groups, strict=True):
        row[: len(group)] = group

    def spearman(clusters: np.ndarray) -> float:
        pairs = clusters.reshape(-1, 2)
        pairs = pairs[~np.isnan(pairs[:, 0])]
        return float(np.corrcoef(pairs.T)[0, 1])

    return statistic(ragged, spearman, "rank correlation", resamples=500)


FIELDS = {"energy": energy}
"""What this instrument says of one site."""

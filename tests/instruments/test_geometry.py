"""On clouds whose answer is known, the instruments must find it inside their intervals."""

import math

import numpy as np
import pytest
import torch

from memscape.errors import ShapeError
from memscape.instruments.cloud import Cloud, cloud
from memscape.instruments.descent import descent
from memscape.instruments.energy import energy, follows_loss
from memscape.instruments.landscape import landscape
from memscape.instruments.radius import duplicates, predicted, radius


def gaussian_cloud(dim: int, contexts: int = 32, length: int = 64, deviation: float = 1.0, seed: int = 0) -> Cloud:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(contexts, length, dim, generator=generator) * deviation
    return cloud(states, np.arange(contexts), 512)


@pytest.mark.parametrize("dim", [64, 256])
def test_radius_of_a_gaussian_is_the_extreme_value_formula(dim):
    """NN = s sqrt(2n) sqrt(1 - sqrt(3 ln m / n)), a formula known to be a few per cent low."""
    found = radius(gaussian_cloud(dim, deviation=2.0))
    formula = math.sqrt(2 * dim) * math.sqrt(1 - math.sqrt(3 * math.log(2048) / dim)) * 2.0 / 2
    assert formula * 0.95 < found.value < formula * (1.25 if dim == 64 else 1.08)
    assert found.low < found.value < found.high
    assert found.n == 32


def test_predicted_radius_is_the_papers():
    """sqrt(1024 / 2 pi e) = 7.743063."""
    assert predicted(1024) == pytest.approx(7.743063185, abs=1e-8)


def test_radius_follows_planted_pairs_across_documents():
    """Each state has a twin at distance 0.2 in another document: the radius is 0.1."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(8, 32, 48, generator=generator) * 10
    offset = torch.nn.functional.normalize(torch.randn(8, 32, 48, generator=generator), dim=-1) * 0.2
    both = cloud(torch.cat([first, first + offset]), np.arange(16), 512)
    assert radius(both).value == pytest.approx(0.1, rel=1e-4)
    assert duplicates(both).value == 0


def test_neighbours_in_the_same_document_do_not_count():
    """Within a document states repeat; across documents they are far apart."""
    states = torch.randn(16, 1, 24, generator=torch.Generator().manual_seed(2)).expand(16, 8, 24)
    found = cloud(states, np.arange(16), 128)
    assert radius(found).value > 1
    assert duplicates(found).value == 0


def test_duplicates_are_counted():
    """Half of the states stand in two documents."""
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(16, 8, 24, generator=generator)
    states[8:, :4] = states[:8, :4]
    assert duplicates(cloud(states, np.arange(16), 128)).value == pytest.approx(0.5)


def test_moment_matched_gaussian_has_the_same_moments_and_no_clusters():
    """The null keeps means and deviations, and loses the clusters: its states are much farther apart."""
    generator = torch.Generator().manual_seed(4)
    centres = torch.randn(8, 40, generator=generator) * 20
    states = centres[torch.arange(64) % 8][:, None] + torch.randn(64, 32, 40, generator=generator)
    clustered = cloud(states, np.arange(64), 512)
    null = clustered.gaussian(0)
    torch.testing.assert_close(null.patterns_MD.mean(0), clustered.patterns_MD.mean(0), atol=2.0, rtol=0)
    torch.testing.assert_close(null.patterns_MD.std(0), clustered.patterns_MD.std(0), atol=0, rtol=0.1)
    assert radius(null).low > 2 * radius(clustered).high
    assert energy(null).low > energy(clustered).high


def test_energy_is_the_definition_of_the_paper():
    """-1/beta log sum exp(-beta d²) over the other documents, by brute force in float64."""
    found = gaussian_cloud(16, contexts=12, length=8)
    states, documents = found.patterns_MD.double(), found.documents_M
    d2 = torch.cdist(states[found.queries_Q], states).square()
    d2[documents[found.queries_Q, None] == documents[None]] = math.inf
    brute = -torch.logsumexp(-found.beta * d2, 1) / found.beta
    torch.testing.assert_close(found.energy_Q, brute, rtol=1e-4, atol=1e-4)
    p = torch.softmax(-found.beta * d2, 1)
    effective = torch.special.entr(p).sum(1).exp().median()
    assert effective == pytest.approx(3.0, abs=0.2)


def test_a_cloud_of_copies_has_no_temperature():
    """Where most states have several exact copies the instrument says so instead of inventing a beta."""
    states = torch.randn(1, 8, 24, generator=torch.Generator().manual_seed(5)).expand(16, 8, 24)
    with pytest.raises(ShapeError):
        energy(cloud(states, np.arange(16), 128))


def test_energy_follows_a_planted_loss_and_not_an_independent_one():
    """The rank correlation finds the planted sign, and zero inside its interval where nothing was planted."""
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(20), 50)
    wells = rng.normal(size=1000)
    assert follows_loss(wells, np.exp(wells), documents).value == pytest.approx(1.0)
    independent = follows_loss(wells, rng.normal(size=1000), documents)
    assert independent.low < 0 < independent.high


def test_descent_sees_a_path_that_falls_and_one_that_does_not():
    """States that walk straight into the bank fall at every step; states that jump about do not."""
    generator = torch.Generator().manual_seed(6)
    final = torch.randn(1, 64, 16, generator=generator).expand(32, 64, 16) + 0.1 * torch.randn(
        32, 64, 16, generator=generator
    )
    start = final + 8 * torch.randn(32, 64, 16, generator=generator)
    sites = ("embedding", "layer 1", "layer 2", "layer 3", "final norm")
    falling = {name: torch.lerp(start, final, w) for name, w in zip(sites, (0, 0.4, 0.7, 1, 1), strict=True)}
    jumping = {name: final + 8 * torch.randn(final.shape, generator=generator) for name in sites[:-2]}
    jumping |= {name: final for name in sites[-2:]}
    documents = np.arange(32)
    good = descent(falling.__getitem__, sites, documents, lambda x: x)
    bad = descent(jumping.__getitem__, sites, documents, lambda x: x)
    assert good["falling"].value > 0.95
    assert bad["falling"].value < 0.75
    assert good["falling_straight"].value > 0.9


def test_landscape_has_its_wells_at_the_stored_states():
    """The energy at the grid point nearest to each stored corner is below the median of the plane."""
    found = landscape(gaussian_cloud(32))
    energies, x, y = np.array(found["energy"]), np.array(found["x"]), np.array(found["y"])
    for point in found["points"]:
        here = energies[np.abs(y - point["y"]).argmin(), np.abs(x - point["x"]).argmin()]
        assert here < np.median(energies)

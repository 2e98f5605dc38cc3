"""On clouds whose answer is known, the instruments must find it inside their intervals."""

import math

import numpy as np
import pytest
import skdim
import torch

from memscape.errors import ShapeError
from memscape.instruments import dimension, documents, nulls, separation
from memscape.instruments.cloud import cloud
from memscape.instruments.descent import descent
from memscape.instruments.energy import energy, follows_loss
from memscape.instruments.landscape import landscape
from memscape.instruments.radius import duplicates, growth, outliers, predicted, radius, sequence_radius, shrinking
from memscape.memory.retrieval import retrieve
from memscape.theory.measure import statistic
from tests.instruments.tiny import gaussian_cloud, points


@pytest.mark.parametrize("dim", [64, 256])
def test_radius_of_a_gaussian_is_the_extreme_value_formula(dim):
    """NN = s sqrt(2n) sqrt(1 - sqrt(3 ln m / n)), a formula known to be a few per cent low."""
    found = radius(gaussian_cloud(dim, deviation=2.0))
    formula = math.sqrt(2 * dim) * math.sqrt(1 - math.sqrt(3 * math.log(2048) / dim)) * 2.0 / 2
    assert formula * 0.95 < found.value < formula * (1.25 if dim == 64 else 1.08)
    assert found.low < found.value < found.high
    assert found.n == 32


def test_predicted_radius_is_the_papers_for_both_meanings_of_n():
    """sqrt(1024 / 2 pi e) = 7.743063, and sqrt(T) times that for a sequence of T tokens."""
    assert predicted(1024) == pytest.approx(7.743063185, abs=1e-8)
    assert predicted(1024, 256) == pytest.approx(16 * 7.743063185, abs=1e-6)


def test_radius_follows_planted_pairs_across_documents():
    """Each state has a twin at distance 0.2 in another document: the radius is 0.1, that of sequences sqrt(T) times."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(8, 32, 48, generator=generator) * 10
    offset = torch.nn.functional.normalize(torch.randn(8, 32, 48, generator=generator), dim=-1) * 0.2
    both = cloud(torch.cat([first, first + offset]), np.arange(16), 512)
    assert radius(both).value == pytest.approx(0.1, rel=1e-4)
    assert sequence_radius(both).value == pytest.approx(0.1 * math.sqrt(32), rel=1e-3)
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


@pytest.mark.parametrize("dim", [2, 4])
def test_growth_of_a_uniform_cloud_is_minus_one_over_its_dimension(dim):
    """NN ~ m^(-1/k): halving the patterns of a k-dimensional cube moves neighbours apart by 2^(1/k)."""
    cube = torch.rand(64, 64, dim, generator=torch.Generator().manual_seed(4))
    found = growth(cloud(cube, np.arange(64), 2048))
    assert found.low - 0.02 < -1 / dim < found.high + 0.02
    sizes = [m.value for m in shrinking(cloud(cube, np.arange(64), 2048))]
    assert sizes == sorted(sizes, reverse=True)


def test_moment_matched_gaussian_has_the_same_moments_and_no_clusters():
    """The null keeps means and deviations, and loses the clusters: its states are much farther apart."""
    clustered = clusters()
    null = nulls.gaussian(clustered, 0)
    torch.testing.assert_close(null.patterns_MD.mean(0), clustered.patterns_MD.mean(0), atol=2.0, rtol=0)
    torch.testing.assert_close(null.patterns_MD.std(0), clustered.patterns_MD.std(0), atol=0, rtol=0.1)
    assert radius(null).low > 2 * radius(clustered).high
    assert energy(null).low > energy(clustered).high


def test_outliers_widen_the_gaussian_null_and_not_the_inner_one():
    """First positions a hundred times longer: the plain null is far too wide, the inner one is the cloud itself."""
    honest = gaussian_cloud(48)
    states = honest.patterns_MD.view(32, 64, 48).clone()
    states[:, 0] *= 150
    spoiled = cloud(states, np.arange(32), 512)
    assert outliers(spoiled).value == pytest.approx(1 / 64)
    truth = radius(honest).value
    assert radius(nulls.gaussian(spoiled)).value > 3 * truth
    assert radius(nulls.inner_gaussian(spoiled)).value == pytest.approx(truth, rel=0.03)


def test_the_inner_null_keeps_correlations_between_coordinates():
    """A cloud in 3 of 48 directions stays in 3: only the plain null spreads over all."""
    generator = torch.Generator().manual_seed(5)
    flat = torch.randn(32, 32, 3, generator=generator) @ torch.randn(3, 48, generator=generator)
    found = cloud(flat, np.arange(32), 512)
    assert dimension.participation(nulls.inner_gaussian(found)).value < 3.2
    assert dimension.participation(nulls.gaussian(found)).value > 20


def clusters(overlap: float = 1.0):
    generator = torch.Generator().manual_seed(4)
    centres = torch.randn(8, 40, generator=generator) * 20
    states = centres[torch.arange(64) % 8][:, None] + overlap * torch.randn(64, 32, 40, generator=generator)
    return cloud(states, np.arange(64), 512)


def test_energy_is_the_definition_of_the_paper():
    """-1/beta log sum exp(-beta d²) over the other documents, by brute force in float64."""
    found = gaussian_cloud(16, contexts=12, length=8)
    states, owners = found.patterns_MD.double(), found.documents_M
    d2 = torch.cdist(states[found.queries_Q], states).square()
    d2[owners[found.queries_Q, None] == owners[None]] = math.inf
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
    owners = np.repeat(np.arange(20), 50)
    wells = rng.normal(size=1000)
    assert follows_loss(wells, np.exp(wells), owners).value == pytest.approx(1.0)
    independent = follows_loss(wells, rng.normal(size=1000), owners)
    assert independent.low < 0 < independent.high


def test_separation_is_one_without_structure_and_small_in_clusters():
    """Independent directions in many dimensions are sqrt(2) spreads apart; states of a cluster are much nearer."""
    wide = separation.separation(gaussian_cloud(2048, contexts=16, length=8))
    assert 0.9 < wide.value < 1.0
    assert separation.separation(clusters()).value < 0.1


def test_separation_on_a_sphere_obeys_its_identity():
    """On a sphere delta² = 2 Delta: Ramsauer's separation and the distance say the same (theory, section 1.5)."""
    unit = torch.nn.functional.normalize(torch.randn(400, 32, generator=torch.Generator().manual_seed(6)), dim=1)
    found = points(unit)
    torch.testing.assert_close(
        separation.dot_separation(found), found.distances[:, 0].square() / 2, atol=1e-5, rtol=1e-4
    )


def test_copies_do_not_count_without_copies():
    """A cloud of pairs has separation 0; without the copies it is that of the pairs' places."""
    places = torch.randn(200, 64, generator=torch.Generator().manual_seed(7))
    twice, once = points(places.repeat(2, 1)), points(places)
    assert separation.separation(twice).value == 0
    assert separation.overlap(twice).value == 1
    alone = separation.separation(once).value
    assert separation.without_copies(twice).value == pytest.approx(alone, rel=0.02)
    assert dimension.two_nn(twice).value == pytest.approx(dimension.two_nn(once).value, rel=1e-3)


def test_certified_patterns_are_retrieved_and_crowded_ones_are_not_certified():
    """A certificate is a proof: from anywhere in half the ball mean shift ends at its own pattern."""
    generator = torch.Generator().manual_seed(8)
    patterns = torch.randn(60, 6, generator=generator).double()
    distances = points(patterns.float()).distances
    for beta in (1.0, 4.0, 16.0):
        proven = separation.certified(distances, 60, beta).numpy()
        for i in np.flatnonzero(proven)[:20]:
            push = torch.nn.functional.normalize(torch.randn(6, generator=generator).double(), dim=0)
            start = patterns[i] + push * 0.02 * distances[i, 0] / 2
            end = retrieve(start, patterns, energy="distance", beta=beta).state
            assert (end - patterns).norm(dim=-1).argmin() == i
    assert separation.certified(distances, 60, 1e-3).sum() == 0
    assert separation.certified(distances, 60, 1e3).all()


@pytest.mark.parametrize("dim", [2, 5, 8])
def test_dimension_of_a_manifold_is_found_and_agrees_with_scikit_dimension(dim):
    """A k-dimensional sheet curled up in 30: both estimators, against the truth and against an independent library."""
    generator = torch.Generator().manual_seed(9)
    flat = torch.rand(1500, dim, generator=generator)
    lift = torch.randn(dim, 30, generator=generator)
    curled = torch.cat([torch.sin(flat @ lift / 2), 0.5 * flat @ lift], dim=1)
    found = points(curled)
    two, ml = dimension.two_nn(found), dimension.maximum_likelihood(found)
    with np.errstate(divide="ignore"):  # it draws the last point of a curve at infinity
        theirs = skdim.id.TwoNN(discard_fraction=0.0, method="mle").fit(curled.numpy()).dimension_
    assert two.low - 0.1 * dim < dim < two.high + 0.1 * dim
    assert two.value == pytest.approx(theirs, rel=2e-3)
    each = skdim.id.MLE().fit_transform_pw(curled.numpy(), n_neighbors=20)
    assert ml.value == pytest.approx(1 / np.mean(1 / each), rel=0.01)  # averaged as MacKay and Ghahramani do


def test_participation_ratio_counts_directions_without_the_bias_of_few_samples():
    """From 200 states of a 100-dimensional Gaussian the plain estimate gives 67; ours gives 100."""
    few = points(torch.randn(200, 100, generator=torch.Generator().manual_seed(10)))
    found = dimension.participation(few)
    assert found.value == pytest.approx(100, rel=0.05)
    away = few.patterns_MD - few.patterns_MD.mean(0)
    plain = torch.linalg.svdvals(away).square()
    assert float(plain.sum() ** 2 / plain.square().sum()) < 70


def test_intervals_agree_with_resampling_one_by_one():
    """The weighted forms are the plain bootstrap: same value, ends within its noise."""
    rng = np.random.default_rng(1)
    owners = np.repeat(np.arange(24), 30)
    values = rng.exponential(size=720) + 0.3 * rng.normal(size=24)[owners]
    groups = values.reshape(24, 30)
    for ours, reduce in ((documents.median, np.median), (documents.average, np.mean)):
        found, slow = ours(values, owners, "u"), statistic(groups, reduce, "u")
        assert found.value == pytest.approx(slow.value)
        width = slow.high - slow.low
        assert abs(found.low - slow.low) < 0.15 * width
        assert abs(found.high - slow.high) < 0.15 * width
        assert found.interval == slow.interval
    few = documents.median(values[:120], owners[:120], "u")
    assert few.interval == "range of 4 documents"
    assert (few.low, few.high) == (min(np.median(groups[:4], 1)), max(np.median(groups[:4], 1)))
    columns = documents.averages(np.stack([values, -values], 1), owners, "u")
    assert columns[0].value == pytest.approx(-columns[1].value)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """In 200 draws of clustered values the 95 % interval of the mean misses the true one in about 10 (24 documents)."""
    rng, missed = np.random.default_rng(2), 0
    owners = np.repeat(np.arange(24), 10)
    for _ in range(200):
        values = rng.normal(size=240) + rng.normal(size=24)[owners]
        found = documents.average(values, owners, "u")
        missed += not found.low <= 0 <= found.high
    assert missed <= 26


def path_of(states: dict[str, torch.Tensor], **options) -> dict:
    return descent(states.__getitem__, tuple(states), np.arange(32), lambda x: x, **options)


def walks() -> tuple[dict, dict, torch.Tensor]:
    """States that walk straight into the bank, states that jump about, and a bank elsewhere."""
    generator = torch.Generator().manual_seed(6)
    final = torch.randn(1, 64, 16, generator=generator).expand(32, 64, 16) + 0.1 * torch.randn(
        32, 64, 16, generator=generator
    )
    start = final + 8 * torch.randn(32, 64, 16, generator=generator)
    sites = ("embedding", "layer 1", "layer 2", "layer 3", "final norm")
    falling = {name: torch.lerp(start, final, w) for name, w in zip(sites, (0, 0.4, 0.7, 1, 1), strict=True)}
    jumping = {name: final + 8 * torch.randn(final.shape, generator=generator) for name in sites[:-2]}
    return falling, jumping | {name: final for name in sites[-2:]}, 50 + torch.randn(512, 16, generator=generator)


def test_descent_sees_a_path_that_falls_and_one_that_does_not():
    """States that walk straight into the bank fall at every step; states that jump about do not."""
    good, bad = (path_of(states) for states in walks()[:2])
    assert good["falling"].value > 0.95
    assert bad["falling"].value < 0.75
    assert good["falling_straight"].value > 0.9
    assert good["kendall_tau"].value < -0.9
    assert abs(good["excess"].value) < 0.1


def test_descent_nulls_destroy_what_they_are_meant_to():
    """In random order of layers half of the steps fall; in random directions almost none."""
    falling, _, elsewhere = walks()
    found = path_of(falling, shuffled_MD=elsewhere)
    assert 0.4 < found["falling_layers_permuted"].value < 0.6
    assert found["falling_random_step"].value < 0.2
    assert found["falling_to_mean"].value > 0.5
    assert found["within_log_layers"].value >= found["falling"].value
    assert [x["effective"] for x in found["falling_at"]][:2] == [1.5, 30.0]
    assert found["falling_shuffled_bank"].value < found["falling"].value


def test_layers_touch_the_global_energy_where_their_states_already_lie_and_not_elsewhere():
    """With the same patterns in every layer E_t lies log(layers) above E_global. With patterns far from the states a
    layer acts on it lies far above: only the first of three layers here is the lowest one where its step begins."""
    generator = torch.Generator().manual_seed(7)
    same = torch.randn(32, 16, 12, generator=generator)
    still = path_of(dict.fromkeys(("embedding", "layer 1", "layer 2", "layer 3", "final norm"), same), n_states=64)
    assert still["tangency"].value == pytest.approx(math.log(3), rel=1e-4)
    assert still["global"][0].value == pytest.approx(still["energy"][0].value - math.log(3) / still["beta"], rel=1e-4)
    jumping = {f"layer {i}": same + 20 * i for i in range(1, 4)}
    found = path_of({"embedding": same, **jumping, "final norm": same + 60})
    assert found["tangency"].value > 100
    assert found["tangent"].value == pytest.approx(1 / 3)


def test_landscape_has_its_wells_at_the_stored_states():
    """The energy at the grid point nearest to each stored corner is below the median of the plane."""
    found = landscape(gaussian_cloud(32))
    energies, x, y = np.array(found["energy"]), np.array(found["x"]), np.array(found["y"])
    for point in found["points"]:
        here = energies[np.abs(y - point["y"]).argmin(), np.abs(x - point["x"]).argmin()]
        assert here < np.median(energies)

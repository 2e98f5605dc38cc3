"""Laws are formulas: their gradients agree with finite differences and their constants with the published tables."""

import numpy as np
import pytest

from memscape.errors import TableError
from memscape.laws.law import LAWS
from memscape.theory import published


@pytest.mark.parametrize("name", LAWS)
def test_gradient_agrees_with_central_differences(name):
    """The solver trusts the analytic gradient of every law, at interior points of its box."""
    law, rng = LAWS[name], np.random.default_rng(0)
    starts = law.starts()
    theta = starts[rng.integers(0, len(starts), 30)] + rng.normal(0, 0.05, (30, len(law.parameters)))
    theta = np.clip(theta, law.lower + 0.05, law.upper - 0.05)
    x = np.sort(rng.uniform(5, 16, (len(law.inputs), 25)), axis=0)  # tokens seen are never fewer than unique ones
    gradient = law.value(theta, x)[1]
    for k in range(len(law.parameters)):
        step = np.zeros(len(law.parameters))
        step[k] = 1e-6
        numeric = (law.value(theta + step, x)[0] - law.value(theta - step, x)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, k], numeric, rtol=1e-5, atol=1e-6)


def test_chinchilla_at_its_own_point_gives_the_published_losses():
    """70 B parameters and 1.4 T tokens: 1.9366 (Hoffmann et al.), 1.9739 (Besiroglu et al.)."""
    at = {"n_params": 70e9, "n_tokens": 1.4e12}
    assert LAWS["chinchilla"].at("hoffmann", **at) == pytest.approx(1.9366, abs=1e-4)
    assert LAWS["chinchilla"].at("besiroglu", **at) == pytest.approx(1.9739, abs=1e-4)


@pytest.mark.parametrize(("n", "unique", "seen"), [(1e8, 1e9, 1e9), (1e9, 1e9, 4e9), (8e9, 1e9, 1e11)])
def test_repeated_data_law_agrees_with_the_theory_room(n, unique, seen):
    """Two independent writings of Muennighoff et al.'s law agree, with and without surplus parameters."""
    said = LAWS["repeated"].at("muennighoff", n_params=n, n_tokens=unique, tokens_seen=seen)
    assert said == pytest.approx(published.repeated_loss(n, unique, seen), rel=1e-6)


def test_kaplan_agrees_with_the_theory_room():
    """The joint law is written in logs here and plainly there."""
    said = LAWS["kaplan"].at("kaplan", n_params=1e8, n_tokens=1e10)
    assert said == pytest.approx(published.KAPLAN.loss(1e8, 1e10), rel=1e-12)


def test_capacity_saturates_at_c_bits_per_parameter():
    """Few bits are all held; of many, c N."""
    law = LAWS["capacity"]
    said = np.exp(law.value(np.array([[np.log(2.0), 1.5]]), np.log([[1e5, 1e5], [1e2, 1e9]]))[0][0])
    np.testing.assert_allclose(said, [1e2, 2e5], rtol=1e-3)


def test_unknown_constants_list_the_known_ones():
    """A misspelt variant is answered with its names."""
    with pytest.raises(TableError, match="besiroglu, hoffmann"):
        LAWS["chinchilla"].constants("besiroglou")

"""Published laws: constants, exponents, optima."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscape.theory import published
from memscape.theory.published import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED, KAPLAN, MUENNIGHOFF


@pytest.mark.parametrize(
    ("law", "expected"), [(HOFFMANN, 92.65), (HOFFMANN_UNROUNDED, 59.08), (BESIROGLU, 18.39), (MUENNIGHOFF, 19.61)]
)
def test_tokens_per_parameter_at_chinchillas_compute(law, expected):
    """D/N at C = 5.76e23, to 1e-3 relative: rounding alone moves it from 59 to 93."""
    assert law.optimum(5.76e23).tokens_per_param == pytest.approx(expected, rel=1e-3)


@given(st.floats(1e18, 1e25), st.sampled_from([HOFFMANN, BESIROGLU, MUENNIGHOFF]), st.floats(0.2, 5))
def test_no_other_split_of_the_compute_has_a_lower_loss(flops, law, factor):
    """The closed-form optimum is the minimum of L at 6ND = C, and optimal_params inverts it."""
    best = law.optimum(flops)
    assert 6 * best.n_params * best.n_tokens == pytest.approx(flops)
    assert law.loss(best.n_params * factor, best.n_tokens / factor) >= law.loss(best.n_params, best.n_tokens) - 1e-12
    assert law.optimal_params(best.n_tokens) == pytest.approx(best.n_params)


def test_the_losses_of_chinchilla_itself():
    """70B on 1.4T: 1.9366 and 1.9739, not the 2.2 of the paper's Table 2."""
    assert HOFFMANN.loss(70e9, 1.4e12) == pytest.approx(1.9366, abs=1e-4)
    assert BESIROGLU.loss(70e9, 1.4e12) == pytest.approx(1.9739, abs=1e-4)


def test_repeated_tokens_lose_their_worth():
    """Four epochs are worth 0.93142 of fresh data; no number of epochs is worth more than 16.3878 of one."""
    assert published.effective(1, 4, published.REUSE_TOKENS) / 4 == pytest.approx(0.93142, abs=1e-5)
    assert published.effective(1, 1e9, published.REUSE_TOKENS) == pytest.approx(16.3878, abs=1e-4)
    assert MUENNIGHOFF.optimal_params(1.0) == pytest.approx(0.0509865, abs=1e-7)
    small = 0.05 * 1e8
    assert published.repeated_loss(small, 1e8, 1e8) == pytest.approx(MUENNIGHOFF.loss(small, 1e8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Kaplan joint", 1.355),
        ("Kaplan separate", 1.250),
        ("Kaplan no-overfit", 1.351),
        ("Kaplan compute-optimal", 2.70),
        ("Chinchilla", 0.824),
        ("Chinchilla, unrounded", 0.840),
        ("Chinchilla, refit", 1.052),
        ("repeated data, one epoch", 1.0),
        ("capacity, facts", 1.0),
        ("capacity, random text", 1.0),
    ],
)
def test_the_exponents_of_the_competing_laws(name, expected):
    """p of N ∝ D^p, with its source."""
    law = {law.name: law for law in published.LAWS}[name]
    assert law.exponent == pytest.approx(expected, abs=6e-3 if name.endswith("optimal") else 6e-4)
    assert any(ch.isdigit() for ch in law.source)


def test_the_joint_law_balances_its_terms_at_its_exponent():
    """Doubling N at equal terms takes D up by 2^(0.076/0.103)."""
    n, factor = 1e8, 2.0
    d = KAPLAN.D_c / (KAPLAN.N_c / n) ** (KAPLAN.alpha_N / KAPLAN.alpha_D)
    up = KAPLAN.D_c / (KAPLAN.N_c / (factor * n)) ** (KAPLAN.alpha_N / KAPLAN.alpha_D)
    assert math.log(factor) / math.log(up / d) == pytest.approx(1.3553, abs=1e-4)
    assert KAPLAN.loss(n, d) == pytest.approx(2**KAPLAN.alpha_D * (KAPLAN.D_c / d) ** KAPLAN.alpha_D)


def test_kaplans_own_threshold_at_the_papers_sizes():
    """2.11, 2.86 and 3.53 billion tokens: ten times the paper's D*."""
    got = [KAPLAN.no_overfit_tokens(n) / 1e9 for n in (39.95e6, 60.26e6, 80.20e6)]
    assert got == pytest.approx([2.11, 2.86, 3.53], abs=5e-3)

"""The paper's Table 3: what three points, a grid and a threshold support."""

import math

import pytest

from memscape.theory import table3


def test_the_exponent_and_what_stays_open():
    """1.900 ± 1.22 (one degree of freedom), pairs 2.048 and 1.711, grid range 1.416 to 2.429."""
    fit = table3.refit()
    assert fit.exponent == pytest.approx(1.900, abs=1e-3)
    assert fit.half_width == pytest.approx(1.22, abs=5e-3)
    assert fit.pairs == pytest.approx((2.048, 1.711), abs=1e-3)
    assert fit.grid_range == pytest.approx((1.416, 2.429), abs=1e-3)
    assert [r * 1e10 for r in fit.ratios] == pytest.approx([8.709, 8.793, 8.379], abs=1e-3)


@pytest.mark.parametrize(
    ("power", "expected"), [(1, 1.39), (1.22, 1.28), (1.35, 1.22), (1.5, 1.16), (1.9, 1.03), (2, 1.05), (2.5, 1.25)]
)
def test_a_constant_ratio_at_two_is_no_evidence_for_two(power, expected):
    """The spread of N/D*^p is as small at 1.9 as at 2, and 1.22 at Kaplan's 1.35."""
    assert table3.refit().spread(power) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize(
    ("threshold", "inclusive", "expected", "ratios"),
    [
        (0.045, False, 2.328, (8.71, 10.64, 9.83)),
        (0.04, True, 2.328, (8.71, 10.64, 9.83)),
        (0.055, False, 2.107, (11.02, 13.14, 11.70)),
    ],
)
def test_the_exponent_moves_with_the_threshold(threshold, inclusive, expected, ratios):
    """σ² = 0.045, or ≤ for <, gives 2.33; 0.055 gives 2.11."""
    fit = table3.refit(tuple(table3.data_star(m, threshold, inclusive) for m in table3.TABLE))
    assert fit.exponent == pytest.approx(expected, abs=1e-3)
    assert [r * 1e10 for r in fit.ratios] == pytest.approx(ratios, abs=5e-3)


def test_the_printed_rule_does_not_give_the_printed_table():
    """MSE < 0.04 leaves the first row without any D*, although the paper lists one."""
    assert math.isnan(table3.data_star(table3.TABLE[0], table3.THRESHOLD))
    assert [table3.data_star(m, table3.THRESHOLD) for m in table3.TABLE[1:]] == list(table3.PRINTED_D_STAR[1:])


def test_the_theorys_own_prefactor_misses_by_four_orders():
    """d = 1751.9, 2029.2, 2152.3 sequences; N/D² off by 1.43e4, 1.59e4, 1.97e4."""
    rows = [table3.prefactor(m, d) for m, d in zip(table3.TABLE, table3.PRINTED_D_STAR, strict=True)]
    assert [m.geometry.params_const for m in table3.TABLE] == pytest.approx([5.487, 4.597, 4.835], abs=1e-3)
    assert [r.n_patterns for r in rows] == pytest.approx([1751.9, 2029.2, 2152.3], abs=0.1)
    assert [r.n_tokens / 1e6 for r in rows] == pytest.approx([1.794, 2.078, 2.204], abs=1e-3)
    assert [r.data_factor for r in rows] == pytest.approx([119, 126, 140], abs=0.5)
    assert [r.ratio for r in rows] == pytest.approx([1.241e-5, 1.396e-5, 1.651e-5], rel=1e-3)
    assert [r.ratio_factor for r in rows] == pytest.approx([1.43e4, 1.59e4, 1.97e4], rel=5e-3)


def test_planted_exponents_are_recovered():
    """Rows made with N = c D^1.35 give 1.35 and an interval of no width."""
    table = tuple(
        m.model_copy(update={"n_params": 2e-4 * d**1.35})
        for m, d in zip(table3.TABLE, table3.PRINTED_D_STAR, strict=True)
    )
    fit = table3.refit(table=table)
    assert fit.exponent == pytest.approx(1.35)
    assert fit.half_width < 1e-9

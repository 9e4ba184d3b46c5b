"""Rank correlations, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from app.store import agreement


@pytest.mark.parametrize("n", [2, 3, 17, 1000])
@pytest.mark.parametrize("digits", [0, 1, 9], ids=["many ties", "some ties", "none"])
def test_the_correlations_are_those_of_scipy(n: int, digits: int) -> None:
    draw = np.random.default_rng(n + digits)
    a = draw.normal(size=n).round(digits)
    b = (a + draw.normal(size=n)).round(digits)
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert agreement.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)
        assert agreement.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_the_same_order_is_one_and_the_reversed_minus_one() -> None:
    a = np.array([3.0, -1.0, 0.5, 10.0])
    assert (agreement.kendall(a, a**3), agreement.spearman(a, a**3)) == (1, 1)
    assert (agreement.kendall(a, -a), agreement.spearman(a, -a)) == (-1, -1)


def test_scores_all_alike_have_no_correlation() -> None:
    a, same = np.arange(4.0), np.zeros(4)
    assert agreement.kendall(a, same) is None
    assert agreement.spearman(same, a) is None
    assert agreement.kendall(np.ones(1), np.ones(1)) is None


def test_the_tops_share_what_both_rank_high_and_ties_go_by_index() -> None:
    a = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 1.0])
    b = np.array([5.0, 1.0, 4.0, 4.0, 0.0, 0.0])
    one, two = agreement.shared(a, b, [1, 2])
    assert one == {"k": 1, "harmful": 1, "helpful": 1}
    assert two == {"k": 2, "harmful": 0.5, "helpful": 1}

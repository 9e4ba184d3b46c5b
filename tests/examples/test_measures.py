"""The measures of the examples against their definitions, written out naively."""

from __future__ import annotations

import numpy as np
import pytest

from examples.measures import auc, precision_at


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, wrong = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3  # with many ties
    above = scores[wrong][:, None] > scores[~wrong]
    equal = scores[wrong][:, None] == scores[~wrong]
    assert auc(scores, wrong) == pytest.approx((above + 0.5 * equal).mean())


def test_precision_counts_the_highest_scores_and_breaks_ties_by_index() -> None:
    scores, wrong = np.array([1.0, 3.0, 2.0, 2.0]), np.array([True, False, True, False])
    assert precision_at(1, scores, wrong) == 0.0
    assert precision_at(2, scores, wrong) == 0.5
    assert precision_at(4, scores, wrong) == 0.5

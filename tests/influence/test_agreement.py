"""Correlations, their intervals, and which samples are left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, spearmanr

from worker.influence.agreement import Floats, agreement, choose, reliability


def pairs(n: int, correlation: float, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return a, correlation * a + (1 - correlation**2) ** 0.5 * rng.normal(size=n)


def test_figures_are_scipys() -> None:
    a, b = pairs(50, 0.8)
    a, b = a.round(1), b.round(1)  # ties
    found = agreement(a, b)
    assert found.spearman == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)
    assert found.pearson == pytest.approx(pearsonr(a, b).statistic, rel=1e-12)
    assert found.slope == pytest.approx(np.polyfit(a, b, 1)[0], rel=1e-9)
    for name, statistic in (("spearman", spearmanr), ("pearson", pearsonr)):
        wanted = bootstrap(
            (a, b), lambda x, y, f=statistic: f(x, y).statistic, paired=True, vectorized=False,
            n_resamples=2000, method="percentile", rng=np.random.default_rng(1),
        ).confidence_interval  # fmt: skip
        assert getattr(found, f"{name}_interval") == pytest.approx(tuple(wanted), abs=0.03)


def test_a_weight_is_so_many_samples() -> None:
    a, b = pairs(12, 0.5)
    weights = np.array([1, 2, 3] * 4, dtype=float)
    found = agreement(a, b, weights)
    whole = agreement(*(np.repeat(v, weights.astype(int)) for v in (a, b)))
    assert found.spearman == pytest.approx(whole.spearman, rel=1e-12)
    assert found.pearson == pytest.approx(whole.pearson, rel=1e-12)
    assert found.slope == pytest.approx(whole.slope, rel=1e-12)


def test_scores_that_are_all_alike_agree_with_nothing() -> None:
    found = agreement(np.zeros(20), pairs(20, 0.5)[1])
    assert np.isnan([found.spearman, found.pearson, found.slope, *found.spearman_interval]).all()


def test_extremes_flatter_unless_each_stands_for_itself() -> None:
    a, b = pairs(4000, 0.5)
    true = spearmanr(a, b).statistic
    raw, weighed = [], []
    for seed in range(20):
        rows, weights = choose(80, len(a), seed=seed, sampling="mixed", scores=a)
        assert len(set(rows)) == 80 and sum(weights) == pytest.approx(len(a))
        assert {int(a.argmin()), int(a.argmax())} <= set(rows)
        raw.append(agreement(a[rows], b[rows]).spearman)
        weighed.append(agreement(a[rows], b[rows], np.array(weights)).spearman)
    assert np.mean(raw) > true + 0.15
    assert np.mean(weighed) == pytest.approx(true, abs=0.05)


def test_random_samples_depend_on_the_seed_alone() -> None:
    rows, weights = choose(30, 100, seed=3)
    assert rows == sorted(set(rows)) == choose(30, 100, seed=3)[0] != choose(30, 100, seed=4)[0]
    assert set(weights) == {100 / 30}
    with pytest.raises(ValueError, match="out of"):
        choose(101, 100, seed=0)


def test_the_mean_over_orders_is_as_reliable_as_spearman_and_brown_say() -> None:
    rng = np.random.default_rng(0)
    effect = rng.normal(size=3000)
    orders = effect + 1.5 * rng.normal(size=(8, 3000))
    r, found = reliability(orders[:4])
    assert r == pytest.approx(1 / (1 + 1.5**2), abs=0.04)
    assert found == pytest.approx(spearmanr(orders[:4].mean(0), orders[4:].mean(0)).statistic, abs=0.04)

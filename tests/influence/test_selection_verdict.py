"""What retraining showed, in figures and in words."""

from __future__ import annotations

import pytest
from scipy import stats

from worker.influence.selection.verdict import T975, changed, compared, summary, words


def test_the_interval_is_students() -> None:
    found = summary([0.1, 0.4, 0.2, None])
    assert found is not None and found["each"] == [0.1, 0.4, 0.2]
    assert found["interval"] == pytest.approx(
        list(stats.t.interval(0.95, 2, loc=found["mean"], scale=stats.sem([0.1, 0.4, 0.2]))), abs=1e-3
    )
    assert [round(float(stats.t.ppf(0.975, df)), 3) for df in range(1, len(T975) + 1)] == list(T975)


def test_one_value_has_no_interval_and_none_no_summary() -> None:
    one = summary([0.5])
    assert one is not None and one["interval"] is None
    assert summary([None, float("nan")]) is None


def test_differences_are_paired_by_seed() -> None:
    found = compared([1.0, 2.0, 3.0], [0.5, 1.4, 2.6])
    assert found is not None
    assert found["difference"]["each"] == pytest.approx([-0.5, -0.6, -0.4])
    assert changed(found)
    missing = compared([1.0, 2.0], [None, 2.5])
    assert missing is not None and missing["difference"]["each"] == [0.5] and not changed(missing)
    assert compared([None], [1.0]) is None


def test_words_tell_a_change_from_none() -> None:
    gain, nothing = compared([0.5, 0.6, 0.5], [0.4, 0.5, 0.4]), compared([0.9, 0.8, 0.9], [0.8, 0.9, 0.9])
    told = words(gain, nothing, 3)
    assert told.replace("\N{MINUS SIGN}", "~") == (
        "It changed the query loss by ~0.1 (~0.1 to ~0.1), over 3 seeds; no change that 3 seeds could tell "
        "of the accuracy (~24.8 to +24.8 points)."
    )
    assert words(nothing, None, 3) == (
        "Nothing changed that 3 seeds could tell of the query loss (\N{MINUS SIGN}0.248 to +0.248)."
    )
    once = compared([0.5], [0.4])
    assert words(once, None, 1) == "Nothing changed that 1 seed could tell of the query loss."
    assert words(None, None, 2) == "Nothing can be said: training diverged with all seeds on one side."

"""Which samples are taken by a number each, and the fair share of each class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.influence.selection.choosing import coreset, drawn, most, postponed, quotas
from worker.influence.selection.labels import suggested


def test_the_most_come_highest_first_ties_by_index_and_nan_last() -> None:
    values = np.array([1.0, np.nan, 3.0, 3.0, 2.0])
    assert most(values, 4).tolist() == [2, 3, 4, 0]
    assert most(values, 5).tolist() == [2, 3, 4, 0, 1]


def test_a_rare_class_keeps_half_an_equal_share_or_all_it_has() -> None:
    assert quotas(np.array([900, 90, 10]), 100).tolist() == [74, 16, 10]
    assert quotas(np.array([50, 50]), 10).tolist() == [5, 5]
    assert quotas(np.array([3, 3, 3]), 4).tolist() == [2, 1, 1]  # remainders alike: the first class


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.data())
def test_quotas_add_up_and_no_class_gives_more_than_it_has(counts: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, sum(counts)))
    found = quotas(np.array(counts), size)
    assert found.sum() == size
    assert (found >= 0).all() and (found <= counts).all()
    assert (found >= np.minimum(counts, size // (2 * len(counts)))).all()


def test_a_coreset_keeps_the_least_harmful_of_each_class() -> None:
    harm = np.array([0.9, 0.1, 0.5, 0.2, 0.8, 0.3])
    labels = np.array([0.0, 0, 0, 0, 1, 1])
    assert coreset(harm, 3).tolist() == [1, 3, 5]
    assert coreset(harm, 3, labels).tolist() == [1, 3, 5]
    assert coreset(-harm, 3, labels).tolist() == [0, 4, 2]


def test_another_label_is_suggested_only_where_the_model_says_so() -> None:
    found = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
    label, confidence = suggested(found, torch.tensor([0.0, 0.0]))
    assert label[0].isnan() and confidence[0].isnan()
    assert label[1].item() == 1 and confidence[1].item() == pytest.approx(0.8)


def test_samples_are_drawn_by_their_weights() -> None:
    weights = np.array([4.0, 1.0, 1.0, 0.0])
    first = [int(np.argmax(drawn(weights, seed))) for seed in range(600)]
    assert np.bincount(first, minlength=4) / 600 == pytest.approx([4 / 6, 1 / 6, 1 / 6, 0], abs=0.06)
    assert (drawn(weights, 1) == drawn(weights, 1)).all()


def test_the_postponed_come_last_and_keep_their_order() -> None:
    harm = np.array([0.3, 0.1, 0.3, 0.2])
    assert postponed(harm, np.zeros(4, dtype=bool)).tolist() == [2, 0, 3, 1]
    assert postponed(harm, np.array([False, True, False, False])).tolist() == [1, 3, 2, 0]

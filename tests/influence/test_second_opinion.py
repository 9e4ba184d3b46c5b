"""What two runs together say of suspected labels."""

from __future__ import annotations

import numpy as np
import torch

from worker.influence.selection.second import decided, seen_at, suspects


def test_half_as_many_again_are_suspected_as_labels_are_wrong() -> None:
    values = np.array([0.1, 0.9, 0.5, 0.7, 0.3])
    assert suspects(values, 2).tolist() == [1, 3, 2]
    assert suspects(values, 0).tolist() == []
    assert len(suspects(values, 5)) == 5


def test_a_suspect_is_acquitted_relabelled_or_neither() -> None:
    first = torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2], [0.4, 0.1, 0.5]])
    second = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3], [0.2, 0.4, 0.4]])
    found = decided(first.double(), second.double(), torch.zeros(4, dtype=torch.float64))
    assert found.acquitted.tolist() == [True, False, False, False]
    assert found.label.nan_to_num(-1).tolist() == [-1, 2, -1, 2]
    torch.testing.assert_close(
        found.confidence, torch.tensor([torch.nan, 0.7, torch.nan, 0.45]).double(), equal_nan=True
    )


def test_a_runs_states_are_asked_at_even_distances() -> None:
    assert sorted(seen_at(25)) == [2, 5, 8, 10, 12, 15, 18, 20, 22, 25]
    assert sorted(seen_at(3)) == [1, 2, 3]

"""What a second run says of suspected labels."""

from __future__ import annotations

import numpy as np
import torch

from worker.influence.selection.second import CERTAIN, Decided, decided, seen_at, suspects


def test_half_as_many_again_are_suspected_as_labels_are_wrong() -> None:
    values = np.array([0.1, 0.9, 0.5, 0.7, 0.3])
    assert suspects(values, 2).tolist() == [1, 3, 2]
    assert suspects(values, 0).tolist() == []
    assert len(suspects(values, 5)) == 5


def seen(wrong: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(calibrated probabilities [2000, 4] of a run, labels of which a share is wrong)."""
    draw = torch.Generator().manual_seed(0)
    found = (4 * torch.randn(2000, 4, generator=draw, dtype=torch.float64)).softmax(1)
    labels = torch.multinomial(found, 1, generator=draw)[:, 0]
    flipped = torch.rand(2000, generator=draw) < wrong
    return found, torch.where(flipped, (labels + torch.randint(1, 4, (2000,), generator=draw)) % 4, labels)


SUSPECTS = np.arange(4)
VIEWS = torch.tensor(
    [[0.999, 0.0003, 0.0003, 0.0004], [0.5, 0.4, 0.05, 0.05], [0.9, 0.01, 0.08, 0.01], [0.05, 0.9, 0, 0.05]]
).double()


def verdict(wrong: float) -> Decided:
    found, labels = seen(wrong)
    found[:4], labels[:4] = VIEWS, 1
    return decided(found, labels, SUSPECTS)


def test_a_suspect_is_relabelled_kept_or_removed() -> None:
    said = verdict(0.2)
    assert said.acquitted.tolist() == [False, True, False, True]
    assert said.relabelled.tolist() == [True, False, False, False]
    assert said.label.nan_to_num(-1).tolist() == [0, -1, 0, -1]
    assert said.confidence[0] > CERTAIN > said.confidence[2] > 0.5
    assert said.confidence[[1, 3]].isnan().all()


def test_the_label_as_given_is_believed_where_labels_are_right() -> None:
    said = verdict(0.0)
    assert said.acquitted.tolist() == [False, True, True, True]  # the first contradicts beyond any doubt
    assert not said.relabelled.any()


def test_a_runs_states_are_asked_at_even_distances() -> None:
    assert sorted(seen_at(25)) == [2, 5, 8, 10, 12, 15, 18, 20, 22, 25]
    assert sorted(seen_at(3)) == [1, 2, 3]


def test_wrong_labels_are_not_explained_away_where_the_network_is_as_sure_of_every_sample() -> None:
    truth, wrong = torch.arange(200) % 3, torch.arange(200) < 44
    other = (truth + 1) % 3  # is likelier than the third: a p that is soft enough makes it likely
    found = torch.full((200, 3), 0.002, dtype=torch.float64)
    found = found.scatter(1, truth[:, None], 0.99).scatter(1, other[:, None], 0.008)
    said = decided(found, torch.where(wrong, other, truth), np.arange(60))
    assert not said.acquitted[:44].any() and said.acquitted[44:].all()
    assert torch.equal(said.label[:44], truth[:44].double())

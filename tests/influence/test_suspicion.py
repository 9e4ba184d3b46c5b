"""The suspicion score: mean loss, corrected by what clean queries say where they can be believed."""

from __future__ import annotations

import math

import pytest
import torch

from worker.influence.evaluate import ranks, roc_auc
from worker.influence.suspicion import suspicion

N, CHECKPOINTS = 400, 3


@pytest.fixture
def losses() -> torch.Tensor:
    """[3, 400], as of a network that learned its wrong labels: they say nothing about which those are."""
    return torch.rand(CHECKPOINTS, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2


@pytest.fixture
def wrong() -> torch.Tensor:
    return torch.arange(N) % 4 == 0


@pytest.fixture
def harmful(wrong: torch.Tensor) -> torch.Tensor:
    """Scores against clean queries: few do much harm, the others a little good."""
    noise = 0.1 * torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (torch.where(wrong, 0.6, -0.2) + noise) / N


def test_the_formula(losses: torch.Tensor, harmful: torch.Tensor) -> None:
    mean, h = losses.mean(0), [N * score for score in harmful.tolist()]
    share = sum(map(abs, h)) / mean.sum().item()
    tails = sum(x * x for x in h if x > 0) / sum(x * x for x in h if x < 0)
    trust = min(1.0, tails) ** 2
    expected = [loss + math.tanh(3 * share * trust * x) for loss, x in zip(mean.tolist(), h, strict=True)]
    assert torch.equal(suspicion(losses, harmful).argsort(), torch.tensor(expected).argsort())


def test_without_queries_it_is_the_rank_of_the_mean_loss(losses: torch.Tensor) -> None:
    found = suspicion(losses)
    assert found.dtype == torch.float64
    assert torch.equal(found, (ranks(losses.mean(0)) - 0.5) / N)
    assert torch.equal(found, suspicion(losses, torch.zeros(N)))


def test_believable_scores_tell_where_losses_do_not(
    losses: torch.Tensor, wrong: torch.Tensor, harmful: torch.Tensor
) -> None:
    assert roc_auc(suspicion(losses), wrong) < 0.6
    assert roc_auc(suspicion(losses, harmful), wrong) > 0.9


def test_scores_whose_long_tail_is_helpful_count_for_little(
    losses: torch.Tensor, harmful: torch.Tensor
) -> None:
    before = suspicion(losses)
    believed = (suspicion(losses, harmful) - before).abs().mean()
    not_believed = (suspicion(losses, -harmful) - before).abs().mean()
    assert 0 < not_believed < believed / 2


def test_no_score_outvotes_a_plain_loss(losses: torch.Tensor, harmful: torch.Tensor) -> None:
    plain = losses.clone()
    plain[:, 1] = 9.0
    scores = harmful.clone()
    scores[1] = scores.min()
    assert suspicion(plain, scores)[1] == (N - 0.5) / N


def test_scores_are_in_units_of_the_runs_training_set(losses: torch.Tensor, harmful: torch.Tensor) -> None:
    part = slice(0, N // 2)
    whole = suspicion(losses[:, part], harmful[part] * 2)
    assert torch.equal(suspicion(losses[:, part], harmful[part], train_size=N), whole)


def test_ties_share_their_rank() -> None:
    found = suspicion(torch.tensor([[1.0, 2.0, 2.0, 3.0]]))
    assert found.tolist() == [0.125, 0.5, 0.5, 0.875]


def test_unknown_losses_are_left_out_and_samples_without_any_stand_in_the_middle() -> None:
    nan, inf = math.nan, math.inf
    losses = torch.tensor([[1.0, nan, nan, 5.0], [3.0, 3.0, nan, inf]])
    assert suspicion(losses).tolist() == pytest.approx([1 / 6, 3 / 6, 0.5, 5 / 6])
    harmful = torch.tensor([nan, 0.001, 0.5, inf])
    assert suspicion(losses, harmful).tolist() == pytest.approx([1 / 6, 3 / 6, 0.5, 5 / 6])


@pytest.mark.parametrize("scores", [None, torch.zeros(0)])
def test_no_samples_have_no_suspicion(scores: torch.Tensor | None) -> None:
    assert suspicion(torch.zeros(2, 0), scores).shape == (0,)


def test_losses_of_zero_leave_no_room_for_scores(harmful: torch.Tensor) -> None:
    assert torch.equal(suspicion(torch.zeros(2, N), harmful), torch.full((N,), 0.5, dtype=torch.float64))


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="checkpoints"):
        suspicion(torch.zeros(3))
    with pytest.raises(ValueError, match="2 samples"):
        suspicion(torch.zeros(1, 2), torch.zeros(3))

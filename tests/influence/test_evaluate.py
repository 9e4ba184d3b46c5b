"""The figures that compare rankings."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from worker.influence.evaluate import precision_at_k, roc_auc, spearman


@pytest.fixture
def ties() -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of which many are equal, and a truth they have to do with."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 12, (200,), generator=generator).double()
    return scores, scores + 6 * torch.rand(200, generator=generator) > 10


def test_auc_is_scikit_learns(ties: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, truth = ties
    assert roc_auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores), rel=1e-12)
    with pytest.raises(ValueError, match="both"):
        roc_auc(scores, torch.ones(200, dtype=torch.bool))


def test_spearman_is_scipys(ties: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, truth = ties
    assert spearman(scores, truth) == pytest.approx(spearmanr(scores, truth).statistic, rel=1e-12)
    assert spearman(scores, scores.exp()) == pytest.approx(1)
    assert spearman(scores, -scores) == pytest.approx(-1)


def test_precision_at_k_breaks_ties_by_index() -> None:
    truth = torch.tensor([False, True, False, True])
    assert precision_at_k(torch.tensor([2.0, 2.0, 1.0, 3.0]), truth, 2) == 0.5
    assert precision_at_k(torch.tensor([2.0, 2.0, 1.0, 3.0]), truth, 3) == pytest.approx(2 / 3)

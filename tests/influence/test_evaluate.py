"""Leave-one-out retraining and the figures that compare rankings."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

from worker.influence.evaluate import leave_one_out, precision_at_k, roc_auc, spearman
from worker.influence.task import Task


def test_leave_one_out_is_plain_training_with_one_weight_at_zero() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.randint(0, 2, (12,))
    xq, yq = torch.randn(5, 3, dtype=torch.float64), torch.randint(0, 2, (5,))
    order, rates = torch.stack([torch.randperm(12)[:4] for _ in range(9)]), [0.5] * 5 + [0.1] * 4

    def query_loss(without: int | None) -> float:
        network.load_state_dict(start)
        for rows, rate in zip(order, rates, strict=True):
            kept = [row for row in rows.tolist() if row != without]
            loss = nn.functional.cross_entropy(network(x[kept]), y[kept], reduction="sum") / len(rows)
            parameters = list(network.parameters())
            with torch.no_grad():
                for p, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    p.sub_(rate * slope)
        return nn.functional.cross_entropy(network(xq), yq).item()

    harm = leave_one_out(
        Task(network, "cross_entropy"), start, {}, x, y, order=order, rates=rates, removed=[0, 5, 7, 11],
        query_inputs=xq, query_targets=yq, at_once=3,
    )  # fmt: skip
    expected = [query_loss(None) - query_loss(row) for row in (0, 5, 7, 11)]
    assert harm.tolist() == pytest.approx(expected, rel=1e-9)


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

"""What really happens to each query when half of the training samples are left out."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.lab.training import retrain
from benchmarks.rivals.sets import Setting
from worker.influence.evaluate import ranks
from worker.influence.task import Task

AT_ONCE = 16  # more runs side by side only fall out of the caches
FIRST_SEED = 1000  # of retraining; trajectories that are scored have seeds below


def query_losses(setting: Setting, masks: torch.Tensor, repeats: int) -> torch.Tensor:
    """Each query's loss after training on each half, the mean over `repeats` runs: float64 [S, Q].

    Every run has a start and a batch order of its own, so that what is left is the half's doing.
    """
    task = Task(setting.make(), "cross_entropy")
    total = []
    for repeat in range(repeats):  # one entry of the cache each: more of them later cost only themselves
        seeds = range(FIRST_SEED + repeat * len(masks), FIRST_SEED + (repeat + 1) * len(masks))
        found = retrain(task, setting.make, setting.problem, setting.recipe, masks, seeds, at_once=AT_ONCE)
        total.append(found.double())
    return torch.stack(total).mean(0)


def lds(scores: np.ndarray, masks: torch.Tensor, losses: torch.Tensor) -> np.ndarray:
    """Linear datamodelling score of each query: Spearman over halves of Σ_{z in half} score and loss, [Q].

    Source: Park et al., TRAK, arXiv 2303.14186, section 2.

    Args:
        scores: [N, Q], positive = harmful.
        masks: [S, N]. losses: [S, Q].
    """
    predicted = masks.double() @ torch.from_numpy(np.asarray(scores, dtype=np.float64))  # [S, Q]
    a, b = (torch.stack([ranks(column) for column in part.T]) for part in (predicted, losses))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    found: np.ndarray = ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).numpy()
    return found

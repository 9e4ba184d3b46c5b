"""kronfluence's EKFAC influence functions, at the last checkpoint."""

from __future__ import annotations

import logging
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.rivals.job import Job, run

Samples = tuple[torch.Tensor, torch.Tensor]  # inputs [B, …], classes [B]

BATCH = 250


class Classification(Task):
    """Cross-entropy, for training and as the measurement."""

    def compute_train_loss(self, batch: Samples, model: nn.Module, sample: bool = False) -> torch.Tensor:
        inputs, targets = batch
        outputs = model(inputs)
        if sample:  # for the Fisher matrix, labels are drawn from what the network answers
            with torch.no_grad():
                targets = torch.multinomial(outputs.softmax(1), 1).flatten()
        return nn.functional.cross_entropy(outputs, targets, reduction="sum")

    def compute_measurement(self, batch: Samples, model: nn.Module) -> torch.Tensor:
        return self.compute_train_loss(batch, model)


def ekfac(job: Job, damping: float | None) -> torch.Tensor:
    """Args: damping: None is its heuristic, a tenth of the mean eigenvalue."""
    task = Classification()
    train, query = (TensorDataset(part.inputs, part.targets) for part in (job.train, job.query))
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "race", prepare_model(job.network(), task), task, cpu=True, disable_tqdm=True,
            log_level=logging.ERROR, output_dir=folder,
        )  # fmt: skip
        analyzer.fit_all_factors("f", train, BATCH, factor_args=FactorArguments(strategy="ekfac"))
        analyzer.compute_pairwise_scores(
            "s", "f", query, train, len(query), BATCH, score_args=ScoreArguments(damping_factor=damping)
        )
        found: torch.Tensor = analyzer.load_pairwise_scores("s")["all_modules"]
    return -found.T


if __name__ == "__main__":
    run(
        {
            "kronfluence.ekfac": partial(ekfac, damping=1e-8),
            "kronfluence.ekfac-damped": partial(ekfac, damping=None),
        }
    )

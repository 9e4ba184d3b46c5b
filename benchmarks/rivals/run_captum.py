"""captum's TracInCP and Arnoldi influence functions."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from captum.influence import TracInCP
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from torch import nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.rivals.job import Job, run

BATCH = 250


def tracincp(job: Job) -> torch.Tensor:
    """Every checkpoint, with the sum of its part's learning rates; sample-wise gradients, its faster way."""

    def load(network: nn.Module, k: str) -> float:
        network.load_state_dict(job.checkpoints[int(k)])
        return sum(job.rates[int(k)])

    scorer = TracInCP(
        job.network(),
        TensorDataset(job.train.inputs, job.train.targets),
        [str(k) for k in range(len(job.checkpoints))],
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=BATCH,
        sample_wise_grads_per_batch=True,
    )
    found: torch.Tensor = scorer.influence((job.query.inputs, job.query.targets))
    return -found.T


def arnoldi(job: Job) -> torch.Tensor:
    """The last checkpoint; all options as captum has them, the Hessian over all of the training set."""

    def load(network: nn.Module, k: str) -> float:
        network.load_state_dict(job.checkpoints[int(k)])
        return 1.0

    scorer = ArnoldiInfluenceFunction(
        job.network(),
        TensorDataset(job.train.inputs, job.train.targets),
        "-1",
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=BATCH,
        sample_wise_grads_per_batch=True,
    )
    found: torch.Tensor = scorer.influence((job.query.inputs, job.query.targets))
    return -found.T


if __name__ == "__main__":
    run({"captum.tracincp": tracincp, "captum.arnoldi": arnoldi})

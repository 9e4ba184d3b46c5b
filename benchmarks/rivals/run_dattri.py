"""dattri's TRAK, over all checkpoints or the last."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.rivals.job import Job, Tensors, run

BATCH = 250


def trak(job: Job, dimension: int, last: bool = False) -> torch.Tensor:
    """Margins for training samples and queries alike, as TRAK has it; a higher margin is a lower loss."""
    network = job.network()

    def margin(params: Tensors, sample: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """log p/(1-p) of the sample's class, in a form that does not overflow where p is near 1."""
        image, label = sample
        logits = functional_call(network, params, (image[None],))[0]
        own = torch.arange(len(logits)) == label
        rest: torch.Tensor = logits.masked_fill(own, -torch.inf).logsumexp(0)
        found: torch.Tensor = (logits * own).sum() - rest
        return found

    def probability(params: Tensors, sample: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return margin(params, sample).sigmoid()

    checkpoints = list(job.checkpoints[-1:] if last else job.checkpoints)
    task = AttributionTask(loss_func=margin, model=network, checkpoints=checkpoints)
    scorer = TRAKAttributor(task, probability, projector_kwargs={"proj_dim": dimension})
    with torch.no_grad():
        scorer.cache(DataLoader(TensorDataset(job.train.inputs, job.train.targets), BATCH))
        found: torch.Tensor = scorer.attribute(
            DataLoader(TensorDataset(job.query.inputs, job.query.targets), BATCH)
        )
    return -found


if __name__ == "__main__":
    run(
        {
            "dattri.trak-512": partial(trak, dimension=512),
            "dattri.trak-512-last": partial(trak, dimension=512, last=True),
        }
    )

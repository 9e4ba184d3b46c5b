"""A second opinion on a selection's suspects, by a run that is trained again without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from worker import again, selection
from worker.chunks import chunk_of
from worker.influence.memory import over_chunks
from worker.influence.selection.labels import SURE, probabilities
from worker.influence.selection.moved import Moved, mirrorable, movable
from worker.influence.selection.second import LONGER, Decided, decided, seen_at
from worker.influence.task import Tensors
from worker.influence.training import State
from worker.influence.trajectory import Data
from worker.lease import Renewal
from worker.problems import UserError
from worker.process import Process
from worker.selection import Floats, Selecting


def opinion(
    mine: Process, asked: Selecting, index: NDArray[np.int64], labels: Floats, renewal: Renewal
) -> Decided:
    """What a second run says of the suspects `index`; `labels` [N] are those of all samples.

    Raises:
        UserError: the second run diverged, or nothing is left to train it on.
    """
    given = torch.from_numpy(labels).long()
    other, confidence = selection.suggestions(mine, asked, index, labels[index], renewal)
    sure = np.nan_to_num(confidence) >= SURE
    relabelled = {int(row): float(to) for row, to, take in zip(index, other, sure, strict=True) if take}
    rows = sorted({*range(asked.num_samples)} - {*index.tolist()} | {*relabelled})
    seed = asked.request["training"]["recipe"]["seed"] or 0
    job = again.load(mine, asked.job_id, asked.request, seed)
    data = job.data(job.train, lambda samples: renewal.tick())
    if not (steps := job.recipe.steps(len(rows))):
        raise UserError(
            "nothing_left",
            f"All but {len(rows)} of {asked.num_samples} labels look wrong, and those are too few to train "
            "on again: the network that was scored may know too little to tell. Train it longer, or ask for "
            "one round (rounds: 1).",
        )
    wanted, every = seen_at(LONGER * steps), range(asked.num_samples)
    chunk = chunk_of(mine, selection.influence(mine, asked), data)
    found: torch.Tensor | None = None

    def see(step: int, state: State, held: Tensors) -> None:
        nonlocal found
        if step not in wanted:
            return

        @torch.no_grad()
        def of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return probabilities(job.task, job.task.outputs(state.params, held, inputs, targets))

        seen = torch.cat(list(over_chunks(of, data, chunk, every)))
        found = seen if found is None else found + seen

    shown = _shown(mine, asked, data, given, seed, renewal)
    if again.train_again(job, rows, relabelled, seed, renewal, see, longer=LONGER, shown=shown) is None:
        raise UserError(
            "diverged",
            "Training again without the suspected samples diverged: ask for one round (rounds: 1).",
        )
    assert found is not None  # noqa: S101  (the last step is always asked)
    return decided(found / len(wanted), given, index)


def _shown(
    mine: Process, asked: Selecting, data: Data, labels: torch.Tensor, seed: int, renewal: Renewal
) -> Callable[[Data], Data]:
    """What the second run reads its samples through."""
    if not movable(data):
        return lambda data: data
    first = replace(selection.influence(mine, asked), query_selection=None)  # all queries there are
    queries = first.query_data(lambda samples: renewal.tick())
    mirrored = queries is not None and mirrorable(
        first.task, first.runs[0].checkpoints[-1], queries, labels, chunk_of(mine, first, queries)
    )
    return partial(Moved, seed=seed, mirrored=mirrored)

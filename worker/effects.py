"""What a network knows of the samples that a selection takes out, of those left, and of the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from worker.influence.evaluate import roc_auc
from worker.influence.selection.parts import Part
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, draw_rows
from worker.outcome import Each, each

EVALUATED_ON = 20_000  # samples of those left: enough for a mean, without another pass over all of them
Effects = dict[str, Any]


def on_queries(task: Task, query: Data, params: Tensors, held: Tensors, memory: int) -> Effects:
    """{test}: loss and accuracy on the query samples."""
    return {"test": each(task, query, params, held, memory).outcome}


def of_deletion(
    task: Task, train: Data, removed: Sequence[int], query: Data, params: Tensors, held: Tensors, memory: int
) -> Effects:
    """{forget, retain, test: loss and accuracy on the removed, those left, the queries; membership_auc}.

    The membership-inference AUC is how well low loss tells the removed samples from the queries, which no
    network was trained on: ½ where the removed ones are forgotten, above it where they are remembered.
    """
    gone = set(removed)
    left = [row for row in range(len(train)) if row not in gone]
    if len(left) > EVALUATED_ON:
        left = [left[at] for at in draw_rows(len(left), EVALUATED_ON, seed=0)]
    parts = {"forget": Part(train, sorted(removed)), "retain": Part(train, left), "test": query}
    found = {name: each(task, part, params, held, memory) for name, part in parts.items()}
    told: Effects = {name: one.outcome for name, one in found.items()}
    return told | {"membership_auc": _membership(found["forget"], found["test"])}


def _membership(members: Each, others: Each) -> float:
    losses = torch.from_numpy(np.concatenate([members.losses, others.losses]))
    truth = torch.arange(len(losses)) < len(members.losses)
    return roc_auc(-losses, truth)

"""A whole job in one process, over the same pieces that a service runs on many machines: the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.influence.errors import NonFiniteError
from worker.influence.gradients import refuse_groups
from worker.influence.memory import chunk_size, halving
from worker.influence.methods import METHODS
from worker.influence.per_query import PER_QUERY
from worker.influence.pieces import Chunk, Method, query_of
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Data, Trajectory

CHUNK_BYTES = 1 << 30
QUERY_BYTES = 1 << 28  # of one vector for each query scored one by one; a few such sets are held at a time


@dataclass(frozen=True)
class Result:
    """Scores of N samples over m checkpoints.

    Attributes:
        scores: [N] float64, positive = harmful (but for `diff_in_eq9` with target "self").
        contributions: [m, N] float64, by checkpoint, adding up to the scores.
        losses: [m, N] float64.
        predictions: [N], at the last checkpoint.
        self_influence: [N] float64, or None.
        notes: for each checkpoint, the sweep's figures.
    """

    scores: torch.Tensor
    contributions: torch.Tensor
    losses: torch.Tensor
    predictions: torch.Tensor
    self_influence: torch.Tensor | None
    notes: list[dict[str, float]]


def score(
    method_name: str,
    task: Task,
    trajectory: Trajectory,
    train: Data,
    query: Data | None = None,
    *,
    seed: int = 0,
    chunk: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Scores every sample of `train`.

    Args:
        query: V, for methods that need one.
        chunk: samples at a time; None: by `memory.chunk_size`.
        options: of the method, by name; those left out take their defaults.

    Raises:
        ValueError: an unknown method or option, no query set where one is needed, or empty data.
        NonFiniteError: a loss, vector or score is NaN or infinite.
        SampleTooLargeError: one sample at a time does not fit into memory.
    """
    method = _method(METHODS, method_name)
    chunk = _chunk(task, trajectory, train, chunk)
    return _score(method, task, trajectory, train, query, seed=seed, chunk=chunk, options=options or {})


def score_queries(
    method_name: str,
    task: Task,
    trajectory: Trajectory,
    train: Data,
    query: Data,
    *,
    seed: int = 0,
    chunk: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """What each sample of `train` does to the loss of each of `query`: float64 [N, K], positive = harmful.

    As `score`, for the methods of `per_query.PER_QUERY`; as many queries are taken at a time as `QUERY_BYTES`
    hold vectors of.
    """
    refuse_groups(task)
    method = _method(PER_QUERY, method_name)
    chunk = _chunk(task, trajectory, train, chunk)
    each = sum(t.nbytes for t in trajectory.checkpoints[-1].params.values())
    parts = query_of(query).chunks(max(1, QUERY_BYTES // each))
    return torch.cat(
        [
            _score(
                method, task, trajectory, train, Arrays(*part), seed=seed, chunk=chunk, options=options or {}
            ).scores
            for part in parts
        ],
        dim=1,
    )


def _method(known: Mapping[str, Method], name: str) -> Method:
    if name not in known:
        raise ValueError(f"Unknown method {name!r}; known: {', '.join(known)}")
    return known[name]


def _chunk(task: Task, trajectory: Trajectory, train: Data, asked: int | None) -> int:
    if not len(trajectory.checkpoints) or len(train) == 0:
        raise ValueError("Scoring takes at least one checkpoint and one sample")
    if asked is not None:
        return asked
    [(inputs, targets)] = train.chunks(1, range(1))
    return chunk_size(task, trajectory.checkpoints[-1], inputs, targets, budget_bytes=CHUNK_BYTES)


def _score(
    method: Method,
    task: Task,
    trajectory: Trajectory,
    train: Data,
    query: Data | None,
    *,
    seed: int,
    chunk: int,
    options: Mapping[str, Any],
) -> Result:
    """One pass over the checkpoints; for a method of K single queries, contributions are [m, N, K]."""
    carry: dict[str, Tensors] | None = None
    by_checkpoint: list[Chunk] = []
    notes: list[dict[str, float]] = []
    for k in reversed(range(len(trajectory.checkpoints))):  # the order of a chained method
        vectors: dict[str, Tensors] = {}
        if method.sweep is not None:
            swept = method.sweep(
                task, trajectory, k, train, query, carry, seed=seed, chunk=chunk, options=options
            )
            vectors, carry = swept.vectors, swept.carry
            notes.insert(0, swept.notes)
        rows = range(len(train))
        scored = score_rows(method, task, trajectory, k, vectors, train, rows, chunk=chunk, options=options)
        by_checkpoint.insert(0, scored)
    contributions = torch.stack([scored.contribution for scored in by_checkpoint])
    own = [scored.self_influence for scored in by_checkpoint if scored.self_influence is not None]
    return Result(
        scores=method.reduce(contributions),
        contributions=contributions,
        losses=torch.stack([scored.loss for scored in by_checkpoint]),
        predictions=by_checkpoint[-1].prediction,
        self_influence=method.reduce(torch.stack(own)) if own else None,
        notes=notes,
    )


def score_rows(
    method: Method,
    task: Task,
    trajectory: Trajectory,
    k: int,
    vectors: dict[str, Tensors],
    train: Data,
    rows: range,
    *,
    chunk: int,
    options: Mapping[str, Any],
) -> Chunk:
    """What checkpoint k says of `rows`, on the CPU, losses in float64.

    Rows that start at a multiple of `chunk`, in whole groups, give the same bits as a pass over all of them.
    """

    def of(part: Sequence[int] | range) -> Chunk:
        [(inputs, targets)] = train.chunks(len(part), part)
        try:
            found = method.score_chunk(task, trajectory, k, vectors, inputs, targets, part, options=options)
        except NonFiniteError as error:
            raise error.shifted(part[0]) from None
        return Chunk(
            found.contribution.cpu(),
            found.loss.double().cpu(),
            found.prediction.cpu(),
            None if found.self_influence is None else found.self_influence.cpu(),
        )

    parts = list(halving(of, rows, chunk, task.group))
    own = [part.self_influence for part in parts if part.self_influence is not None]
    return Chunk(
        torch.cat([part.contribution for part in parts]),
        torch.cat([part.loss for part in parts]),
        torch.cat([part.prediction for part in parts]),
        torch.cat(own) if own else None,
    )

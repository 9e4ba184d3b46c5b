"""What the service answers, typed: unknown fields are ignored, missing ones take their default."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from types import UnionType
from typing import Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Json = dict[str, Any]

_KNOWN: dict[type[Any], Json] = {}
FINISHED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Problem:
    """An RFC 9457 problem: what is wrong, where, and how to mend it. `fault` is `user` or `service`."""

    detail: str = ""
    code: str = ""
    title: str = ""
    status: int = 0
    fault: str | None = None
    errors: tuple[Json, ...] = ()
    request_id: str | None = None


@dataclass(frozen=True)
class Dataset:
    """N samples with their targets; `status` goes from `validating` to `ready` or `invalid`."""

    id: str
    name: str
    status: str
    format: str | None = None
    uri: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    num_samples: int | None = None
    input: Json | None = None
    num_classes: int | None = None
    class_counts: tuple[int, ...] | None = None
    classes: tuple[str, ...] | None = None
    columns: Json | None = None
    encoding: Json | None = None
    features: tuple[Json, ...] | None = None
    like: str | None = None
    error: Problem | None = None
    metadata: Json | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimizer steps, with the learning rate(s) of the steps since the one before."""

    id: str
    step: int
    status: str
    trajectory_id: str | None = None
    uri: str | None = None
    learning_rate: float | None = None
    learning_rates: tuple[float, ...] | None = None
    optimizer_file: Json | None = None
    error: Problem | None = None


@dataclass(frozen=True)
class BatchOrder:
    """Which samples each of `steps` batches held; `status` as a data set's."""

    status: str
    sha256: str | None = None
    steps: int | None = None
    batch: int | None = None
    error: Problem | None = None


@dataclass(frozen=True)
class TrajectoryFile:
    """A file that tells what a run's network is; `role` is "architecture" for its graph."""

    role: str
    status: str
    filename: str = ""
    bytes: int | None = None
    sha256: str | None = None
    error: Problem | None = None


@dataclass(frozen=True)
class Trajectory:
    """One training run: its network, task and optimizer, and the checkpoints received, by step.

    `status` is that of the network, as a data set's: `invalid` where the file that tells of it was refused.
    """

    id: str
    name: str
    architecture: Json
    task: Json
    preprocessing: Json | None = None
    optimizer: Json | None = None
    batch_size: int | None = None
    train_size: int | None = None
    total_steps: int | None = None
    recipe: Json | None = None
    checkpoints: tuple[Checkpoint, ...] = ()
    batch_order: BatchOrder | None = None
    files: tuple[TrajectoryFile, ...] = ()
    status: str = "ready"
    error: Problem | None = None
    metadata: Json | None = None
    created_at: datetime | None = None

    @property
    def parts(self) -> tuple[TrajectoryFile | Checkpoint | BatchOrder, ...]:
        """Everything that the service validates: what tells of the network first."""
        return (*self.files, *self.checkpoints, *((self.batch_order,) if self.batch_order else ()))


@dataclass(frozen=True)
class Progress:
    """How far a job is: `completed` of `total`, in `unit`."""

    completed: float = 0
    total: float | None = None
    unit: str = ""
    message: str | None = None


@dataclass(frozen=True)
class Job:
    """A question put to the service (`influence`), or training that it does (`train`).

    `status`: queued → running → succeeded | failed, or cancelling → cancelled.
    """

    id: str
    type: str
    status: str
    name: str | None = None
    progress: Progress = Progress()
    attempt: int | None = None
    method: Json | None = None
    trajectory_id: str | None = None
    trajectory_ids: tuple[str, ...] = ()
    train_dataset_id: str | None = None
    query_dataset_id: str | None = None
    seed: int | None = None
    architecture: Json | None = None
    task: Json | None = None
    recipe: Json | None = None
    checkpoints: tuple[int, ...] = ()
    total_steps: int | None = None
    metadata: Json | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    estimated_finish_at: datetime | None = None
    error: Problem | None = None
    result: Json | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


@dataclass(frozen=True)
class Contribution:
    """The part of a sample's score that one checkpoint's segment of training made."""

    checkpoint_id: str
    step: int | None
    contribution: float
    trajectory_id: str | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Score:
    """One training sample's row. Positive = harmful; `rank` 1 is the most harmful.

    `standard_error` is over repeats or trajectories, `suspicion` how much points to a wrong label.
    `contributions`, one a checkpoint, add up to `score`; given only when one sample is asked for.
    """

    sample_index: int
    score: float
    rank: int
    percentile: float
    sample_id: str | None = None
    standard_error: float | None = None
    self_influence: float | None = None
    suspicion: float | None = None
    label: int | float | None = None
    label_name: str | None = None
    predicted_label: int | float | None = None
    predicted_label_name: str | None = None
    loss: float | None = None
    agrees: bool | None = None
    contributions: tuple[Contribution, ...] = ()


@dataclass(frozen=True)
class Influence:
    """A training sample's influence on one query sample: positive = it raised its loss."""

    rank: int
    sample_index: int
    score: float
    sample_id: str | None = None
    label: int | float | None = None
    label_name: str | None = None


@dataclass(frozen=True)
class Summary:
    """A job's scores in figures; `quantiles` by probability, `histogram` {edges [B+1], counts [B]}."""

    count: int
    mean: float
    std: float
    min: float
    max: float
    quantiles: dict[str, float]
    histogram: Json
    by_class: tuple[Json, ...] | None = None


@dataclass(frozen=True)
class Comparison:
    """How far two jobs agree on the same samples, from 1 (alike) to -1 (reversed).

    `top` tells which share of the k most harmful, and most helpful, both name: {k, harmful, helpful} each.
    """

    num_samples: int
    spearman: float | None = None
    kendall: float | None = None
    top: tuple[Json, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What a job will take; `seconds` on `device` is known once a job like it has succeeded."""

    forward_passes: int
    memory_bytes: int | None = None
    seconds: float | None = None
    device: str | None = None
    basis: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to a job: `job.queued`, `job.started`, `job.progress`, `job.succeeded`, …"""

    type: str
    id: str | int | None = None
    created_at: datetime | None = None
    data: Json | None = None


def from_json(cls: type[T], body: Mapping[str, Any]) -> T:
    """Builds the dataclass `cls`, and those nested in it, from the fields of `body` that it knows."""
    hints = _hints(cls)
    return cls(**{name: _convert(hints[name], body[name]) for name in hints if name in body})


def _hints(cls: type[Any]) -> dict[str, Any]:
    if cls not in _KNOWN:  # resolving hints costs more than a row does
        hints = get_type_hints(cls)
        _KNOWN[cls] = {field.name: hints[field.name] for field in fields(cls)}
    return _KNOWN[cls]


def _convert(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return tuple(_convert(get_args(hint)[0], item) for item in value)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    return value


class Identified(Protocol):
    """A resource of the service."""

    @property
    def id(self) -> str: ...


def id_of(resource: str | Identified) -> str:
    """The id, as it goes into a path; raises ValueError for what is none."""
    given = resource if isinstance(resource, str) else resource.id
    if not re.fullmatch(r"[a-z]+_[0-9A-Za-z-]+", given):
        raise ValueError(f"{given!r} is no id: ids look like job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52")
    return given


def question(
    trajectory: str | Trajectory | Sequence[str | Trajectory],
    train: str | Dataset,
    query: str | Dataset | None,
    method: str | Mapping[str, Any],
    seed: int,
) -> Json:
    """The body of a request for an influence job; several trajectories are averaged."""
    body: Json = {"type": "influence", "train_dataset_id": id_of(train)}
    if isinstance(trajectory, str | Trajectory):
        body["trajectory_id"] = id_of(trajectory)
    else:
        body["trajectory_ids"] = [id_of(one) for one in trajectory]
    body |= {"query_dataset_id": id_of(query)} if query is not None else {}
    return body | {"method": {"name": method} if isinstance(method, str) else dict(method), "seed": seed}


def training(
    train: str | Dataset,
    query: str | Dataset | None,
    trajectory: str | Trajectory | None,
    checkpoints: int | Mapping[str, Any],
    **told: Any,
) -> Json:
    """The body of a request for a job that trains; `told` are fields of it, left out where they are None."""
    body: Json = {"type": "train", "train_dataset_id": id_of(train)}
    body["checkpoints"] = {"count": checkpoints} if isinstance(checkpoints, int) else dict(checkpoints)
    body |= {"query_dataset_id": id_of(query)} if query is not None else {}
    body |= {"trajectory_id": id_of(trajectory)} if trajectory is not None else {}
    return body | {name: value for name, value in told.items() if value is not None}


def doubt(
    trajectory: str | Trajectory,
    train: str | Dataset,
    query: str | Dataset,
    methods: Sequence[str | Mapping[str, Any]],
    **told: Any,
) -> Json:
    """The body of a request for a job that evaluates; `told` are fields of it, left out where None."""
    body: Json = {"type": "evaluate", "trajectory_id": id_of(trajectory)}
    body |= {"train_dataset_id": id_of(train), "query_dataset_id": id_of(query)}
    body["methods"] = [{"name": one} if isinstance(one, str) else dict(one) for one in methods]
    return body | {name: value for name, value in told.items() if value is not None}

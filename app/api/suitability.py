"""Whether a method finds what it asks for: the batch order, tensors to measure on, a draw to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from sqlalchemy.orm import Session

from app.api.problems import ApiProblem
from app.catalog import Extent, Options, Parameters
from app.catalog.footprint import Shapes
from app.settings import Settings
from app.store.tables import Checkpoint, Dataset, Trajectory

MOST_INFLUENCES = 1_000_000_000  # of a job with per_query, training samples times query samples: 4 GB
MOST_VECTORS = 16 * 1024**3  # bytes of the vectors it carries, as long as the parameters, one a query sample
SHOWN = 40
MEANING = ("column", "kind", "values", "indicator", "at")  # of a feature


def check_order(
    trajectory: Trajectory, last_step: int, num_train: int, method: Options, pointer: str
) -> None:
    """Raises 422 where the method goes by a batch order that was refused or does not fit the run."""
    order = trajectory.batch_order
    if order is None or not method.needs_order:
        return
    if order.status == "invalid":
        why = (order.error or {}).get("detail", "")
        detail = f"The batch order of {trajectory.id} was refused: {why} Send a sound one, or delete it."
        raise ApiProblem(422, "invalid_batch_order", detail, pointer=pointer)
    if order.info["steps"] < last_step:
        detail = (
            f"The batch order of {trajectory.id} tells of {order.info['steps']} steps, but the last "
            f"checkpoint is at step {last_step}: send the order of every step."
        )
        raise ApiProblem(422, "batch_order_mismatch", detail, pointer=pointer)
    if order.info["largest"] >= num_train:
        detail = (
            f"The batch order of {trajectory.id} names row {order.info['largest']}, but the training set "
            f"holds rows 0 to {num_train - 1}: score the whole set that the run was trained on."
        )
        raise ApiProblem(422, "batch_order_mismatch", detail, pointer="/train_dataset_id")


def check_size(session: Session, settings: Settings, train: Dataset) -> None:
    """Raises 422 `too_many_samples` for more scores than SQLite writes while others wait."""
    n, most = train.num_samples or 0, settings.sqlite_samples
    if n > most and session.get_bind().dialect.name == "sqlite":
        detail = (
            f"The training set has {n:,} samples, and this service keeps scores in SQLite, where a job may "
            f"have {most:,}: others wait while they are written. Run the service on PostgreSQL "
            "(DIFFIN_DATABASE_URL), which takes any number, or score a part of the set; "
            "DIFFIN_SQLITE_SAMPLES is the limit."
        )
        raise ApiProblem(422, "too_many_samples", detail, pointer="/train_dataset_id")


def check_meaning(train: Dataset, query: Dataset) -> None:
    """Raises 422 where a label, or a feature of a table, does not mean the same in `train` and `query`."""
    ours, theirs = (one.info.get("encoding") or {} for one in (train, query))
    mend = f"Upload the query set with like={train.id}."
    names = ours.get("classes"), theirs.get("classes")
    if None not in names and names[0] != names[1]:
        trained, asked = (
            ", ".join(map(repr, some[:5])) + (", …" if len(some) > 5 else "") for some in names if some
        )
        detail = f"Labels are named {trained} in the training set, {asked} in the query set. {mend}"
        raise ApiProblem(422, "labels_differ", detail, pointer="/query_dataset_id")
    features = [(one.get("inputs") or {}).get("features") for one in (ours, theirs)]
    if None in features:
        return
    for known, found in zip_longest(*filter(None, features), fillvalue={}):
        if any(known.get(key) != found.get(key) for key in MEANING):
            column = known.get("column") or found.get("column")
            detail = f"The column {column!r} makes other features in the query set than in training. {mend}"
            raise ApiProblem(422, "shape_mismatch", detail, pointer="/query_dataset_id")


def check_method(method: Options, extents: Sequence[Extent], checkpoints: Sequence[Checkpoint]) -> None:
    """Raises 422 where the options ask for what these inputs cannot give."""
    parameters: Parameters | None = getattr(method, "parameters", None)
    names = checkpoints[-1].info.get("parameters")
    if parameters is not None and names and not parameters.of(names):
        shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        detail = f"No tensor of the network is included and not excluded; its tensors: {shown}."
        raise ApiProblem(422, "no_parameters", detail, pointer="/method/parameters")
    if method.repeats > 1 and not any(method.draws(extent) for extent in extents):
        detail = (
            "With these options and data nothing is drawn by chance, so that repeating the job tells "
            "nothing: leave out uncertainty, or draw fewer samples than the training set holds."
        )
        raise ApiProblem(422, "nothing_drawn", detail, pointer="/method/uncertainty")
    if method.by_query:
        _check_size(extents[0], max(one.bytes for one in checkpoints))


def check_memory(
    method: Options, extents: Sequence[Extent], checkpoints: Sequence[Checkpoint], most: int
) -> None:
    """Raises 422 `too_much_memory` where the options make a worker hold more than it may use.

    What checkpoints are silent of, whose shapes nobody noted, the worker tells.
    """
    shapes = measured_shapes(method, checkpoints[-1])
    heaviest = max(method.beside(extent, shapes) for extent in extents)
    if words := heaviest.too_heavy(most):
        raise ApiProblem(422, "too_much_memory", words, pointer="/method")


def measured_shapes(method: Options, checkpoint: Checkpoint) -> Shapes:
    """Of the parameters that influence is measured on; none where the checkpoint is silent of them."""
    shapes = dict(zip(checkpoint.info.get("parameters", []), checkpoint.info.get("shapes", []), strict=False))
    parameters: Parameters | None = getattr(method, "parameters", None)
    return [shapes[name] for name in (shapes if parameters is None else parameters.of(list(shapes)))]


def check_loss(method: Options, trajectory: Trajectory) -> None:
    """Raises 422 where a method cannot take the task's loss: the gradient of one sample where losses take
    whole groups, or Kronecker curvature where a sample is more than one prediction.
    """
    kind, curvature = trajectory.task["type"], getattr(method, "curvature", None)
    if kind == "contrastive" and method.takes_samples_alone:
        detail = (
            "By a contrastive loss a pair's gradient takes its whole group, so that one for each pair would "
            "cost as many passes over the data as a group has pairs. Use diff_in, tracin, "
            "influence_function, loss or el2n, without per_query (or diff_in_eq9 with target 'query')."
        )
        raise ApiProblem(422, "unsuitable_method", detail, pointer="/method")
    if kind in ("contrastive", "causal_lm") and curvature == "kronecker":
        detail = f"Kronecker curvature is of one prediction a sample, and {kind} makes many: take 'ggn'."
        raise ApiProblem(422, "unsuitable_method", detail, pointer="/method/curvature")


def _check_size(extent: Extent, largest: int) -> None:
    pairs, vectors = extent.num_train * extent.num_query, largest * extent.num_query
    if pairs > MOST_INFLUENCES or vectors > MOST_VECTORS:
        detail = (
            f"per_query would keep {pairs:,} influences, from {vectors:,} bytes of vectors; "
            f"{MOST_INFLUENCES:,} and {MOST_VECTORS:,} at most: take part of the query data set "
            "(query: {indices: […]})."
        )
        raise ApiProblem(422, "too_many_influences", detail, pointer="/method/per_query")

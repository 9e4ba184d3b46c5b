"""A new job: from checkpoints that somebody has, or from data alone.

Scripts send files and JSON to the API; without them, the same form starts a job over what is there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from app.api.dataset_forms import ARRAYS, FORMATS, TAR
from app.api.datasets import DatasetId, found_dataset
from app.api.deps import Blobs, Config, Db
from app.api.jobs.types import NewJob, create
from app.api.problems import ApiProblem, refused_body
from app.api.quotas import refuse_job
from app.api.resources import NO_NUL
from app.catalog import METHODS
from app.settings import Settings
from app.store import datasets, pages, trajectories, uses
from app.store.tables import Dataset, Trajectory
from app.ui.proposals import propose
from app.ui.shell import render
from app.ui.visitors import PageCaller, PageWriter, Visitor

router = APIRouter(include_in_schema=False)

LISTED = 200  # data sets and runs to choose from
TRAINED = ("cnn", "mlp", "linear", "transformer")  # networks proposed from data alone
IN_WORDS = {
    "diff_in": "How each training sample moved the query loss over the whole run: the method to begin with.",
    "diff_in_eq9": "The formula as it was published, to reproduce its figures.",
    "tracin": "The first-order part of Diff-In alone: cheaper, and rougher.",
    "influence_function": "One Newton step: at the last checkpoint, where it is the only one, or at all.",
    "self_influence": "What each sample did to its own loss: outliers and wrong labels, with no query set.",
    "grad_norm": "How hard each sample pulled at the network, with no query set.",
    "el2n": "How wrong the predictions are, early in the run above all, with no query set.",
    "loss": "Each sample's own loss: the cheapest way to find wrong labels, with no query set.",
}
NEW_JOB: TypeAdapter[Any] = TypeAdapter(NewJob)
OTHER_ENDINGS = [ending for endings in FORMATS.values() for ending in endings]

Way = Literal["checkpoints", "train"]
Text = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
Chosen = Annotated[str, Query(max_length=64, pattern=NO_NUL)]


@router.get("/jobs/new")
def show(
    request: Request,
    caller: PageCaller,
    database: Db,
    settings: Config,
    way: Way = "checkpoints",
    trajectory_id: Chosen = "",
    train_dataset_id: Chosen = "",
    query_dataset_id: Chosen = "",
) -> HTMLResponse:
    """The form, with what the address names chosen already."""
    chosen = {
        "trajectory_id": trajectory_id,
        "train_dataset_id": train_dataset_id,
        "query_dataset_id": query_dataset_id,
    }
    with database.snapshot() as session:
        return _form(request, session, settings, caller, way, chosen)


@router.get("/datasets/{dataset_id}/proposal")
def proposal(dataset_id: DatasetId, caller: PageCaller, database: Db) -> dict[str, Any]:
    """What to train on it, to begin with."""
    with database.snapshot() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        if dataset.status != "ready":
            raise ApiProblem(409, "input_not_ready", f"The data set {dataset_id} is {dataset.status}.")
        return asdict(propose(dataset))


class Asked(BaseModel):
    """The form as it comes without a script: text, to be checked as the API checks it."""

    way: Way = "checkpoints"
    name: Text = ""
    trajectory_id: Text = ""
    train_dataset_id: Text = ""
    query_dataset_id: Text = ""
    method: Text = "diff_in"
    per_query: Text = ""
    architecture: Text = ""
    epochs: Text = ""
    batch_size: Text = ""
    learning_rate: Text = ""


@router.post("/jobs/new")
def start(
    request: Request,
    caller: PageWriter,
    database: Db,
    blobs: Blobs,
    settings: Config,
    asked: Annotated[Asked, Form()],
) -> Response:
    """Starts what a form asks without a script; what is wrong is told where it is, and nothing is lost."""
    try:
        with database.transaction() as session:
            refuse_job(session, settings, caller.project_id)
            job = create(
                session, blobs, settings, caller.project_id, _body(session, caller.project_id, asked)
            )
            return RedirectResponse(f"/jobs/{job.id}", 303)
    except ApiProblem as problem:
        with database.snapshot() as session:
            return _form(request, session, settings, caller, asked.way, asked.model_dump(), problem)


def _body(session: Session, project_id: str, asked: Asked) -> Any:
    """The job asked for, as the API would be asked."""
    ids = {"train_dataset_id": asked.train_dataset_id, "query_dataset_id": asked.query_dataset_id}
    body: dict[str, Any] = {"name": asked.name} | {name: one for name, one in ids.items() if one}
    if asked.way == "train":
        body |= _training(session, project_id, asked)
    else:
        if not asked.trajectory_id:
            raise ApiProblem(422, "validation_error", "Choose a run.", pointer="/trajectory_id")
        by_query = {"per_query": True} if asked.per_query else {}
        method = {"name": asked.method} | by_query
        body |= {"type": "influence", "trajectory_id": asked.trajectory_id, "method": method}
    try:
        return NEW_JOB.validate_python(body)
    except ValidationError as refused:
        raise refused_body(refused, body) from refused


def _training(session: Session, project_id: str, asked: Asked) -> dict[str, Any]:
    """A training of a proposed network on the data set."""
    pointer = "/train_dataset_id"
    if not asked.train_dataset_id:
        raise ApiProblem(422, "validation_error", "Choose a data set.", pointer=pointer)
    dataset = found_dataset(session, project_id, asked.train_dataset_id, pointer)
    if dataset.status != "ready":
        detail = f"The data set is {dataset.status}, not ready."
        raise ApiProblem(409, "input_not_ready", detail, pointer=pointer)
    told = propose(dataset)
    name = asked.architecture or told.first
    if name not in told.networks:
        takes = ", ".join(told.networks) or "none of the networks proposed here"
        detail = f"{name or 'A network'} does not take these samples: {takes} does."
        raise ApiProblem(422, "shape_mismatch", detail, pointer="/architecture")
    return {
        "type": "train",
        "architecture": {"name": name, "config": told.networks[name]},
        "task": told.task,
        "recipe": {
            "optimizer": told.optimizer,
            "schedule": {
                "name": "cosine",
                "learning_rate": _number(asked.learning_rate, float, told.learning_rate),
            },
            "batch_size": _number(asked.batch_size, int, told.batch_size),
            "epochs": _number(asked.epochs, int, told.epochs),
            "seed": 0,
        },
        "seed": 0,
    }


def _number(text: str, kind: type[int] | type[float], proposed: float) -> Any:
    """A number, what is proposed where the field is empty, or the text itself, to be refused in words."""
    if not text.strip():
        return proposed
    try:
        return kind(text)
    except ValueError:
        return text.strip()


# ---------------------------------------------------------------- the form
def _form(
    request: Request,
    session: Session,
    settings: Settings,
    caller: Visitor,
    way: Way,
    asked: Mapping[str, str],
    problem: ApiProblem | None = None,
) -> HTMLResponse:
    sets, runs = _to_choose_from(session, caller.project_id, asked)
    counts = uses.checkpoints(session, [run.id for run in runs])
    errors = dict(problem.errors) if problem is not None else {}
    return render(
        request,
        "new.html",
        problem.status_code if problem is not None else 200,
        caller=caller,
        here="new",
        way=way,
        asked=asked,
        sets=[(one, told_set(one)) for one in sets],
        runs=[(one, counts[one.id]) for one in runs],
        methods=list(METHODS.values()),
        in_words=IN_WORDS,
        trained=TRAINED,
        endings=",".join([*OTHER_ENDINGS, *TAR]),
        arrays=",".join(ARRAYS),
        prefixes=settings.uri_prefixes_of(caller.project_id),
        errors=errors,
        problem=problem,
    )


def _to_choose_from(
    session: Session, project_id: str, asked: Mapping[str, str]
) -> tuple[Sequence[Dataset], Sequence[Trajectory]]:
    """The newest data sets and runs, and those asked for, however old."""
    sets = [one for one in pages.newest(session, Dataset, project_id, LISTED) if one.status != "invalid"]
    runs = list(pages.newest(session, Trajectory, project_id, LISTED))
    for field in ("train_dataset_id", "query_dataset_id"):
        dataset = datasets.get(session, project_id, asked.get(field, ""))
        if dataset is not None and dataset not in sets:
            sets.append(dataset)
    run = trajectories.get(session, project_id, asked.get("trajectory_id", ""))
    if run is not None and run not in runs:
        runs.append(run)
    return sets, runs


def told_set(dataset: Dataset) -> dict[str, Any]:
    """What scripts are told of a data set: the part of the API's answer that they use."""
    return {
        "id": dataset.id,
        "name": dataset.name or dataset.filename,
        "format": dataset.format,
        "status": dataset.status,
        "num_samples": dataset.num_samples,
        "num_classes": dataset.num_classes,
        "input": {name: dataset.info["input"][name] for name in ("shape", "dtype")}
        if dataset.info.get("input")
        else None,
    }

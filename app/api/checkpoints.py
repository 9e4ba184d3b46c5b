"""Checkpoints of a trajectory: uploaded in any order, also while the run is still training."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json, Strict, model_validator
from sqlalchemy.orm import Session

from app.api.bodies import JsonRoute
from app.api.deps import Blobs, Caller, Config, Db
from app.api.files import Source, Uri, check_sources, named, sent, there, wanted_of
from app.api.idempotency import Answer, OncePost
from app.api.multipart import form_schema, received, refuse_pickle
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.quotas import file_limit, refuse_bytes, refuse_files
from app.api.resources import (
    MOST_STEPS,
    NO_NUL,
    RETRY_AFTER,
    Edit,
    Id,
    Metadata,
    Name,
    Notes,
    edited,
    refuse_use,
    tagged,
)
from app.api.trajectories import TrajectoryId, found_trajectory, refuse_with_file
from app.api.trajectory_models import CheckpointOut
from app.catalog.base import refusal
from app.store import jobs, trajectories
from app.store.tables import Checkpoint

MANNERS: dict[str, Any] = {
    "prefix": "/v1/trajectories/{trajectory_id}/checkpoints",
    "tags": ["trajectories"],
    "responses": PROBLEMS,
}
json_router = APIRouter(**MANNERS, route_class=JsonRoute)
form_router = APIRouter(**MANNERS)

OPTIMIZER = "optimizer_file"
CheckpointId = Annotated[str, Path(pattern=NO_NUL, examples=["ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


def _plain(given: Any) -> Any:
    """Refuses what Python takes for a number and no client means as one, such as 1_0."""
    if isinstance(given, str) and "_" in given:
        raise refusal("a number has no underscores.")
    return given


NUMBER = BeforeValidator(_plain)
Rate = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]


class Segment(BaseModel):
    """What is told of a checkpoint: `learning_rate` or `learning_rates`, but neither at step 0."""

    model_config = ConfigDict(extra="forbid")

    step: Annotated[int, NUMBER] = Field(
        ge=0, le=MOST_STEPS, description="Optimizer steps done; 0: the initial state.", examples=[938]
    )
    learning_rate: Annotated[float | None, NUMBER] = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Of the steps since the checkpoint before.",
        examples=[0.1],
    )
    learning_rates: list[Rate] | None = Field(None, description="One a step since the checkpoint before.")
    name: Name = ""
    notes: Notes = ""
    metadata: Metadata = Field({})

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.step == 0:
            if self.learning_rate is not None or self.learning_rates is not None:
                raise refusal("no step comes before the initial state: leave out the learning rate.")
            return self
        if (self.learning_rate is None) == (self.learning_rates is None):
            raise refusal(
                "give exactly one of learning_rate (for all steps) and learning_rates (one a step)."
            )
        if self.learning_rates is not None and not 1 <= len(self.learning_rates) <= self.step:
            raise refusal(
                f"learning_rates holds {len(self.learning_rates)}; give one for each step since the "
                f"checkpoint before, {self.step} at most."
            )
        return self


class CheckpointForm(Segment):
    """The text fields that come with a checkpoint's file."""

    learning_rates: Json[list[Rate]] | None = Field(
        None, description="JSON list: one a step since the checkpoint before."
    )
    metadata: Json[Metadata] = Field({}, description="JSON object of up to 16 pairs of strings.")


class CheckpointIn(Segment):
    """A checkpoint whose file came in parts, or lies in a store that the operator allowed."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "upload_id": "up_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52",
                    "step": 938,
                    "learning_rate": 0.1,
                },
                {"uri": "s3://runs/7/938.safetensors", "step": 938, "learning_rate": 0.1},
            ]
        },
    )

    upload_id: Id | None = Field(None, description="A complete upload of the network's tensors, safetensors.")
    uri: Uri | None = Field(
        None,
        description="Or where that file lies: a plain path below one of the `uri_prefixes` of "
        "/v1/capabilities. A worker fetches it.",
    )
    optimizer_upload_id: Id | None = Field(None, description="An upload of what the optimizer carried there.")
    optimizer_uri: Uri | None = Field(None, description="Or where that lies, beside `uri`.")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        check_sources(self, "optimizer_")
        return self


@json_router.post(
    "",
    status_code=202,
    summary="Upload a checkpoint",
    response_model=CheckpointOut,
    responses=responses(404, 409, 413, 415),
    openapi_extra=form_schema(
        CheckpointForm,
        "safetensors that holds the network's tensors by their names.",
        optimizer_file="safetensors that holds what the optimizer carries at this step: "
        "`momentum_buffer.<tensor>`, or `exp_avg.<tensor>` and `exp_avg_sq.<tensor>`, of the network's "
        "parameters.",
    ),
)
def create_from_named(
    body: CheckpointIn, trajectory_id: TrajectoryId, caller: Caller, settings: Config, once: OncePost
) -> Response:
    """As multipart, with the file; a large one is sent in parts first (`POST /v1/uploads`) and named here in
    JSON, as one is that lies in a store that the operator allowed (`uri`). A worker fetches and validates it:
    poll until `ready` or `invalid`.
    """
    told = Segment.model_validate(body.model_dump(include=set(Segment.model_fields)))

    def act(session: Session) -> Answer:
        if body.uri is not None:
            refuse_bytes(session, settings, caller.project_id, 1)
        sources = {}
        for role in ("", "optimizer_"):
            given = named(session, settings, caller.project_id, body, role, settings.max_resumable_bytes)
            if given is not None:
                refuse_pickle(given.filename, given.pointer)
                sources[role] = there(given)
        state = sources.get("optimizer_")
        return _create(session, caller.project_id, trajectory_id, told, sources[""], state)

    return once.run(act)


@form_router.post("", status_code=202, include_in_schema=False)
async def create_checkpoint(
    request: Request,
    trajectory_id: TrajectoryId,
    caller: Caller,
    database: Db,
    blobs: Blobs,
    settings: Config,
    once: OncePost,
) -> Response:
    """Stores the file as it arrives, then answers; `create_from_named` describes both in OpenAPI."""

    def known() -> None:
        with database.snapshot() as session:
            found_trajectory(session, caller.project_id, trajectory_id)

    await asyncio.to_thread(known)  # before the bytes come
    most = await file_limit(request, database, settings, caller.project_id)
    async with received(request, blobs, most, (OPTIMIZER,)) as upload:
        for name, file in {"file": upload.file, **upload.others}.items():
            refuse_pickle(file.filename, f"/{name}")
        form, state = upload.form(CheckpointForm), upload.others.get(OPTIMIZER)
        sources = sent(blobs, upload.file), sent(blobs, state) if state else None
        once = once.with_body(*upload.parts())

        def act(session: Session) -> Answer:
            refuse_files(session, settings, caller.project_id, upload.files.values())
            return _create(session, caller.project_id, trajectory_id, form, *sources)

        return await asyncio.to_thread(once.run, act)


def _create(
    session: Session,
    project_id: str,
    trajectory_id: str,
    told: Segment,
    file: Source,
    optimizer: Source | None,
) -> Answer:
    trajectory = found_trajectory(session, project_id, trajectory_id, lock=True)
    refuse_with_file(trajectory)
    taken = trajectories.checkpoint_at(session, trajectory.id, told.step)
    if taken is not None:
        detail = f"{taken.id} is at step {told.step} already; delete it to send another."
        raise ApiProblem(409, "step_taken", detail, pointer="/step")
    given, state = file(session), optimizer(session) if optimizer else None
    checkpoint = trajectories.add_checkpoint(
        session,
        trajectory,
        given.blob,
        filename=given.filename,
        uri=given.uri,
        bytes=given.bytes,
        optimizer_blob=(state.blob or None) if state else None,
        optimizer_file=state.told() if state else None,
        wanted=wanted_of(file=given, optimizer=state),
        meta=told.metadata,
        **told.model_dump(exclude={"metadata"}),
    )
    session.flush()
    location = f"/v1/trajectories/{trajectory.id}/checkpoints/{checkpoint.id}"
    return Answer(202, CheckpointOut.of(checkpoint), {"Location": location, **RETRY_AFTER})


@form_router.get(
    "/{checkpoint_id}", summary="One checkpoint", response_model=CheckpointOut, responses=responses(404)
)
def get_checkpoint(
    request: Request, trajectory_id: TrajectoryId, checkpoint_id: CheckpointId, caller: Caller, database: Db
) -> Response:
    """With an `ETag`; while it is validating, with `Retry-After`."""
    with database.snapshot() as session:
        checkpoint = _found(session, caller.project_id, trajectory_id, checkpoint_id)
    waiting = checkpoint.status == "validating"
    return tagged(request, CheckpointOut.of(checkpoint), headers=RETRY_AFTER if waiting else None)


@form_router.patch(
    "/{checkpoint_id}",
    summary="Rename a checkpoint",
    response_model=CheckpointOut,
    responses=responses(404, 412),
)
def edit_checkpoint(
    request: Request,
    trajectory_id: TrajectoryId,
    checkpoint_id: CheckpointId,
    edit: Edit,
    caller: Caller,
    database: Db,
) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        checkpoint = _found(session, caller.project_id, trajectory_id, checkpoint_id, lock=True)
        return edited(request, edit, checkpoint, CheckpointOut.of)


@form_router.delete(
    "/{checkpoint_id}", status_code=204, summary="Delete a checkpoint", responses=responses(404, 409)
)
def delete_checkpoint(
    trajectory_id: TrajectoryId, checkpoint_id: CheckpointId, caller: Caller, database: Db, blobs: Blobs
) -> None:
    """Refused with `in_use` while a job reads it or was made from it."""
    with database.transaction() as session:
        checkpoint = _found(session, caller.project_id, trajectory_id, checkpoint_id, lock=True)
        used = jobs.using_checkpoint(session, trajectory_id, checkpoint_id)
        refuse_use(f"The checkpoint {checkpoint_id}", used)
        trajectories.delete_checkpoint(session, blobs, checkpoint)


def _found(
    session: Session, project_id: str, trajectory_id: str, checkpoint_id: str, *, lock: bool = False
) -> Checkpoint:
    trajectory = found_trajectory(session, project_id, trajectory_id, lock=lock)
    checkpoint = trajectories.checkpoint(session, trajectory, checkpoint_id)
    if checkpoint is None:
        raise not_found("checkpoint of this trajectory", checkpoint_id)
    return checkpoint


router = APIRouter()
router.include_router(json_router)  # the first that takes the body answers: the choosier one
router.include_router(form_router)

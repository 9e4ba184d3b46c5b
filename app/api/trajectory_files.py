"""Trajectories that bring files along: what the network is, where its name and config do not tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.api.bodies import MultipartRoute
from app.api.deps import Blobs, Caller, Config, Db
from app.api.files import Source, sent, taken_over, there
from app.api.idempotency import Answer, OncePost
from app.api.multipart import Upload, received, refuse_pickle
from app.api.problems import PROBLEMS, ApiProblem, invalid
from app.api.quotas import file_limit, refuse_files
from app.api.resources import RETRY_AFTER
from app.api.trajectory_models import TrajectoryIn, detailed
from app.catalog import ONNX
from app.catalog.graph import EXPORT
from app.store import trajectories

RUN = "trajectory"
GRAPH = "architecture_file"
BASE = "base_file"
ROLES = {GRAPH: "architecture", BASE: "base"}  # of the files, by the part that holds each
UPLOADS = {GRAPH: "architecture_upload_id", BASE: "base_upload_id"}  # fields that name one instead
INSTEAD = {GRAPH: (f"Export the network: {EXPORT}.",)}
BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [RUN],
                    "properties": {
                        RUN: {"$ref": "#/components/schemas/TrajectoryIn"},
                        GRAPH: {
                            "type": "string",
                            "format": "binary",
                            "description": f"The network's graph (ONNX), as {EXPORT} writes it: checkpoints "
                            "hold its initializers by their names. architecture is then {name: onnx}.",
                        },
                        BASE: {
                            "type": "string",
                            "format": "binary",
                            "description": "The weights (safetensors) of the model that `lora` adapts, as "
                            "the run had them, by the names of its state_dict; they are never trained.",
                        },
                    },
                },
                "encoding": {RUN: {"contentType": "application/json"}},
            }
        }
    }
}
"""What OpenAPI says of such a body, beside the plain JSON."""


router = APIRouter(
    prefix="/v1/trajectories", tags=["trajectories"], responses=PROBLEMS, route_class=MultipartRoute
)


@router.post("", status_code=201, include_in_schema=False)
async def create_with_files(
    request: Request, caller: Caller, database: Db, blobs: Blobs, settings: Config, once: OncePost
) -> Response:
    """As `create_trajectory`, whose description in OpenAPI names both kinds of body."""
    most = await file_limit(request, database, settings, caller.project_id)
    async with received(request, blobs, most, tuple(ROLES), required=None) as upload:
        for part, file in upload.files.items():
            refuse_pickle(file.filename, f"/{part}", *INSTEAD.get(part, ()))
        body = _run(upload)
        sources = {part: sent(blobs, file) for part, file in upload.files.items()}
        check_files(body, sources, f"/{RUN}")
        once = once.with_body(*upload.parts())

        def act(session: Session) -> Answer:
            refuse_files(session, settings, caller.project_id, upload.files.values())
            return created(session, caller.project_id, body, sources)

        return await asyncio.to_thread(once.run, act)


def check_files(body: TrajectoryIn, arrived: Collection[str] = (), pointer: str = "") -> None:
    """Raises 422 where the network wants a graph and none came, or the other way round.

    Args:
        arrived: the parts of the request that hold files; others may have come as uploads.
    """
    parts = {part for part, field in UPLOADS.items() if getattr(body, field) is not None}
    if twice := sorted(parts & set(arrived)):
        detail = f"{twice[0]} came with the request, and {UPLOADS[twice[0]]} names another: give one of them."
        raise ApiProblem(422, "validation_error", detail, pointer=f"{pointer}/{UPLOADS[twice[0]]}")
    parts |= set(arrived)
    name = body.architecture.name
    _check_base(body, BASE in parts, pointer)
    if (name == ONNX) == (GRAPH in parts):
        return
    detail = (
        f"the architecture {ONNX!r} is a file: send multipart/form-data with this JSON as the part {RUN!r} "
        f"and the graph as the part {GRAPH!r}, or name an upload of it ({UPLOADS[GRAPH]})."
        if name == ONNX
        else f"{name!r} is built from its config: leave out {GRAPH}, or name {ONNX!r}."
    )
    raise ApiProblem(422, "validation_error", detail, pointer=f"{pointer}/architecture")


def _check_base(body: TrajectoryIn, given: bool, pointer: str) -> None:
    if (getattr(body.architecture.config, "lora", None) is not None) == given:
        return
    detail = (
        f"{BASE} holds the weights below an adapter: leave it out, or say `lora` in the config."
        if given
        else f"an adapter (`lora`) wants the weights below it: send multipart/form-data with this JSON as "
        f"the part {RUN!r} and the base model's safetensors as the part {BASE!r}."
    )
    raise ApiProblem(422, "validation_error", detail, pointer=f"{pointer}/architecture/config/lora")


def created(
    session: Session, project_id: str, body: TrajectoryIn, sources: Mapping[str, Source] | None = None
) -> Answer:
    """The new trajectory with its files by their parts, sent or uploaded before, which a worker validates."""
    found = dict(sources or {})
    for part, field in UPLOADS.items():
        if (upload_id := getattr(body, field)) is not None:
            given = taken_over(session, project_id, upload_id, f"/{field}")
            refuse_pickle(given.filename, f"/{field}", *INSTEAD.get(part, ()))
            found[part] = there(given)
    values = body.model_dump(exclude={"metadata", *UPLOADS.values()})
    row = trajectories.create(session, project_id=project_id, meta=body.metadata, **values)
    session.flush()
    for part, source in found.items():
        file = source(session)
        trajectories.add_file(session, row, ROLES[part], file.blob, filename=file.filename, bytes=file.bytes)
    headers = {"Location": f"/v1/trajectories/{row.id}"} | (RETRY_AFTER if found else {})
    return Answer(201, detailed(row), headers)


def _run(upload: Upload) -> TrajectoryIn:
    """The part `trajectory`, read as the plain body is."""
    unknown = sorted(upload.fields.keys() - {RUN})
    if unknown or RUN not in upload.fields:
        at, words = (unknown[0], "unknown field") if unknown else (RUN, "is required: the run, as JSON")
        raise ApiProblem(422, "validation_error", f"/{at}: {words}", errors=[(f"/{at}", words)])
    try:
        given = json.loads(upload.fields[RUN])
    except (ValueError, RecursionError) as broken:
        detail = f"The part {RUN!r} is not JSON: {broken}."
        raise ApiProblem(400, "invalid_json", detail, pointer=f"/{RUN}") from broken
    if isinstance(given, dict) and GRAPH in upload.files:
        given.setdefault("architecture", {"name": ONNX})
    try:
        return TrajectoryIn.model_validate(given)
    except ValidationError as refused:
        errors = [{**error, "loc": ("body", RUN, *error["loc"])} for error in refused.errors()]
        raise invalid(errors, {RUN: given}) from refused

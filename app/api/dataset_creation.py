"""Data sets created: of a file that comes with the request, came in parts before, or is yet to be fetched."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.api.bodies import JsonRoute
from app.api.dataset_forms import MOST_TOKENIZER, TOKENIZER, DatasetForm, DatasetIn
from app.api.dataset_models import DatasetOut
from app.api.datasets import found_dataset
from app.api.deps import Blobs, Caller, Config, Db
from app.api.files import Given, Source, named, sent, there, wanted_of
from app.api.idempotency import Answer, OncePost
from app.api.multipart import StagedFile, form_schema, received
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.quotas import file_limit, refuse_bytes, refuse_files
from app.api.resources import RETRY_AFTER
from app.store import datasets
from app.store.tables import Dataset

MANNERS: dict[str, Any] = {"prefix": "/v1/datasets", "tags": ["data sets"], "responses": PROBLEMS}
json_router = APIRouter(**MANNERS, route_class=JsonRoute)
form_router = APIRouter(**MANNERS)


@json_router.post(
    "",
    status_code=202,
    summary="Upload a data set",
    response_model=DatasetOut,
    responses=responses(404, 409, 413, 415),
    openapi_extra=form_schema(
        DatasetForm,
        "npz or safetensors with `inputs` [N, …], `targets` and maybe `ids`; or parquet, csv or jsonl.",
        tokenizer_file="The network's `tokenizer.json`, for text.",
    ),
)
def create_from_named(body: DatasetIn, caller: Caller, settings: Config, once: OncePost) -> Response:
    """As multipart, with the file; a large one is sent in parts first (`POST /v1/uploads`) and named here in
    JSON, as one is that lies in a store that the operator allowed (`uri`). A worker fetches and validates it:
    poll until `ready` or `invalid`.
    """

    def act(session: Session) -> Answer:
        if body.uri is not None:
            refuse_bytes(session, settings, caller.project_id, 1)
        file = named(session, settings, caller.project_id, body, "", settings.max_resumable_bytes)
        tokenizer = named(session, settings, caller.project_id, body, "tokenizer_", MOST_TOKENIZER)
        assert file is not None  # noqa: S101  (a body names one)
        kind = _checked(body, file.filename, tokenizer, tokenizer.pointer if tokenizer else "")
        words = there(tokenizer) if tokenizer else None
        return _create(session, caller.project_id, body, kind, there(file), words)

    return once.run(act)


@form_router.post("", status_code=202, include_in_schema=False)
async def create_dataset(
    request: Request, caller: Caller, database: Db, blobs: Blobs, settings: Config, once: OncePost
) -> Response:
    """Stores the file as it arrives, then answers; `create_from_named` describes both in OpenAPI."""
    most = await file_limit(request, database, settings, caller.project_id)
    async with received(request, blobs, most, (TOKENIZER,)) as upload:
        form = upload.form(DatasetForm)
        tokenizer = upload.others.get(TOKENIZER)
        kind = _checked(form, upload.file.filename, tokenizer, f"/{TOKENIZER}")

        sources = sent(blobs, upload.file), sent(blobs, tokenizer) if tokenizer else None
        once = once.with_body(*upload.parts())

        def act(session: Session) -> Answer:
            refuse_files(session, settings, caller.project_id, upload.files.values())
            return _create(session, caller.project_id, form, kind, *sources)

        return await asyncio.to_thread(once.run, act)


def _checked(
    told: DatasetForm | DatasetIn, filename: str, tokenizer: Given | StagedFile | None, pointer: str
) -> str:
    """The format, once what was told is known to fit it."""
    kind = told.told_format(filename)
    told.check_for(kind, tokenizer=tokenizer is not None)
    if tokenizer is not None and tokenizer.bytes > MOST_TOKENIZER:
        detail = f"The tokenizer has {tokenizer.bytes:,} bytes; {MOST_TOKENIZER:,} at most."
        raise ApiProblem(413, "payload_too_large", detail, pointer=pointer)
    return kind


def _create(
    session: Session,
    project_id: str,
    told: DatasetForm | DatasetIn,
    kind: str,
    source: Source,
    tokenizer: Source | None,
) -> Answer:
    options, tokenizer_blob, words = told.options(), None, None
    if told.like is not None:
        other = _like(session, project_id, told.like)
        options |= {"like": other.id, "encoding": other.info["encoding"]}
        tokenizer_blob = other.tokenizer_blob
    if tokenizer is not None:
        if tokenizer_blob is not None:
            detail = f"{told.like} has a tokenizer, which holds here too: leave out one of the two."
            raise ApiProblem(422, "validation_error", detail, pointer=f"/{TOKENIZER}")
        words = tokenizer(session)
        tokenizer_blob = words.blob or None
    file = source(session)
    dataset = datasets.create(
        session,
        file.blob,
        project_id=project_id,
        name=told.name,
        notes=told.notes,
        meta=told.metadata,
        format=kind,
        filename=file.filename,
        uri=file.uri,
        bytes=file.bytes,
        options=options,
        tokenizer_blob=tokenizer_blob,
        wanted=wanted_of(file=file, tokenizer=words),
    )
    session.flush()
    return Answer(202, DatasetOut.of(dataset), {"Location": f"/v1/datasets/{dataset.id}", **RETRY_AFTER})


def _like(session: Session, project_id: str, dataset_id: str) -> Dataset:
    """The data set whose reading is taken over, kept from being deleted until the end of the transaction."""
    other = found_dataset(session, project_id, dataset_id, "/like")
    session.refresh(other, with_for_update={"read": True})
    if other.status == "validating":
        detail = f"The data set {other.id} is still being validated; ask again in a moment."
        raise ApiProblem(409, "input_not_ready", detail, pointer="/like", headers=RETRY_AFTER)
    if other.status == "invalid":
        detail = f"The data set {other.id} was refused: nothing can be like it."
        raise ApiProblem(422, "invalid_dataset", detail, pointer="/like")
    if "encoding" not in other.info:
        detail = f"{other.id} is {other.format}, which holds arrays: there is nothing to take over."
        raise ApiProblem(422, "validation_error", detail, pointer="/like")
    return other


router = APIRouter()
router.include_router(json_router)  # the first that takes the body answers: the choosier one
router.include_router(form_router)

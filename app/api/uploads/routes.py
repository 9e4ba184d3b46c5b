"""The routes of uploads: begun, sent part by part, looked at, completed, deleted."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import re
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Config, Db
from app.api.idempotency import Answer, OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.quotas import refuse_bytes
from app.api.resources import INT64, Edit, edited, tagged
from app.api.uploads.receiving import Digests, Sink, held, whole
from app.api.uploads.resource import Status, UploadId, UploadIn, UploadOut, found_upload, shown
from app.store import pages, uploads
from app.store.tables import Upload
from app.store.uploads import Span

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], responses=PROBLEMS)

Number = Annotated[int, Path(ge=1, le=INT64, description="From 1 on.")]
NAMED = 20  # missing parts named in words
PART = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "",
    status_code=201,
    summary="Begin to send a file in parts",
    response_model=UploadOut,
    responses=responses(409, 413, 507),
)
def create_upload(body: UploadIn, caller: Caller, blobs: Blobs, settings: Config, once: OncePost) -> Response:
    """`PUT` its parts in any order, several at a time if you like, then `POST` its `/complete`. Whatever
    breaks in between, `GET` tells which parts are there: send the others.
    """
    if body.bytes > settings.max_resumable_bytes:
        detail = f"The file is larger than {settings.max_resumable_bytes:,} bytes; see /v1/capabilities."
        raise ApiProblem(413, "payload_too_large", detail, pointer="/bytes")
    free = blobs.free()
    if body.bytes > free:
        detail = f"The service has {free:,} bytes left for files; {body.bytes:,} do not fit."
        raise ApiProblem(507, "insufficient_storage", detail, pointer="/bytes")

    def act(session: Session) -> Answer:
        refuse_bytes(session, settings, caller.project_id, body.bytes)
        values = body.model_dump(exclude={"metadata", "part_bytes"})
        upload = uploads.create(
            session,
            settings.upload_hours,
            project_id=caller.project_id,
            meta=body.metadata,
            part_bytes=body.parted(),
            **values,
        )
        session.flush()
        return Answer(201, shown(session, upload), {"Location": f"/v1/uploads/{upload.id}"})

    return once.run(act)


@router.get("", summary="List uploads, newest first")
def list_uploads(
    caller: Caller, database: Db, paging: PageOf, status: Annotated[Status | None, Query()] = None
) -> Page[UploadOut]:
    """Without their parts."""
    binding = "uploads", caller.project_id, status
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Upload, caller.project_id, paging.limit + 1, after=after, status=status)
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [shown(session, row, whole=False) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get(
    "/{upload_id}", summary="One upload with its parts", response_model=UploadOut, responses=responses(404)
)
def get_upload(request: Request, upload_id: UploadId, caller: Caller, database: Db) -> Response:
    """With an `ETag`."""
    with database.snapshot() as session:
        body = shown(session, found_upload(session, caller.project_id, upload_id))
    return tagged(request, body)


@router.patch(
    "/{upload_id}", summary="Rename an upload", response_model=UploadOut, responses=responses(404, 412)
)
def edit_upload(request: Request, upload_id: UploadId, edit: Edit, caller: Caller, database: Db) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        upload = found_upload(session, caller.project_id, upload_id, lock=True)
        return edited(request, edit, upload, partial(shown, session))


@router.put(
    "/{upload_id}/parts/{number}",
    status_code=204,
    summary="Send a part",
    responses=responses(404, 409, 413),
    openapi_extra=PART,
)
async def put_part(
    request: Request,
    upload_id: UploadId,
    number: Number,
    caller: Caller,
    database: Db,
    blobs: Blobs,
    settings: Config,
    content_digest: Annotated[
        str | None, Header(description="`sha-256=:<base64>:` (RFC 9530) of the part; checked if given.")
    ] = None,
) -> Response:
    """The raw bytes of part `number`: `part_bytes` of them, of the last part what is left. Once this has
    answered, the part is there, whatever happens to the service. Sending a part again replaces it.
    """
    wanted = _sha256_of(content_digest)
    digests: Digests = request.app.state.digests

    def begin() -> Span:
        with database.snapshot() as session:
            found = _span(found_upload(session, caller.project_id, upload_id), number)
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) != found.length:
            raise _wrong_size(number, int(told), found.length)
        return found

    def forget() -> None:
        with database.snapshot() as session:
            _span(found_upload(session, caller.project_id, upload_id), number)
            if not uploads.there(session, upload_id, number):
                return
        with database.transaction() as session:
            uploads.forget_part(session, upload_id, number)

    def record() -> None:
        with database.transaction() as session:
            upload = found_upload(session, caller.project_id, upload_id, lock=True)
            _span(upload, number)
            uploads.record_part(session, upload, number, span.length, sha256, settings.upload_hours)
        digests.extend(upload_id, number, sha256, running)

    span = await asyncio.to_thread(begin)
    request.state.max_body_bytes = span.length  # the part's own limit takes over from the general one
    with held(uploads.path(blobs, upload_id), span) as descriptor:
        await asyncio.to_thread(forget)
        own, running = hashlib.sha256(), digests.following(upload_id, number)
        sink = Sink(descriptor, span, *filter(None, (own, running)))
        await sink.take(request)
        sha256 = own.hexdigest()
        if sink.size != span.length:
            raise _wrong_size(number, sink.size, span.length)
        if wanted is not None and sha256 != wanted:
            detail = f"Part {number} has the SHA-256 {sha256} here, not {wanted}: send it again."
            raise ApiProblem(422, "digest_mismatch", detail, errors=[("header:content-digest", detail)])
        await asyncio.to_thread(record)
    return Response(status_code=204, headers={"ETag": f'"{sha256}"'})


@router.post(
    "/{upload_id}/complete",
    summary="Complete an upload",
    response_model=UploadOut,
    responses=responses(404, 409),
)
def complete_upload(
    request: Request,
    upload_id: UploadId,
    caller: Caller,
    database: Db,
    blobs: Blobs,
    settings: Config,
    once: OncePost,
) -> Response:
    """Once all parts are there. Then name the upload where its file is wanted: `upload_id` of a data set or
    a checkpoint, `onnx_upload_id` of an architecture. The same content is kept once, however often it comes.
    """
    digests: Digests = request.app.state.digests

    def read() -> Upload:
        with database.snapshot() as session:
            return found_upload(session, caller.project_id, upload_id)

    def act(session: Session, staged: FilePath | None = None, sha256: str = "") -> Answer:
        row = found_upload(session, caller.project_id, upload_id, lock=True)
        if row.status != "complete" and staged is not None:
            uploads.complete(session, blobs, row, staged, sha256, settings.upload_hours)
        return Answer(200, shown(session, row))

    if (upload := read()).status == "complete":
        return once.run(act)
    with held(uploads.path(blobs, upload_id), Span(0, upload.bytes)) as descriptor:
        if read().status == "complete":  # somebody else's request has just done it
            return once.run(act)
        sha256 = _digest(descriptor, caller.project_id, upload_id, database, digests)
        with uploads.whole(blobs, upload_id, sha256) as staged:
            answer = once.run(partial(act, staged=staged, sha256=sha256))
    digests.forget(upload_id)
    return answer


@router.delete("/{upload_id}", status_code=204, summary="Delete an upload", responses=responses(404))
def delete_upload(request: Request, upload_id: UploadId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """With its bytes; what was made of them stays."""
    with database.transaction() as session:
        uploads.delete(session, blobs, found_upload(session, caller.project_id, upload_id, lock=True))
    digests: Digests = request.app.state.digests
    digests.forget(upload_id)


def _span(upload: Upload, number: int) -> Span:
    if upload.status == "complete":
        raise ApiProblem(409, "upload_complete", f"{upload.id} is complete: begin another upload.")
    span = uploads.span(upload, number)
    if span is None:
        detail = f"The file has the parts 1 to {uploads.count(upload)}; there is no part {number}."
        raise ApiProblem(404, "not_found", detail)
    return span


def _wrong_size(number: int, size: int, wanted: int) -> ApiProblem:
    detail = f"Part {number} has {wanted:,} bytes, and not {size:,}: see part_bytes of the upload."
    return ApiProblem(422, "part_size_mismatch", detail)


def _sha256_of(header: str | None) -> str | None:
    """The digest that a Content-Digest tells, if any."""
    if header is None:
        return None
    told = re.search(r"sha-256=:([0-9A-Za-z+/=]+):", header)
    try:
        digest = base64.b64decode(told[1], validate=True) if told else b""
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        detail = "Write it as sha-256=:<base64 of the digest>: (RFC 9530), or leave it out."
        raise ApiProblem(422, "validation_error", detail, errors=[("header:content-digest", detail)])
    return digest.hex()


def _digest(descriptor: int, project_id: str, upload_id: str, database: Db, digests: Digests) -> str:
    """The digest of the whole file, which is on the disk then; the problem that keeps it from being one."""
    with database.snapshot() as session:
        upload = found_upload(session, project_id, upload_id)
        there = uploads.parts(session, upload_id)
    _refuse_missing(uploads.missing(upload, there), upload)
    sha256, broken = whole(descriptor, there, digests.known(upload_id, there))
    if broken:
        with database.transaction() as session:
            uploads.forget_part(session, upload_id, *broken)
        _refuse_missing(broken, upload)
    if upload.sha256 is not None and upload.sha256 != sha256:
        detail = (
            f"The file has the SHA-256 {sha256} here, and {upload.sha256} was announced. `parts` tells that "
            "of each part: send those that differ again, or delete the upload."
        )
        raise ApiProblem(422, "digest_mismatch", detail)
    os.fsync(descriptor)
    return sha256


def _refuse_missing(missing: list[int], upload: Upload) -> None:
    if missing:
        some = ", ".join(map(str, missing[:NAMED])) + (" and more" if len(missing) > NAMED else "")
        detail = f"{len(missing)} of the {uploads.count(upload)} parts are not there: {some}."
        raise ApiProblem(409, "parts_missing", detail, extra={"missing": missing})

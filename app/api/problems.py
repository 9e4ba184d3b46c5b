"""Every error as `application/problem+json` (RFC 9457), with a `code` for machines and words for people."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.api import wording
from app.store import db
from app.store.full import disk_full

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_URI = "https://diffin.dev/problems/"
MOST_ERRORS = 50  # told of a body
CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}
TITLES = {
    "ambiguous_length": "The body's end is not clear",
    "batch_too_large": "The data give no batch",
    "batch_order_mismatch": "The batch order does not fit the run",
    "client_disconnected": "The client went away",
    "csrf_failed": "The request is not the page's own",
    "database_away": "The database is out of reach",
    "data_sets_differ": "The jobs scored different data",
    "digest_mismatch": "The bytes are not those announced",
    "empty_file": "The file is empty",
    "empty_query": "The query takes no sample",
    "endpoint_disabled": "The endpoint is disabled",
    "export_expired": "The export is not kept any more",
    "export_not_finished": "The export has no content yet",
    "forbidden": "The key does not allow this",
    "idempotency_key_reused": "This Idempotency-Key belongs to another request",
    "insufficient_storage": "There is no room left",
    "in_use": "Something still uses this",
    "input_not_ready": "An input is still being validated",
    "internal_error": "The service failed",
    "invalid_architecture": "The network's graph was refused",
    "invalid_batch_order": "The batch order was refused",
    "invalid_checkpoint": "A checkpoint was refused",
    "invalid_cursor": "The cursor is not of this list",
    "invalid_dataset": "A data set was refused",
    "invalid_json": "The body is not JSON",
    "invalid_multipart": "The multipart body cannot be read",
    "validation_error": "The request is not valid",
    "job_finished": "The job is finished",
    "job_not_finished": "The job has no scores yet",
    "job_running": "The job is not finished",
    "label_out_of_range": "Targets do not fit the network's outputs",
    "key_not_live": "The key opens nothing any more",
    "last_admin_key": "It is the last of its kind",
    "learning_rates_mismatch": "Learning rates do not fit the steps",
    "no_classes": "There are no classes",
    "no_checkpoints": "The trajectory has no checkpoint",
    "no_targets": "The data set has no targets",
    "no_update": "The checkpoint can't be updated",
    "no_parameters": "No tensor of the network is meant",
    "not_computed": "The job did not compute this",
    "nothing_left": "Nothing would be left",
    "nothing_decided": "Nothing is decided yet",
    "nothing_drawn": "Repeating the job would change nothing",
    "not_found": "There is no such thing",
    "not_ready": "The service is not ready",
    "part_in_flight": "Somebody is writing there",
    "part_size_mismatch": "The part has another size",
    "parts_missing": "Parts of the file are missing",
    "precondition_failed": "It is not the version you know",
    "payload_too_large": "The request is too large",
    "quota_exceeded": "The project has what it may have",
    "query_required": "The method needs a query data set",
    "recipe_required": "The job needs a recipe",
    "request_timeout": "The request took too long to arrive",
    "request_in_flight": "The same request is still in flight",
    "selection_not_finished": "The selection has no samples yet",
    "shape_mismatch": "Shapes do not fit",
    "schedule_required": "The recipe needs a schedule",
    "step_out_of_range": "The run is shorter than that",
    "step_taken": "The trajectory has a checkpoint at this step",
    "too_many_checkpoints": "The run would keep too many checkpoints",
    "too_many_influences": "There are too many pairs of samples and queries",
    "headers_too_large": "The request's headers are too large",
    "too_many_headers": "The request has too many headers",
    "too_many_requests": "The key asks too often",
    "too_many_samples": "There are not so many samples",
    "too_many_steps": "The run would be too long",
    "too_much_memory": "A worker would need too much memory",
    "total_steps_too_small": "The trajectory ends before its last checkpoint",
    "trajectories_differ": "The trajectories are not of one kind",
    "train_size_too_small": "The training set is larger than train_size",
    "unauthorized": "A valid API key is needed",
    "unknown_architecture": "No network has this name",
    "unknown_format": "No data set format has this name",
    "unknown_label": "No label has this name",
    "labels_differ": "Training and query labels do not mean the same",
    "unknown_sample": "No sample has this id",
    "unknown_method": "No method has this name",
    "uri_not_allowed": "The service takes no file from there",
    "unsafe_address": "The service does not send to such addresses",
    "unsafe_file": "Files of this kind can run code",
    "warmup_too_long": "The run ends before its warm-up",
    "wrong_job_type": "Jobs of another type have this",
    "unsuitable_method": "The method has no meaning for this task",
    "upload_complete": "The upload is complete",
    "upload_incomplete": "The upload is not complete",
    "unsupported_media_type": "The body has another media type than expected",
}


NO_ROOM = (
    "There is no room left where the service keeps its files or its database, so nothing of this request was "
    "kept. Have its operator free some, or delete what you no longer need; then send the request again. A "
    "file that comes in parts goes on after the parts that are there."
)


class FieldError(BaseModel):
    """One field at fault: a JSON pointer (RFC 6901) into the body, or `query:limit`, `path:…`, `header:…`."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is for machines; `detail` says what is wrong, where, and how to mend it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": f"{TYPE_URI}not_found",
                    "title": TITLES["not_found"],
                    "status": 404,
                    "detail": "There is no data set 'ds_…' in this project.",
                    "instance": "/v1/jobs",
                    "code": "not_found",
                    "request_id": "req_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "errors": [{"pointer": "/train_dataset_id", "detail": "no such data set"}],
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldError] = []


class ApiProblem(HTTPException):
    """Raised anywhere in a request, answered as a problem.

    Args:
        status: HTTP status.
        code: what a machine reads; its title and type URI follow from it.
        detail: what is wrong, where, and how to mend it.
        pointer: the field at fault, when there is one; `errors` when there are several.
        extra: members beside those of RFC 9457.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        pointer: str | None = None,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = [(pointer, detail)] if pointer is not None else list(errors)
        self.extra = dict(extra or {})


def not_found(what: str, resource_id: str, pointer: str | None = None) -> ApiProblem:
    return ApiProblem(
        404, "not_found", f"There is no {what} {resource_id[:80]!r} in this project.", pointer=pointer
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route documents the problems it may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


PROBLEMS = responses(400, 401, 403, 408, 422, 429, 503, 507)


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(RequestValidationError)(_validation)
    app.exception_handler(ClientDisconnect)(_disconnected)
    app.exception_handler(OSError)(_full)
    app.exception_handler(FileNotFoundError)(_missing)
    app.exception_handler(SQLAlchemyError)(_database)
    app.exception_handler(Exception)(_crash)


def _http(request: Request, exc: HTTPException) -> Response:
    if isinstance(exc, ApiProblem):
        return answered(request, exc)
    if exc.status_code == 400 and isinstance(
        exc.__cause__, ValueError | RecursionError
    ):  # FastAPI's, of JSON
        return answered(request, ApiProblem(400, "invalid_json", wording.unreadable(exc.__cause__)))
    code = CODES.get(exc.status_code, "error")
    detail = {
        404: f"There is nothing at {request.url.path}; /v1/openapi.json lists what there is.",
        405: f"{request.url.path} does not answer to {request.method}.",
    }.get(exc.status_code, str(exc.detail))
    headers = dict(exc.headers or {})
    if exc.status_code == 405 and (methods := request.app.allowed(request.url.path)):
        headers["Allow"] = ", ".join(methods)  # of all routes there, not of the first alone
    return answered(request, ApiProblem(exc.status_code, code, detail, headers=headers))


def _validation(request: Request, exc: RequestValidationError) -> Response:
    return answered(request, invalid(exc.errors(), exc.body))


def _disconnected(request: Request, _exc: ClientDisconnect) -> Response:
    detail = "The client went away during the request."
    return answered(request, ApiProblem(400, "client_disconnected", detail))


def _database(request: Request, exc: SQLAlchemyError) -> Response:
    if disk_full(exc):
        return _full(request, exc)
    if not db.away(exc):
        raise exc  # our mistake, not the database's
    log.warning("request %s: %s", request_id(request), exc)
    detail = (
        "The database does not answer at present: ask again in a moment, a POST with the same "
        "Idempotency-Key, so that it is done once."
    )
    return answered(request, ApiProblem(503, "database_away", detail, headers={"Retry-After": "1"}))


async def _missing(request: Request, exc: FileNotFoundError) -> Response:
    """404 where the file went with what named it, after that had been read; a lost file is our failure."""
    if not await run_in_threadpool(_deleted, request, exc):
        return _full(request, exc)
    detail = "What this is about was deleted while it was read."
    return answered(request, ApiProblem(404, "not_found", detail))


def _deleted(request: Request, exc: FileNotFoundError) -> bool:
    with request.app.state.database.snapshot() as session:
        deleted: bool = request.app.state.blobs.deleted(session, exc)
    return deleted


def _full(request: Request, exc: Exception) -> Response:
    if not disk_full(exc):
        raise exc
    log.error("request %s found no room left: %s", request_id(request), exc)
    return answered(request, ApiProblem(507, "insufficient_storage", NO_ROOM))


def _crash(request: Request, exc: Exception) -> Response:
    log.error("request %s failed: %s", request_id(request), type(exc).__name__)
    detail = "The service failed at this; its log holds the trace under this request_id."
    return answered(request, ApiProblem(500, "internal_error", detail))


def refused_body(refused: ValidationError, body: Any) -> ApiProblem:
    """The problem of a body that was validated by hand: a form's, say, which is read into one."""
    return invalid([{**error, "loc": ("body", *error["loc"])} for error in refused.errors()], body)


def invalid(found: Sequence[Mapping[str, Any]], body: Any) -> ApiProblem:
    """The problem of pydantic's errors: one pointer and one sentence a field."""
    first = found[0]
    if first["type"] == "json_invalid" and isinstance(first["loc"][-1], int):
        where = f"{first['ctx']['error']} at character {first['loc'][-1]}"
        return ApiProblem(400, "invalid_json", f"The body is not JSON: {where}.")
    if isinstance(body, bytes):
        return ApiProblem(415, "unsupported_media_type", "Send JSON, with Content-Type: application/json.")
    errors = [(wording.pointer(error, body), wording.words(error)) for error in found[:MOST_ERRORS]]
    if len(found) > MOST_ERRORS:
        errors.append(("", f"… and {len(found) - MOST_ERRORS} more."))  # an answer is no echo of the request
    code = next(
        (
            f"unknown_{error['loc'][-1]}"
            for error in found[:MOST_ERRORS]
            if error["type"] == "union_tag_invalid" and error["loc"][-1] in ("architecture", "method")
        ),
        "validation_error",
    )
    detail = "; ".join(f"{pointer or 'body'}: {words}" for pointer, words in errors[:5])
    return ApiProblem(422, code, detail, errors=errors)


def request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


def answered(request: Request, problem: ApiProblem) -> Response:
    code = problem.code
    body = Problem(
        type=TYPE_URI + code,
        title=TITLES.get(code, code.replace("_", " ").capitalize()),
        status=problem.status_code,
        detail=problem.detail,
        instance=request.url.path,
        code=code,
        request_id=request_id(request),
        errors=[FieldError(pointer=pointer, detail=detail) for pointer, detail in problem.errors],
    )
    members = body.model_dump() | problem.extra
    headers = dict(problem.headers or {}) | {"X-Request-ID": request_id(request)}
    return Response(to_json(members, inf_nan_mode="null"), problem.status_code, headers, MEDIA_TYPE)

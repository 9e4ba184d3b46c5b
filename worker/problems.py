"""Why a unit of work ends: problem objects as the API shows them, and the error that carries one."""

from __future__ import annotations

from typing import Any

TOO_LARGE = (
    "Not even one sample at a time fits into the worker's memory: give it more, or use a smaller network or "
    "smaller inputs."
)
MOST_WORDS = 300  # of a crash, that its job tells
TITLES = {
    "empty_file": "The file is empty",
    "insufficient_storage": "There is no room left",
    "internal_error": "The service failed",
    "non_finite": "Not a finite number",
    "quota_exceeded": "The project has what it may have",
    "source_changed": "The file changed while it was fetched",
    "source_forbidden": "The store does not give the file",
    "source_not_found": "There is no such file",
    "source_refused": "The file cannot be fetched",
    "store_away": "The store does not answer",
    "uri_not_allowed": "The service takes no file from there",
    "out_of_memory": "One sample does not fit into memory",
    "shape_mismatch": "Shapes do not fit",
    "worker_out_of_memory": "The worker has too little memory",
}


def problem(
    code: str, detail: str, *, fault: str = "user", errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """A problem object (RFC 9457) as a resource's `error` holds it; `fault`: the user's or the service's."""
    return {
        "type": f"https://diffin.dev/problems/{code}",
        "title": TITLES.get(code, code.replace("_", " ").capitalize()),
        "status": 422 if fault == "user" else 500,
        "detail": detail,
        "code": code,
        "fault": fault,
        "errors": errors or [],
    }


def failed(kind: str, crash: BaseException) -> dict[str, Any]:
    """The problem of a unit of work that crashed in every attempt; its trace is for the operator alone."""
    words = str(crash).strip().splitlines()[-1:] or [""]
    return problem(
        "internal_error",
        f"The service failed at this ({kind}) in every attempt; the last one: {type(crash).__name__}: "
        f"{words[0][:MOST_WORDS]}. The workers' logs hold the trace.",
        fault="service",
    )


def no_memory(kind: str) -> dict[str, Any]:
    """The problem of a unit of work that the worker had too little memory for, whatever it held at a time."""
    return problem(
        "worker_out_of_memory",
        f"The worker's memory ran out in every attempt at this ({kind}). Its operator can give it more, or "
        "lower DIFFIN_MEMORY_BYTES; a smaller network, data set or number of checkpoints takes less.",
        fault="service",
    )


def no_room(kind: str) -> dict[str, Any]:
    """The problem of a unit of work that found the disk full in every attempt."""
    return problem(
        "insufficient_storage",
        f"There was no room left where the service keeps its files or its database, in any attempt at this "
        f"({kind}). Its operator has to free some (docs/operations.md); then ask for the same again.",
        fault="service",
    )


def store_away(kind: str, away: StoreAwayError) -> dict[str, Any]:
    """The problem of a unit of work that could not reach the store of a `uri` in any attempt."""
    return problem(
        "store_away",
        f"The file could not be fetched in any attempt at this ({kind}); the last one: {away}. Name it again "
        "once the store answers, or tell the service's operator.",
        fault="service",
    )


class StoreAwayError(Exception):
    """The store that a `uri` names does not answer as it should: it may in a while."""


class UserError(Exception):
    """The input is at fault: no further attempt can help."""

    def __init__(self, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.problem = problem(code, detail, errors=errors)

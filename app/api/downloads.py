"""Files to be downloaded: whole, or from where a broken download stopped."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from app.api.problems import ApiProblem
from app.api.resources import known
from app.store.blobs import BlobStore

BINARY = "application/octet-stream"


def described(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The answers of such a route in OpenAPI, but for its problems."""
    return {
        200: {"content": {kind: {} for kind in media_types}, "description": "The file."},
        206: {"description": "The range asked for."},
        304: {"description": "It is the version you have."},
    }


def sent(
    request: Request, session: Session, blobs: BlobStore, sha256: str, *, filename: str, media_type: str
) -> Response:
    """A blob as a file, with `ETag` and `Content-Disposition`; `Range` takes one span of bytes, unless
    `If-Range` names another version.

    Raises:
        ApiProblem: 416 `range_not_satisfiable` for a range beyond the end.
    """
    headers = {
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    if known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    size, read = blobs.reader(session, sha256)
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        asked = ""  # a part of another version would not fit to what is there
    span = _span(asked, size)
    start, stop = span or (0, size)
    headers["Content-Length"] = str(stop - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(read(start, stop), 206 if span else 200, headers, media_type)


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of the one range asked for; None, the whole, for none, several, or what is no range."""
    told = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", asked, re.ASCII | re.IGNORECASE)
    if told is None or not any(told.groups()):
        return None
    first, last = (int(one) if one else None for one in told.groups())
    if first is None:
        start, stop = max(0, size - (last or 0)), size
    else:
        start, stop = first, size if last is None else min(size, last + 1)
        if last is not None and last < first:
            return None
    if start >= size:
        detail = f"The file has {size:,} bytes; the range begins behind its end."
        raise ApiProblem(416, "range_not_satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    return start, stop

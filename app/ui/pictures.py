"""Pictures of samples, as small as they are looked at: made once, kept by the browser for good."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from PIL import Image

from app.api.datasets import DatasetId, found_dataset
from app.api.deps import Blobs, Db
from app.api.problems import not_found
from app.api.resources import INT64, known
from app.api.samples import FOREVER, png
from app.store.rows import Rows
from app.ui.visitors import PageCaller

router = APIRouter(prefix="/datasets/{dataset_id}/pictures", include_in_schema=False)

SIDE = 256  # pixels of a thumbnail's longer side, at most
KEPT = 4096  # thumbnails in memory, some kB each


@router.get("/{index}")
def show(
    request: Request,
    dataset_id: DatasetId,
    index: Annotated[int, InPath(ge=0, le=INT64)],
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    full: Annotated[str | None, Query()] = None,
) -> Response:
    """A sample's picture, whole if asked so; it never changes."""
    with database.snapshot() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        if dataset.inputs_blob is None or not 0 <= index < (dataset.num_samples or 0):
            raise not_found("sample", str(index))
        headers = {"ETag": f'"{dataset.inputs_blob}-{index}-{full}"', "Cache-Control": FOREVER}
        if known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        path = blobs.path(session, dataset.inputs_blob)
    picture = whole(path, index) if full else thumbnail(str(path), index)
    if picture is None:
        raise not_found("picture of sample", str(index))
    return Response(picture, headers=headers, media_type="image/png")


def whole(path: Path, index: int) -> bytes | None:
    return png(np.asarray(Rows(path)[index]))


@lru_cache(KEPT)
def thumbnail(path: str, index: int) -> bytes | None:
    """The picture with a longer side of SIDE pixels at most (no path ever has two contents; a text, since a
    Path that is remembered is held).
    """
    picture = whole(Path(path), index)
    if picture is None:
        return None
    with Image.open(io.BytesIO(picture)) as image:
        if max(image.size) <= SIDE:
            return picture
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
    return buffer.getvalue()

"""The samples of a data set as a person looks at them: a picture, or a row of numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.api.datasets import DatasetId, found_dataset
from app.api.deps import Blobs, Caller, Db
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.resources import INT64, RETRY_AFTER, known
from app.store import datasets
from app.store.blobs import BlobStore
from app.store.datasets import Arrays
from app.store.tables import Dataset

router = APIRouter(prefix="/v1/datasets/{dataset_id}/samples", tags=["data sets"], responses=PROBLEMS)

FOREVER = "private, max-age=31536000, immutable"
CHANNELS = (1, 3, 4)
SampleIndex = Annotated[int, Path(ge=0, le=INT64)]


class SampleOut(BaseModel):
    """One sample. `values` are the input's numbers where they are few and no picture; `text` what a sample of
    tokens was, `row` what a table held in the columns of the inputs, null where it held nothing.
    """

    index: int
    sample_id: str | None
    target: Any
    label_name: str | None = Field(None, description="The name of the label, where labels have names.")
    values: list[float] | float | None
    text: str | None = None
    row: dict[str, Any] | None = None
    content_url: str


@router.get("", summary="List samples by index", responses=responses(404, 409))
def list_samples(
    dataset_id: DatasetId,
    caller: Caller,
    database: Db,
    blobs: Blobs,
    paging: PageOf,
    label: Annotated[
        int | None, Query(ge=-INT64, le=INT64, description="Only samples of this label.")
    ] = None,
    label_name: Annotated[str | None, Query(description="Likewise, by the label's name.")] = None,
) -> Page[SampleOut]:
    binding = "samples", dataset_id, label, label_name
    after = paging.after(*binding)
    with database.snapshot() as session:
        arrays = _opened(session, blobs, found_dataset(session, caller.project_id, dataset_id))
    if label_name is not None:
        label = number_of(arrays.classes, label_name, "query:label_name")
    start = after[0] + 1 if after else 0
    found: Sequence[int] = range(start, len(arrays))[: paging.limit + 1]
    if label is not None:
        found = _of_label(arrays, label, start)[: paging.limit + 1]
    rows, cursor = paging.cut(found, lambda index: [index], *binding)
    return Page(
        data=[_sample(dataset_id, arrays, index) for index in rows],
        next_cursor=cursor,
    )


@router.get("/{index}", summary="One sample", responses=responses(404, 409))
def get_sample(
    dataset_id: DatasetId, index: SampleIndex, caller: Caller, database: Db, blobs: Blobs
) -> SampleOut:
    with database.snapshot() as session:
        arrays = _opened(session, blobs, found_dataset(session, caller.project_id, dataset_id))
    _within(arrays, index)
    return _sample(dataset_id, arrays, index)


@router.get(
    "/{index}/content",
    summary="One sample's content",
    response_class=Response,
    responses={
        200: {
            "content": {"image/png": {}, "text/plain": {}, "application/json": {}},
            "description": "A picture, a text, a table's row, or numbers.",
        },
        **responses(404, 409),
    },
)
def get_content(
    request: Request, dataset_id: DatasetId, index: SampleIndex, caller: Caller, database: Db, blobs: Blobs
) -> Response:
    """A PNG of an image, the text that tokens were made of, the row of a table; the numbers of anything else.

    A row has the columns that the inputs were made of, each with the value that was read: null where the cell
    was empty, or where a line of JSON had no such key. It never changes, so it may be cached for good.
    """
    with database.snapshot() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        arrays = _opened(session, blobs, dataset)
    _within(arrays, index)
    tag = dataset.shown_blob or dataset.inputs_blob
    headers = {"ETag": f'"{tag}-{index}"', "Cache-Control": FOREVER}
    if known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    picture = png(np.asarray(arrays.inputs[index])) if dataset.info["input"].get("kind") == "image" else None
    if picture is None and arrays.shown is not None and arrays.shown_as == "text":
        return Response(arrays.shown[index], headers=headers, media_type="text/plain; charset=utf-8")
    if picture is None:
        return Response(datasets.json_row(arrays, index), headers=headers, media_type="application/json")
    return Response(picture, headers=headers, media_type="image/png")


def png(image: NDArray[Any]) -> bytes | None:
    """A canonical image, uint8 [H, W, C] or float [C, H, W] or [H, W], as PNG; None when it is no picture.

    Floats outside [0, 1] are stretched from the sample's own least value to its greatest.
    """
    if image.dtype != np.uint8:
        image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
        low, high = float(image.min(initial=np.inf)), float(image.max(initial=-np.inf))
        if low < 0 or high > 1:
            image = (image - low) / ((high - low) or 1.0)
        image = np.rint(image * 255).astype(np.uint8)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or not image.size or image.shape[-1] not in CHANNELS:
        return None
    buffer = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def number_of(classes: Sequence[str] | None, name: str, pointer: str) -> int:
    """The label of this name. Raises ApiProblem (422) where there is none."""
    if classes is not None and name in classes:
        return list(classes).index(name)
    known = ", ".join(map(repr, classes[:10])) + (", …" if len(classes) > 10 else "") if classes else "none"
    detail = f"No label is called {name!r}; the data set's names of labels: {known}."
    raise ApiProblem(422, "unknown_label", detail, pointer=pointer)


def _sample(dataset_id: str, arrays: Arrays, index: int) -> SampleOut:
    url = f"/v1/datasets/{dataset_id}/samples/{index}/content"
    return SampleOut(**arrays.sample(index), content_url=url)


def _of_label(arrays: Arrays, label: int, start: int) -> list[int]:
    """Indices from `start` on with this label; none where targets are no labels."""
    if arrays.targets.ndim != 1:
        return []
    return [start + int(at) for at in np.flatnonzero(np.asarray(arrays.targets[start:]) == label)]


def _within(arrays: Arrays, index: int) -> None:
    if index >= len(arrays):
        detail = (
            f"The data set has {len(arrays)} samples, 0 to {len(arrays) - 1}; there is no sample {index}."
        )
        raise ApiProblem(404, "not_found", detail)


def _opened(session: Session, blobs: BlobStore, dataset: Dataset) -> Arrays:
    if dataset.status == "validating":
        detail = f"The data set {dataset.id} is still being validated; ask again in a moment."
        raise ApiProblem(409, "input_not_ready", detail, headers=RETRY_AFTER)
    if dataset.status == "invalid":
        detail = f"The data set {dataset.id} was refused and holds no samples; its `error` says why."
        raise ApiProblem(409, "invalid_dataset", detail)
    return Arrays(session, blobs, dataset)

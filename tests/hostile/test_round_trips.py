"""What is written is what is read: data sets of any shape and type in every format, exports, names in the API."""

from __future__ import annotations

import base64
import csv as csv_module
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.numpy import save

from app.api.idempotency import _digest
from app.api.pagination import Paging
from app.api.problems import ApiProblem
from app.api.resources import _among
from tests.worker.loading.archives import tarred
from tests.worker.loading.files import Array, npy, npz, zipped
from tests.worker.loading.tables import csv, jsonl, parquet
from worker.export import WRITERS
from worker.exporting.table import Batch, Column, Kind, Table
from worker.loading import Asked, DatasetInfo, load_batch_order, load_dataset

QUICK, SLOW = 25, 1000


def examples(test: Callable[..., None]) -> Any:
    """A few examples in the quick suite, many in the slow one."""
    fixtures = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

    @pytest.mark.parametrize("count", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
    def many(count: int, tmp_path: Path) -> None:
        settings(max_examples=count, deadline=None, suppress_health_check=fixtures)(test)(tmp_path)

    many.__name__, many.__doc__ = test.__name__, test.__doc__
    return many


def read(folder: Path, data: bytes, kind: str, **asked: Any) -> tuple[DatasetInfo, Callable[[str], Array]]:
    """(what is told of the data set, its canonical arrays by name)."""
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "upload").write_bytes(data)
    out = place / "out"
    out.mkdir()
    info = load_dataset(place / "upload", kind, out, Asked(**asked))
    return info, lambda name: np.load(out / f"{name}.npy", allow_pickle=False)


# ---------------------------------------------------------------- data sets
FLOATS = ("<f2", "<f4", "<f8", ">f4", ">f8")
INTEGERS = ("i1", "<i2", "<i4", "<i8", ">i4", "u1", "<u2", "<u4", "<u8", "?")
FINITE = {"allow_nan": False, "allow_infinity": False, "allow_subnormal": True}


def numbers(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "f":
        most = min(float(np.finfo(dtype).max), float(np.finfo(np.float32).max))
        return st.floats(-most, most, width=dtype.itemsize * 8, **FINITE)  # type: ignore[arg-type]
    if dtype.kind == "b":
        return st.booleans()
    bounds = np.iinfo(dtype)
    return st.integers(int(bounds.min), min(int(bounds.max), 2**63 - 1))


@st.composite
def arrays(draw: Any, rows: int, kinds: tuple[str, ...] = FLOATS + INTEGERS, axes: int = 4) -> Array:
    dtype = np.dtype(draw(st.sampled_from(kinds)))
    shape = (rows, *draw(hnp.array_shapes(min_dims=0, max_dims=axes, max_side=4)))
    made: Array = draw(hnp.arrays(dtype, shape, elements=numbers(dtype), fill=st.nothing()))
    return np.asfortranarray(made) if draw(st.booleans()) else made


@st.composite
def data_sets(draw: Any) -> dict[str, Array]:
    rows = draw(st.integers(1, 5))
    made = {"inputs": draw(arrays(rows)), "targets": draw(arrays(rows, axes=1))}
    if draw(st.booleans()):
        made["ids"] = np.array([f"{draw(ID)}{i}" for i in range(rows)])
    return made


ID = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=8)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn", "Cf", "Zl", "Zp"]),
    min_size=1,
    max_size=20,
)


def canonical(array: Array) -> Array:
    """As docs/data.md has it, images apart: float32, uint8 as they are, other integers int64."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return (
        array
        if array.dtype == np.uint8
        else array.astype(np.float32 if array.dtype.kind == "b" else np.int64)
    )


def same(found: Array, sent: Array, *, moved: bool) -> bool:
    """Whether the values are those that were sent, in their order or with channels moved to the end."""
    wanted = canonical(sent)
    if moved:
        wanted = np.moveaxis(wanted, 1, -1)
    return found.dtype == wanted.dtype and np.array_equal(found.reshape(wanted.shape), wanted)


@examples
@given(data_sets(), st.sampled_from(["npz", "npz packed", "safetensors"]))
def test_arrays(folder: Path, sent: dict[str, Array], how: str) -> None:
    if how == "safetensors":
        sent = {
            name: np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="))
            for name, array in sent.items()
            if name != "ids"
        }
        data = save(sent)
    elif how == "npz":
        data = npz(**sent)
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **sent)
        data = buffer.getvalue()
    info, found = read(folder, data, how.split()[0])
    inputs = found("inputs")
    shape = sent["inputs"].shape[1:]
    moved = (
        sent["inputs"].dtype == np.uint8
        and len(shape) == 3
        and shape[2] not in (1, 3, 4)
        and shape[0] in (1, 3, 4)
    )
    assert same(inputs, sent["inputs"], moved=moved)
    targets = sent["targets"].astype(np.float32 if sent["targets"].dtype.kind == "f" else np.int64)
    assert found("targets").dtype == targets.dtype
    assert np.array_equal(found("targets").reshape(targets.shape), targets)
    assert info.num_samples == len(inputs)
    assert (info.input.min, info.input.max) == (inputs.min(), inputs.max())
    if "ids" in sent:
        assert found("ids").tolist() == sent["ids"].tolist()


@examples
@given(st.data(), st.sampled_from(["parquet", "csv", "jsonl"]))
def test_tables_of_numbers(folder: Path, data: st.DataObject, how: str) -> None:
    rows = data.draw(st.integers(1, 6))
    value = numbers(np.dtype("<f4"))
    columns = {f"c{i}": [data.draw(value) for _ in range(rows)] for i in range(data.draw(st.integers(2, 4)))}
    labels = [data.draw(st.integers(-(2**63), 2**63 - 1)) for _ in range(rows)]
    ids = [f"{data.draw(ID)}{i}" for i in range(rows)]
    table = {**columns, "label": labels, "id": ids}
    _, found = read(folder, written(how, table), how)
    assert np.array_equal(found("inputs"), np.array(list(columns.values()), np.float32).T)
    assert found("targets").tolist() == labels
    assert [one.strip() for one in ids] == found("ids").tolist()


@examples
@given(st.data(), st.sampled_from(["parquet", "csv", "jsonl"]))
def test_tables_of_categories(folder: Path, data: st.DataObject, how: str) -> None:
    rows = data.draw(st.integers(2, 6))
    names = data.draw(st.lists(TEXT.map(str.strip).filter(is_a_name), min_size=2, max_size=4, unique=True))
    column = [data.draw(st.sampled_from(names)) for _ in range(rows)]
    labels = [data.draw(st.sampled_from(names)) for _ in range(rows)]
    table: dict[str, list[Any]] = {"a": [1.5] * rows, "b": column, "label": labels}
    info, found = read(folder, written(how, table), how)
    assert info.encoding is not None
    classes = sorted(set(labels))
    assert info.encoding["classes"] == classes
    assert [classes[label] for label in found("targets").tolist()] == labels
    values = info.encoding["inputs"]["features"][1]["values"]
    assert [values[row[1:].argmax()] for row in found("inputs")] == column


def is_a_name(text: str) -> bool:
    """Text that is not read as a number, or as nothing."""
    try:
        float(text.replace("_", ""))
    except ValueError:
        return (
            bool(text)
            and not text.isnumeric()
            and text not in ("?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
        )
    return False


@examples
@given(st.data(), st.sampled_from(["parquet", "jsonl"]))
def test_columns_of_lists(folder: Path, data: st.DataObject, how: str) -> None:
    rows = data.draw(st.integers(1, 5))
    sent = data.draw(arrays(rows, ("<f4", "<i8"), axes=3).filter(lambda array: array.ndim > 1))
    table: dict[str, list[Any]] = {"x": sent.tolist(), "label": list(range(rows))}
    _, found = read(folder, written(how, table), how, columns={"inputs": "x"})
    assert same(found("inputs"), sent, moved=False)


@examples
@given(
    st.lists(st.lists(st.integers(0, 2**40), min_size=1, max_size=9), min_size=2, max_size=6),
    st.sampled_from(["parquet", "jsonl"]),
)
def test_token_ids(folder: Path, sent: list[list[int]], how: str) -> None:
    table: dict[str, list[Any]] = {"x": sent, "label": list(range(len(sent)))}
    longest = max(map(len, sent))
    _, found = read(
        folder, written(how, table), how, columns={"inputs": "x"}, padding_id=7, max_length=longest
    )
    assert found("inputs").tolist() == [row + [7] * (longest - len(row)) for row in sent]


def written(how: str, table: dict[str, list[Any]]) -> bytes:
    if how == "parquet":
        return parquet(table)
    if how == "csv":
        return csv(table)
    return jsonl([dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)])


@examples
@given(st.data(), st.sampled_from(["imagefolder", "tar", "webdataset", "parquet"]))
def test_images(folder: Path, data: st.DataObject, how: str) -> None:
    rows, height, width = (data.draw(st.integers(1, 5)) for _ in range(3))
    sides = (height, width, 3) if data.draw(st.booleans()) else (height, width)
    sent = data.draw(hnp.arrays(np.uint8, (rows, *sides)))
    kind = data.draw(
        st.sampled_from(["PNG", "BMP", "PPM", *["WEBP"] * (len(sides) == 3)])
    )  # which knows no grey
    lossless = {"lossless": True} if kind == "WEBP" else {}
    files = [_image(pixels, kind, **lossless) for pixels in sent]
    if how == "parquet":
        content = parquet({"image": files, "label": list(range(rows))})
    elif how == "webdataset":
        content = tarred(
            {
                f"{i:04}.{end}": part
                for i, file in enumerate(files)
                for end, part in (("png", file), ("cls", b"%d" % i))
            }
        )
    else:
        content = (zipped if how == "imagefolder" else tarred)(
            {f"c{i:04}/x.png": file for i, file in enumerate(files)}
        )
    grey = sent.ndim == 3
    _, found = read(folder, content, how, image_mode="L" if grey else "RGB")
    assert np.array_equal(found("inputs"), sent[..., None] if grey else sent)
    assert found("targets").tolist() == list(range(rows))


def _image(pixels: Array, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@examples
@given(st.data(), st.sampled_from(["npy", "npz", "safetensors"]))
def test_batch_orders(folder: Path, data: st.DataObject, how: str) -> None:
    dtype: np.dtype[Any] = np.dtype(data.draw(st.sampled_from(["<i2", "<i4", "<i8", ">i4", "u1"])))
    most = int(np.iinfo(dtype).max)
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    sent = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, most)))
    if how == "npy":
        content = npy(np.asfortranarray(sent) if data.draw(st.booleans()) else sent)
    else:
        content = (
            npz(batch_order=sent)
            if how == "npz"
            else save({"batch_order": sent.astype(dtype.newbyteorder("="))})
        )
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "upload").write_bytes(content)
    info = load_batch_order(place / "upload", place / "order.npy", place)
    assert np.array_equal(np.load(place / "order.npy"), sent)
    assert (info.steps, info.batch, info.largest) == (*shape, sent.max())


# ---------------------------------------------------------------- exports
CELLS: dict[Kind, st.SearchStrategy[Any]] = {
    "index": st.integers(0, 2**63 - 1),
    "whole": st.none() | st.integers(-(2**53), 2**53),
    "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.none() | st.booleans(),
    "text": st.none()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
}
COLUMNS = tuple(Column(kind, kind) for kind in CELLS)
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=8)


@examples
@given(ROWS, st.integers(1, 8), st.sampled_from(["parquet", "csv", "jsonl", "npz"]))
def test_exports(folder: Path, rows: list[dict[str, Any]], size: int, how: str) -> None:
    def batches() -> Iterator[Batch]:
        for start in range(0, len(rows), size):
            yield Batch(rows[start : start + size])

    path = Path(tempfile.mkdtemp(dir=folder)) / "file"
    assert sum(WRITERS[how](Table(COLUMNS, batches, len(rows), None, {}), path)) == len(rows)
    assert READERS[how](path) == rows


def _csv(path: Path) -> list[dict[str, Any]]:
    """Missing is empty; an apostrophe before a text was put there for spreadsheets."""
    parse: dict[str, Callable[[str], Any]] = {
        "index": int, "whole": int, "number": float, "flag": lambda cell: cell == "true",
        "text": lambda cell: cell.removeprefix("'"),
    }  # fmt: skip
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: parse[name](cell) if cell else None for name, cell in row.items()}
            for row in csv_module.DictReader(file)
        ]


def _npz(path: Path) -> list[dict[str, Any]]:
    """Missing numbers are NaN, texts empty, flags -1; a column without any value is left out."""
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name].tolist() for name in file.files}
    missing: dict[str, Callable[[Any], bool]] = {
        "text": lambda cell: not cell,
        "flag": lambda cell: cell == -1,
    }
    length = len(columns["index"])

    def cell(name: str, row: int) -> Any:
        if name not in columns:
            return None
        value = columns[name][row]
        if missing.get(name, lambda value: isinstance(value, float) and math.isnan(value))(value):
            return None
        return bool(value) if name == "flag" else value

    return [{name: cell(name, row) for name in CELLS} for row in range(length)]


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "parquet": lambda path: pq.read_table(path).to_pylist(),
    "jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line],
    "csv": _csv,
    "npz": _npz,
}


# ---------------------------------------------------------------- names in the API
POSITION = st.lists(
    st.integers()
    | st.text(st.characters(codec="utf-8"))
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.none(),
    min_size=1,
    max_size=3,
)


@examples
@given(POSITION, st.lists(st.text(), max_size=3), st.binary(min_size=1, max_size=40), st.integers(0, 10**6))
def test_cursors(folder: Path, position: list[Any], binding: list[str], secret: bytes, place: int) -> None:
    page, cursor = Paging(1, None, secret).cut([1, 2], lambda row: position, *binding)
    assert page == [1] and cursor is not None
    assert Paging(1, cursor, secret).after(*binding) == position
    sealed = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    sealed[place % len(sealed)] ^= 1 + place % 255
    broken = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    for one in (broken, cursor[:-4], os.urandom(20).hex()):
        with pytest.raises(ApiProblem):
            Paging(1, one, secret).after(*binding)
    with pytest.raises(ApiProblem):
        Paging(1, cursor, secret).after(*binding, "more")


TAG = st.text("0123456789abcdef", min_size=32, max_size=32).map('W/"{}"'.format)


@examples
@given(st.lists(TAG, min_size=2, max_size=5, unique=True), st.booleans())
def test_etags(folder: Path, tags: list[str], strong: bool) -> None:
    own, *others = tags
    sent = [tag.removeprefix("W/") if strong else tag for tag in (*others, own)]
    assert _among(", ".join(sent), own)
    assert not _among(", ".join(others), own)
    assert _among("*", own)


@examples
@given(st.lists(st.lists(st.text(), max_size=4), min_size=2, max_size=6, unique_by=tuple))
def test_fingerprints_of_requests(folder: Path, requests: list[list[str]]) -> None:
    """Those of different parts differ, however the same characters are spread over them."""
    assert len({_digest(*parts) for parts in requests}) == len(requests)

"""What is sent is what is read: data sets of any shape and type in every format, and batch orders."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.numpy import save

from tests.hostile.examples import examples
from tests.worker.loading.archives import tarred
from tests.worker.loading.files import Array, npy, npz, zipped
from tests.worker.loading.tables import csv, jsonl, parquet
from worker.loading import Asked, DatasetInfo, load_batch_order, load_dataset


def read(folder: Path, data: bytes, kind: str, **asked: Any) -> tuple[DatasetInfo, Callable[[str], Array]]:
    """(what is told of the data set, its canonical arrays by name)."""
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "upload").write_bytes(data)
    out = place / "out"
    out.mkdir()
    info = load_dataset(place / "upload", kind, out, Asked(**asked))
    return info, lambda name: np.load(out / f"{name}.npy", allow_pickle=False)


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


@examples(data_sets(), st.sampled_from(["npz", "npz packed", "safetensors"]))
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


@examples(st.data(), st.sampled_from(["parquet", "parquet by differences", "csv", "jsonl"]))
def test_tables_of_numbers(folder: Path, data: st.DataObject, how: str) -> None:
    rows = data.draw(st.integers(1, 6))
    value = numbers(np.dtype("<f4"))
    columns = {f"c{i}": [data.draw(value) for _ in range(rows)] for i in range(data.draw(st.integers(2, 4)))}
    labels = [data.draw(st.integers(-(2**63), 2**63 - 1)) for _ in range(rows)]
    ids = [f"{data.draw(ID)}{i}" for i in range(rows)]
    table = {**columns, "label": labels, "id": ids}
    _, found = read(folder, written(how, table), how.split()[0])
    assert np.array_equal(found("inputs"), np.array(list(columns.values()), np.float32).T)
    assert found("targets").tolist() == labels
    assert [one.strip() for one in ids] == found("ids").tolist()


@examples(st.data(), st.sampled_from(["parquet", "parquet by differences", "csv", "jsonl"]))
def test_tables_of_categories(folder: Path, data: st.DataObject, how: str) -> None:
    rows = data.draw(st.integers(2, 6))
    names = data.draw(st.lists(TEXT.map(str.strip).filter(is_a_name), min_size=2, max_size=4, unique=True))
    column = [data.draw(st.sampled_from(names)) for _ in range(rows)]
    labels = [data.draw(st.sampled_from(names)) for _ in range(rows)]
    table: dict[str, list[Any]] = {"a": [1.5] * rows, "b": column, "label": labels}
    info, found = read(folder, written(how, table), how.split()[0])
    assert info.encoding is not None
    classes = sorted(set(labels))
    assert info.encoding["classes"] == classes
    assert [classes[label] for label in found("targets").tolist()] == labels
    values = info.encoding["inputs"]["features"][1]["values"]
    assert [values[row[1:].argmax()] for row in found("inputs")] == column


@examples(
    st.lists(st.dictionaries(st.sampled_from("abcdefgh"), numbers(np.dtype("<f4"))), min_size=2, max_size=9)
)
def test_json_lines_of_any_keys(folder: Path, rows: list[dict[str, float]]) -> None:
    rows[0]["a"], rows[1]["b"] = 1.5, 2.5
    info, found = read(folder, jsonl([row | {"label": 0} for row in rows]), "jsonl")
    assert info.encoding is not None
    assert info.encoding["columns"]["inputs"] == list(dict.fromkeys(key for row in rows for key in row))
    for feature in info.encoding["inputs"]["features"]:
        column = found("inputs")[:, feature["at"][0]]
        there = [i for i, row in enumerate(rows) if feature["column"] in row]
        assert column[there].tolist() == [rows[i][feature["column"]] for i in there]


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


@examples(st.data(), st.sampled_from(["parquet", "jsonl"]))
def test_columns_of_lists(folder: Path, data: st.DataObject, how: str) -> None:
    rows = data.draw(st.integers(1, 5))
    sent = data.draw(arrays(rows, ("<f4", "<i8"), axes=3).filter(lambda array: array.ndim > 1))
    table: dict[str, list[Any]] = {"x": sent.tolist(), "label": list(range(rows))}
    _, found = read(folder, written(how, table), how, columns={"inputs": "x"})
    assert same(found("inputs"), sent, moved=False)


@examples(
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
    if how == "parquet by differences":
        told = {name: "DELTA_BYTE_ARRAY" for name, column in table.items() if isinstance(column[0], str)}
        return parquet(table, use_dictionary=False, column_encoding=told)
    if how == "csv":
        return csv(table)
    return jsonl([dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)])


@examples(st.data(), st.sampled_from(["imagefolder", "tar", "webdataset", "parquet"]))
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


@examples(st.data(), st.sampled_from(["npy", "npz", "safetensors"]))
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

"""Tables that are refused: broken, hostile, or not what a data set is made of."""

from __future__ import annotations

import io
import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.loading.archives import tarred
from tests.worker.loading.files import Load, Refuse, survives
from tests.worker.loading.tables import CENSUS, csv, jsonl, parquet

WHOLE = {
    "parquet": parquet({"x": [1.0, 2.0, 3.0], "w": ["a", "b", "a"], "label": ["u", "v", "u"]}),
    "csv": CENSUS.encode(),
    "jsonl": jsonl([{"x": [1, 2], "label": "a"}, {"x": [3, 4], "label": "b"}]),
}


@pytest.mark.parametrize(
    ("kind", "data", "code", "words"),
    [
        ("csv", b"x,label\n1,a\n2\n", "corrupt_file", "Expected 2 columns, got 1"),
        ("csv", b"x,x,label\n1,2,a\n", "unknown_array", "two columns 'x'"),
        ("csv", b"x,label\n", "missing_array", "holds no value"),
        ("csv", b",".join(b"x%d" % n for n in range(10_001)) + b"\n", "shape_mismatch", "10000 at most"),
        ("csv", b"x\xff,label\n1,a\n", "corrupt_file", "UTF-8"),
        ("csv", b"x,label\n1,\xff\xfea\n", "corrupt_file", "UTF8"),
        ("csv", b"x,label\n1,\n2,b\n", "missing_value", "sample(s) 0"),
        ("csv", b"x,label\ninf,a\n2,b\n", "non_finite", "infinite"),
        ("csv", b"x,label\n,a\n?,b\n", "missing_array", "holds no value"),
        ("csv", b"a,b\n1,2\n", "missing_array", "targets"),
        ("csv", "x,label\n1,a\n".encode("utf-16"), "corrupt_file", "UTF-16"),
        ("csv", b'x,label\n1,"' + b"a" * 12_000_000, "corrupt_file", "opened at line 2 is never closed"),
        ("csv", b"label,x\na,1\nb,\"2\nc,3\n", "corrupt_file", "opened at line 3 is never closed"),
        ("csv", b"x,label\n1,\"a\n2,\"b\"\n3,\"c\"\n", "corrupt_file", "opened at line 2 is never closed"),
        ("csv", b"x,label\n1,\"a\nb\"\n2,\"c\"\n3,\"d", "corrupt_file", "opened at line 5 is never closed"),
        ("csv", b"x,label\n" + b"1,a\n" * 400_000 + b"2,caf\xe9\n", "corrupt_file", "save it as UTF-8"),
        ("csv", b"x" * 1_500_000, "corrupt_file", "first line"),
        ("csv", b"x" * 200_000 + b",label\n1,a\n", "corrupt_file", "first line"),
        ("csv", b"x,label\r1,a\r2,b\r", "corrupt_file", "line feed"),
        ("jsonl", b"[1, 2]\n", "corrupt_file", "Line 1"),
        ("jsonl", b'{"x": 1, "label": 0}\n{"x": 2, \n', "corrupt_file", "Line 2"),
        ("jsonl", b'{"x": 1, "label": 0}\n{"x": "a", "label": 0}\n', "unsupported_dtype", "several kinds"),
        ("jsonl", b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "corrupt_file", "Line 1"),
        ("jsonl", b'{"x": 1, "label": 99999999999999999999}\n', "unsupported_dtype", "64 bits"),
        ("jsonl", b'{"x": "' + b"a" * 9_000_000 + b'"}', "corrupt_file", "8388608 bytes"),
        ("jsonl", b'{"x": [[1], [2, 3]], "y": 0}\n', "shape_mismatch", "several shapes"),
        ("jsonl", b'{"x": [1.5], "y": 0}\n{"x": [1.5, 2], "y": 0}\n', "shape_mismatch", "several lengths"),
        ("jsonl", b'{"x": [1, null], "y": 0}\n', "shape_mismatch", "gaps"),
        ("jsonl", b'{"x": [], "y": 0}\n', "shape_mismatch", "no values"),
        ("jsonl", b'{"text": "hello", "label": 0}\n', "tokenizer_required", "tokenizer_file"),
        ("jsonl", b'{"x": {"a": 1}, "label": 0}\n', "unsupported_dtype", "holds struct"),
        ("jsonl", b'{"x": 1, "label": "a\\u0000"}\n', "invalid_name", "printable"),
        ("jsonl", b'{"x": 1, "label": 0, "id": "a"}\n' * 2, "invalid_ids", "twice"),
        ("jsonl", b'{"x": 1, "label": 0, "id": "a"}\n{"x": 1, "label": 0}\n', "invalid_ids", "empty"),
    ],
)  # fmt: skip
def test_what_is_no_table(refuse: Refuse, kind: str, data: bytes, code: str, words: str) -> None:
    assert words in refuse(data, code, kind).detail


def test_a_quote_within_a_value_need_not_be_closed(load: Load, out: Path) -> None:
    info = load(b'pipe,size,label\n5" wide,1,a\n"6"" wide",2,b\n5" wide,3,a\n7",4,b\n', "csv")
    assert info.num_samples == 4 and info.encoding is not None
    pipe = info.encoding["inputs"]["features"][0]
    assert pipe["values"] == ['5" wide', '6" wide', '7"']


@pytest.mark.parametrize(
    ("row", "code", "at", "words"),
    [
        ({"label": "\u0007b"}, "invalid_name", "/label/3", "'\\\\x07b'"),
        ({"city": "\u0007b"}, "invalid_name", "/city/3", "longer than 256 characters"),
        ({"city": "x" * 300}, "invalid_name", "/city/3", "longer than 256 characters"),
        ({"id": "\u0007b"}, "invalid_ids", "/id/3", "sample 3"),
        ({"id": "x" * 300}, "invalid_ids", "/id/3", "longer than 256 characters"),
        ({"id": "row 1"}, "invalid_ids", "/id/3", "samples 1 and 3"),
        ({"x": 2**64}, "unsupported_dtype", "/x/3", "beyond 64 bits"),
        ({"label": [1, {"a": [-(2**63) - 1]}]}, "unsupported_dtype", "/label/3", "beyond 64 bits"),
    ],
)
def test_a_value_that_is_refused_is_named_by_column_and_row(
    refuse: Refuse, row: dict[str, Any], code: str, at: str, words: str
) -> None:
    """Also on a late line, of which there may be many."""
    rows: list[dict[str, Any]] = [{"x": i, "city": "rome", "label": "a", "id": f"row {i}"} for i in range(5)]
    rows[3] |= row
    refused = refuse(jsonl(rows), code, "jsonl", columns={"inputs": ["x", "city"]})
    assert words in refused.detail and refused.errors[0]["pointer"] == at


def test_a_number_of_thousands_of_digits(refuse: Refuse) -> None:
    line = b'{"x": ' + b"9" * 5000 + b', "label": 0}\n'
    assert "64 bits" in refuse(line, "corrupt_file", "jsonl").detail


@pytest.mark.parametrize("name", ["line one\nline two", "sm\u00ad\u00efth", "a\u00a0b", "\u200d joined"])
def test_names_may_hold_what_peoples_text_holds(load: Load, name: str) -> None:
    accepted = load(jsonl([{"x": 1, "label": name}, {"x": 2, "label": "other"}]), "jsonl")
    assert set(accepted.as_dict()["encoding"]["classes"]) == {name, "other"}


def test_columns_that_are_not_there_are_named(refuse: Refuse) -> None:
    refused = refuse(CENSUS.encode(), "missing_array", "csv", columns={"targets": "wage"})
    assert "wage" in refused.detail and "age, job, hours, income" in refused.detail
    assert refused.errors == [{"pointer": "/columns/targets", "detail": "there is no column 'wage'"}]
    refuse(CENSUS.encode(), "unknown_array", "csv", columns={"inputs": ["age", "age"], "targets": "income"})


def test_text_with_too_many_values_for_a_category(refuse: Refuse) -> None:
    names = [f"person {i}" for i in range(300)]
    words = refuse(csv({"who": names, "x": range(300), "label": [0] * 300}), "too_many_values", "csv").detail
    assert "'who'" in words and "256" in words


def test_a_table_of_too_many_features(refuse: Refuse) -> None:
    columns = {f"c{i}": [f"v{j}" for j in range(256)] for i in range(260)}
    assert "features" in refuse(parquet({**columns, "label": [0] * 256}), "shape_mismatch").detail


@pytest.mark.parametrize("kind", ["jsonl", "webdataset", "parquet"])
def test_a_table_too_large_for_its_file_is_refused_before_its_values_are_read(
    refuse: Refuse, kind: str
) -> None:
    """Where each line names one of 9,990 columns, all of which are numbers of its sample, reading them took
    minutes, in which no other file was read.
    """
    begun = time.process_time()
    detail = refuse(_sparse(kind), "dataset_too_large", kind).detail
    assert "more than 1,000 times those of the file" in detail
    assert "columns, take" in detail  # as is said before the values are read
    assert time.process_time() - begun < 30


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_kilobytes_do_not_become_gigabytes(refuse: Refuse, load: Load, kind: str) -> None:
    """A byte of the file's is eight of an array's, and none at all where it is the same throughout."""
    packed, plain = _constant(kind, 50_000, packed=True), _constant(kind, 50_000, packed=False)
    assert len(packed) < 100_000
    detail = refuse(packed, "dataset_too_large", kind).detail
    assert "400,400,000 bytes" in detail and "1,000 times those of the file" in detail
    assert "not packed" in detail
    assert load(plain, kind).num_samples == 50_000  # the way out that it tells
    assert load(_constant(kind, 30_000, packed=True), kind).num_samples == 30_000


def _constant(kind: str, rows: int, *, packed: bool) -> bytes:
    """[rows, 1000] zeros of int8, and labels."""
    values, labels = np.zeros((rows, 1000), np.int8), np.zeros(rows, np.int8)
    if kind == "npz":
        buffer = io.BytesIO()
        (np.savez_compressed if packed else np.savez)(buffer, inputs=values, targets=labels)
        return buffer.getvalue()
    offsets = pa.array(np.arange(0, values.size + 1, 1000, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
    options = {"compression": "zstd" if packed else "none", "use_dictionary": packed}
    return parquet({"x": lists, "label": labels}, row_group_size=rows, **options)


def _sparse(kind: str) -> bytes:
    if kind == "parquet":
        zeros = pa.array(np.zeros(10_000_000, np.int8))
        columns = {**{f"k{i}": zeros for i in range(8)}, "label": zeros}
        return parquet(columns, compression="zstd", row_group_size=len(zeros))
    rows = [{f"k{i % 9990}": 1, "label": i % 2} for i in range(200_000 if kind == "jsonl" else 9_000)]
    if kind == "jsonl":
        return jsonl(rows)
    return tarred({f"{i}.json": json.dumps(row).encode() for i, row in enumerate(rows)}, "w:gz")


def test_a_parquet_file_that_promises_more_than_it_holds(refuse: Refuse, load: Load) -> None:
    zeros = pa.array(np.zeros(20_000_000))
    data = parquet({"x": zeros, "label": zeros}, use_dictionary=False, compression="zstd")
    assert len(data) < 2**20
    assert "bomb" in refuse(data, "unsafe_file").detail


def test_a_long_value_that_every_row_shares(refuse: Refuse) -> None:
    """A dictionary holds it once; written out it would fill the memory many times over."""
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000, np.int32)), pa.array(["a" * 2**20]))
    data = parquet({"x": long, "label": np.zeros(60_000, np.int64)})
    assert len(data) < 2**22
    assert refuse(data, "unsafe_file", columns={"inputs": ["x"]}).detail


def test_a_footer_as_large_as_it_likes(refuse: Refuse) -> None:
    whole = WHOLE["parquet"]
    for length in (2**31 - 1, 2**32 - 1, 0):
        refuse(whole[:-8] + struct.pack("<I", length) + b"PAR1", "corrupt_file")
    assert "end as one" in refuse(whole[:-1], "corrupt_file").detail


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_at_any_byte(load: Load, kind: str) -> None:
    whole = WHOLE[kind]
    for end in range(0, len(whole), 7):
        survives(load, whole[:end], kind)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_with_bytes_changed(load: Load, kind: str, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[kind])
    place = st.integers(0, len(whole) - 1)
    for where, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=6)):
        whole[where] = value
    survives(load, bytes(whole), kind)

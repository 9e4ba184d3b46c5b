"""Parquet of absurd shapes, with sizes that lie, or that unpacks to far more than it is."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tests.hostile import good
from tests.hostile.case import READY, Case
from tests.worker.loading.tables import parquet

TABLE, MIB = good.TABLE, 1024**2
ROWS = 1000
CHOSEN = {"columns": {"inputs": "x"}}
FOOTER = 8  # bytes of the footer's length, and the mark


def _with_footer(change: Callable[[bytes], bytes]) -> bytes:
    data = good.GOOD["parquet"]
    length = int.from_bytes(data[-8:-4], "little")
    footer = change(data[-8 - length : -8])
    return data[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def _length(length: int) -> Callable[[], bytes]:
    return lambda: good.GOOD["parquet"][:-8] + struct.pack("<I", length) + b"PAR1"


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def zigzag(value: int) -> bytes:
    return varint(((value << 1) ^ (value >> 63)) & (2**64 - 1))


def _footer(body: bytes) -> bytes:
    """A file of no data whose footer is this."""
    return b"PAR1" + body + struct.pack("<I", len(body)) + b"PAR1"


def _chunk(unpacked: int, packed: int, rows: int, groups: int = 1) -> bytes:
    """A footer of one column of doubles whose one chunk says that it has these bytes."""
    element = b"\x48\x04root\x15" + zigzag(1) + b"\0"  # name, num_children
    leaf = b"\x15" + zigzag(5) + b"\x25" + zigzag(0) + b"\x18\x01x" + b"\0"  # type double, required, name
    column = (
        b"\x15" + zigzag(5) + b"\x19\x15" + zigzag(0) + b"\x19\x18\x01x" + b"\x15" + zigzag(0)
        + b"\x16" + zigzag(rows) + b"\x16" + zigzag(unpacked) + b"\x16" + zigzag(packed) + b"\x26" + zigzag(4) + b"\0"
    )  # fmt: skip
    group = (
        b"\x19\x1c"
        + b"\x26"
        + zigzag(4)
        + b"\x1c"
        + column
        + b"\0"
        + b"\x16"
        + zigzag(unpacked)
        + b"\x16"
        + zigzag(rows)
        + b"\0"
    )
    listed = b"\x19" + (bytes([groups << 4 | 12]) if groups < 15 else b"\xfc" + varint(groups))
    return _footer(
        b"\x15"
        + zigzag(1)
        + b"\x19\x2c"
        + element
        + leaf
        + b"\x16"
        + zigzag(rows)
        + listed
        + group * groups
        + b"\0"
    )


def _same(value: Any, rows: int, **options: Any) -> bytes:
    return parquet({"x": [value] * rows, "label": [0] * rows}, **options)


def _wide(columns: int) -> bytes:
    return parquet({**{f"c{i}": [1.0] for i in range(columns)}, "label": [0]})


def _deep(depth: int) -> bytes:
    kind = pa.float32()
    value: Any = 1.0
    for _ in range(depth):
        kind, value = pa.list_(kind), [value]
    return parquet({"x": pa.array([value], kind), "label": [0]})


def _structs(depth: int) -> bytes:
    kind, value = pa.float32(), 1.0
    for _ in range(depth):
        kind, value = pa.struct([("a", kind)]), {"a": value}  # type: ignore[assignment]
    return parquet({"x": pa.array([value], kind), "label": [0]})


def _groups(count: int) -> bytes:
    buffer, table = io.BytesIO(), pa.table({"x": [1.0], "label": [0]})
    with pq.ParquetWriter(buffer, table.schema) as writer:
        for _ in range(count):
            writer.write_table(table)
    return buffer.getvalue()


def _page_size(size: int) -> bytes:
    """A page that says it has so many bytes; what else is in its header stays."""
    table = {"x": np.arange(ROWS, dtype=float), "label": np.zeros(ROWS, int)}
    data = parquet(table, use_dictionary=False, compression="none", write_statistics=False)
    start = b"PAR1\x15\x00\x15"  # a page of data, and its size
    end = data.index(b"\x15", len(start))
    assert data.startswith(start)
    return start + zigzag(size) + data[end:]


def _packed_page(codec: str) -> bytes:
    """Packed pages of which some bytes are others."""
    data = bytearray(
        parquet(
            {"x": np.arange(ROWS, dtype=float), "label": np.zeros(ROWS, int)},
            use_dictionary=False,
            compression=codec,
        )
    )
    for place in range(60, 200, 7):
        data[place] ^= 0xFF
    return bytes(data)


def _huggingface(features: Any) -> bytes:
    told = json.dumps({"info": {"features": features}})
    return parquet(pa.table(TABLE).replace_schema_metadata({"huggingface": told}))


def _arrow_schema(data: bytes) -> bytes:
    """The library's own schema, which it keeps beside parquet's, is this."""
    return parquet(pa.table(TABLE).replace_schema_metadata({"ARROW:schema": data}), store_schema=False)


def _bad_text() -> bytes:
    column = pa.StringArray.from_buffers(
        2, pa.py_buffer(np.array([0, 2, 4], np.int32)), pa.py_buffer(b"\xff\xfe\xff\xfe")
    )
    return parquet({"x": column, "label": [0, 1]})


def _typed(kind: Any, value: Any) -> Callable[[], bytes]:
    return lambda: parquet({"x": pa.array([value, value], kind), "label": [0, 1]})


def _dictionary(value: str | bytes, rows: int) -> bytes:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
    return parquet({"x": column, "label": [0] * rows})


def _differences(values: list[str], **options: Any) -> bytes:
    """A column of text, each written as what differs from the one before."""
    told = {"use_dictionary": False, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}, "write_statistics": False}
    return parquet({"x": values, "label": [0] * len(values)}, **told, **options)


LENGTHS = b"\x80\x01\x04\x64"  # of 100 values: in blocks of 128 and 4 parts; the first and the least difference follow


def _lengths(which: int, told: bytes) -> bytes:
    """A page of 100 values "ab" whose lengths begin otherwise: 0, what each shares with the value before; 1, the rest."""
    data = _differences(["ab"] * 100, compression="none")
    place = data.index(LENGTHS)
    place = data.index(LENGTHS, place + 1) if which else place
    return data[:place] + told + data[place + len(told) :]


BROKEN = "corrupt_file"
FOOTERS = [
    Case("a footer of 4 GiB", "parquet", _length(2**32 - 1), BROKEN, "footer"),
    Case("a footer of no bytes", "parquet", _length(0), BROKEN, "footer"),
    Case("a footer that begins too late", "parquet", _length(7), BROKEN),
    Case("a footer of 17 MiB", "parquet", lambda: _footer(bytes(17 * MIB)), "unsafe_file", "footer", seed=False),
    Case("a footer of a million structs, each in the other", "parquet", lambda: _footer(b"\x1c" * 1_000_000), BROKEN, "deep", seed=False),
    Case("a footer of a list of 2**62 structs", "parquet", lambda: _footer(b"\x49\xfc" + varint(2**62)), BROKEN),
    Case("a footer of a list of 2**40 flags", "parquet", lambda: _footer(b"\x59\xf1" + varint(2**40)), BROKEN),
    Case("a footer of a list of 2**40 lists of nothing", "parquet", lambda: _footer(b"\x59\xf9" + varint(2**40) + b"\x09" * 100_000), BROKEN, seed=False),
    Case("a footer of a map of 2**60", "parquet", lambda: _footer(b"\x5b" + varint(2**60) + b"\x11"), BROKEN),
    Case("a footer of text of 2**60 bytes", "parquet", lambda: _footer(b"\x68" + varint(2**60)), BROKEN),
    Case("a footer of numbers without end", "parquet", lambda: _footer(b"\x16" + b"\xff" * 1000), BROKEN),
    Case("a footer of noise", "parquet", lambda: _footer(bytes(range(256)) * 20), BROKEN),
    Case("a footer of nothing", "parquet", lambda: _footer(b"\0"), BROKEN),
    Case("an encrypted footer", "parquet", lambda: good.GOOD["parquet"][:-4] + b"PARE", BROKEN),
    Case("no end", "parquet", lambda: good.GOOD["parquet"][:-20], BROKEN),
    Case("the start alone", "parquet", lambda: b"PAR1", BROKEN),
    Case("another start", "parquet", lambda: b"PAR1PAR1", BROKEN),
    Case("a chunk of 2**62 bytes", "parquet", lambda: _chunk(2**62, 2**62, 1), BROKEN, "promises"),
    Case("a chunk of 2**62 bytes unpacked", "parquet", lambda: _chunk(2**62, 10, 1), "unsafe_file|corrupt_file"),
    Case("a chunk of fewer bytes than none", "parquet", lambda: _chunk(-1, -1, 1), BROKEN),
    Case("a chunk with 2**61 rows", "parquet", lambda: _chunk(8, 8, 2**61), BROKEN),
    Case("a chunk with fewer rows than none", "parquet", lambda: _chunk(8, 8, -5), BROKEN),
    Case("a chunk with a billion rows, in 20 bytes", "parquet", lambda: _chunk(20, 20, 10**9), BROKEN),
    Case("100,000 row groups of nothing", "parquet", lambda: _chunk(0, 0, 0, 100_000), "corrupt_file|shape_mismatch|missing_array|unsafe_file", heavy=True, seed=False),
    Case("packed by LZO", "parquet", lambda: _with_footer(lambda footer: footer.replace(b"\x15\x02\x16", b"\x15\x06\x16")), "unsupported_dtype", "write_table"),
    Case("the rows in another file", "parquet", lambda: _with_footer(lambda footer: footer.replace(b"\x19\x3c\x26", b"\x19\x3c\x18\x0b/etc/passwd\x16", 1)), BROKEN),
]  # fmt: skip
SHAPES = [
    Case("a hundred thousand columns", "parquet", lambda: _wide(100_000), "shape_mismatch|unsafe_file", heavy=True, seed=False),
    Case("10,001 columns", "parquet", lambda: _wide(10_001), "shape_mismatch", "10002", heavy=True, seed=False),
    Case("lists 40 deep", "parquet", lambda: _deep(40), "shape_mismatch|corrupt_file", "x", CHOSEN),
    Case("lists 500 deep", "parquet", lambda: _deep(500), "shape_mismatch|corrupt_file", "", CHOSEN),
    Case("structs 200 deep", "parquet", lambda: _structs(200), "unsupported_dtype|corrupt_file", "", CHOSEN),
    Case("a list of a million in one row", "parquet", lambda: parquet({"x": [np.zeros(1_000_000)], "label": [0]}), READY, "", CHOSEN, seed=False),
    Case("a list of 40 million in one row", "parquet", lambda: parquet({"x": [np.zeros(40_000_000, np.int8)], "label": [0]}, compression="none"), "unsafe_file", "memory", CHOSEN, heavy=True, seed=False),
    Case("lists that differ in length", "parquet", lambda: parquet({"x": [[1.5], [1.5, 2.5]], "label": [0, 1]}), "shape_mismatch", "x", CHOSEN),
    Case("lists with gaps", "parquet", lambda: parquet({"x": [[1.5, None], [1.5, 2.5]], "label": [0, 1]}), "shape_mismatch", "x", CHOSEN),
    Case("lists of nothing", "parquet", lambda: parquet({"x": pa.array([[], []], pa.list_(pa.float32())), "label": [0, 1]}), "shape_mismatch|missing_array", "", CHOSEN),
    Case("lists of text", "parquet", _typed(pa.list_(pa.string()), ["a"]), "shape_mismatch", "x", CHOSEN),
    Case("a list that fills up to a million", "parquet", lambda: parquet({"x": [[1], [2, 3]], "label": [0, 1]}), READY, "", {**CHOSEN, "max_length": 1_000_000, "padding_id": 0}),
    Case("a list that fills up to 4 TB", "parquet", lambda: parquet({"x": [[1]] * 500_000, "label": np.zeros(500_000, np.int8)}), "dataset_too_large", "times those of the file", {**CHOSEN, "max_length": 1_000_000, "padding_id": 0}, seed=False),
    Case("two columns of one name", "parquet", lambda: parquet(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array([0])], names=["a", "a", "label"])), "unknown_array|corrupt_file", "a"),
    Case("columns without names", "parquet", lambda: parquet({"": [1.0], "label": [0]}), "invalid_name"),
    Case("a name with an escape", "parquet", lambda: parquet({"\x1b[2J": [1.0], "label": [0]}), "invalid_name"),
    Case("a name of 100,000 characters", "parquet", lambda: parquet({"x" * 100_000: [1.0], "label": [0]}), "invalid_name", seed=False),
    Case("no columns", "parquet", lambda: parquet({}), "missing_array|corrupt_file"),
    Case("no rows", "parquet", lambda: parquet({"x": pa.array([], pa.float32()), "label": pa.array([], pa.int64())}), "shape_mismatch|missing_array"),
    Case("10,000 row groups", "parquet", lambda: _groups(10_000), READY, seed=False, heavy=True),
    Case("257 categories", "parquet", lambda: parquet({"x": [str(i) for i in range(257)], "label": [0] * 257}), "too_many_values|tokenizer_required", "x"),
    Case("names of labels with an escape", "parquet", lambda: _huggingface({"label": {"_type": "ClassLabel", "names": ["\x1b[2J", "b", "c"]}}), "invalid_name", "label"),
    Case("names of labels that are no list", "parquet", lambda: _huggingface({"label": {"_type": "ClassLabel", "names": {"a": 1}}}), READY),
    Case("features that are a list", "parquet", lambda: _huggingface([1, 2]), READY),
    Case("metadata a hundred thousand deep", "parquet", lambda: parquet(pa.table(TABLE).replace_schema_metadata({"huggingface": '{"info":' * 100_000})), READY, seed=False),
    Case("a schema of the library's that is noise", "parquet", lambda: _arrow_schema(bytes(range(256))), "ready|corrupt_file"),
    Case("a schema of the library's that is a pickle", "parquet", lambda: _arrow_schema(b"gASVEAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg=="), "ready|corrupt_file"),
]  # fmt: skip
VALUES = [
    Case("a page of 2**31 - 1 bytes", "parquet", lambda: _page_size(2**31 - 1), BROKEN),
    Case("a page of fewer bytes than none", "parquet", lambda: _page_size(-1), BROKEN),
    Case("a page of 8 bytes", "parquet", lambda: _page_size(8), BROKEN),
    *(Case(f"a page that {codec} cannot unpack", "parquet", partial(_packed_page, codec), BROKEN) for codec in ("snappy", "gzip", "zstd", "brotli", "lz4")),
    Case("20 million rows of one number", "parquet", lambda: parquet({"x": np.zeros(20_000_000), "label": np.zeros(20_000_000, np.int8)}, use_dictionary=False, compression="zstd"), "unsafe_file", "bomb", heavy=True, seed=False),
    Case("20 million rows of one number, in a dictionary", "parquet", lambda: parquet({"x": np.zeros(20_000_000), "label": np.zeros(20_000_000, np.int8)}), "ready|unsafe_file", heavy=True, seed=False),
    Case("a text of 1 MiB in 3,000 rows, in a dictionary", "parquet", lambda: _dictionary("x" * MIB, 3000), "unsafe_file", "", {"columns": {"inputs": ["x"]}}, seed=False),
    Case("an image of 1 MiB in 3,000 rows, in a dictionary", "parquet", lambda: _dictionary(good.PNG + bytes(MIB), 3000), "unsafe_file", "bomb", CHOSEN, seed=False),
    Case("a text of 100 MiB", "parquet", lambda: _same("x" * (100 * MIB), 1, compression="none"), "unsafe_file|invalid_name|too_many_values|tokenizer_required", "", CHOSEN, heavy=True, seed=False),
    Case("a text of 100 kB in 3,000 rows, by its differences", "parquet", lambda: _differences(["x" * 100_000] * 3000), "unsafe_file", "bomb", {"columns": {"inputs": ["x"]}}, seed=False),
    Case("a text of 1 MiB in 800 rows, by its differences", "parquet", lambda: _differences(["x" * MIB] * 800), "unsafe_file", "memory", {"columns": {"inputs": ["x"]}}, seed=False),
    *(
        Case(f"text by its differences: {name}", "parquet", partial(_lengths, which, told), BROKEN, "", {"columns": {"inputs": ["x"]}})
        for name, which, told in (
            ("more shared than there is", 0, LENGTHS + zigzag(20)),
            ("less than nothing shared", 0, LENGTHS + zigzag(-20)),
            ("2**31 - 1 characters shared", 0, LENGTHS + zigzag(2**31 - 1)),
            ("2**40 more shared from row to row", 0, LENGTHS + zigzag(0) + zigzag(2**40)),
            ("2**62 values in a block", 0, varint(2**62)),
            ("no parts of a block", 0, LENGTHS[:2] + b"\0"),
            ("2**31 - 1 characters left", 1, LENGTHS + zigzag(2**31 - 1)),
            ("fewer characters than none left", 1, LENGTHS + zigzag(-(2**31))),
            ("2**60 characters left from row to row", 1, LENGTHS + zigzag(2) + zigzag(2**60)),
            ("differences of 255 bits", 1, LENGTHS + zigzag(2) + zigzag(0) + b"\xff" * 4),
        )
    ),
    *(Case(f"text by its differences: 2**31 - 1 of list {which}", "parquet", partial(_lengths, which, LENGTHS[:3] + varint(2**31 - 1)), "unsafe_file", "memory", {"columns": {"inputs": ["x"]}}) for which in (0, 1)),
    Case("text by its differences that should be plain", "parquet", lambda: _differences(["ab"] * 100).replace(b"\x25\x06\x0e", b"\x25\x06\x00"), "unsupported_dtype", "DeltaByteArray", {"columns": {"inputs": ["x"]}}),
    Case("text that is no UTF-8", "parquet", _bad_text, BROKEN),
    Case("NaN alone", "parquet", _typed(pa.float64(), float("nan")), "missing_array", "x", CHOSEN),
    Case("infinity", "parquet", _typed(pa.float64(), float("inf")), "non_finite", "/x/0", CHOSEN),
    Case("numbers beyond float32", "parquet", _typed(pa.float64(), 1e300), "out_of_range", "/x/0", CHOSEN),
    Case("nothing at all", "parquet", _typed(pa.null(), None), "missing_array", "x", CHOSEN),
    Case("times", "parquet", _typed(pa.timestamp("us"), 0), "unsupported_dtype", "x", CHOSEN),
    Case("decimals of 76 digits", "parquet", _typed(pa.decimal256(76, 0), 10**75), "out_of_range|unsupported_dtype|corrupt_file", "", CHOSEN),
    Case("bytes that are no image", "parquet", _typed(pa.binary(), b"hello"), BROKEN, "image", CHOSEN),
    Case("maps", "parquet", _typed(pa.map_(pa.string(), pa.int64()), [("a", 1)]), "unsupported_dtype|shape_mismatch", "x", CHOSEN),
    Case("halves beyond any", "parquet", _typed(pa.float16(), np.float16("inf")), "non_finite", "/x/0", CHOSEN),
    Case("labels that are infinite", "parquet", lambda: parquet({"x": [1.0, 2.0], "label": [float("inf"), 0.0]}), "non_finite", "/targets/0"),
    Case("a label that is missing", "parquet", lambda: parquet({"x": [1.0, 2.0], "label": [0, None]}), "missing_value", "/label/1"),
    Case("ids twice", "parquet", lambda: parquet({"x": [1.0, 2.0], "label": [0, 1], "id": ["a", "a"]}), "invalid_ids", "id"),
]  # fmt: skip
CASES = [*FOOTERS, *SHAPES, *VALUES]

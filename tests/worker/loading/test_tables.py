"""Tables: parquet, csv and JSON lines become the same arrays, and say how."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.loading.archives import colour, picture
from tests.worker.loading.files import Load, Refuse, canonical
from tests.worker.loading.tables import CENSUS, csv, jsonl, parquet, shown
from worker.loading import Asked
from worker.loading.roles import roles
from worker.loading.table import MOST_COLUMNS, Table

COLUMNS: dict[str, list[Any]] = {
    "x": [1.5, 2.0, -3.25],
    "colour": ["red", "blue", "red"],
    "label": ["cat", "ant", "cat"],
    "id": ["a", "b", "c"],
}
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]
FILES = {"parquet": parquet(COLUMNS), "csv": csv(COLUMNS), "jsonl": jsonl(ROWS)}


@pytest.mark.parametrize("kind", FILES)
def test_the_same_rows_become_the_same_arrays(load: Load, out: Path, kind: str) -> None:
    info = load(FILES[kind], kind)
    np.testing.assert_array_equal(canonical(out), np.array([[1.5, 0, 1], [2, 1, 0], [-3.25, 0, 1]], "f4"))
    assert canonical(out, "targets").tolist() == [1, 0, 1]
    assert canonical(out, "ids").tolist() == ["a", "b", "c"]
    assert info.encoding is not None
    assert info.encoding["classes"] == ["ant", "cat"]
    assert (info.num_classes, info.class_counts, info.has_ids) == (2, [1, 2], True)
    assert info.encoding["columns"] == {"inputs": ["x", "colour"], "targets": "label", "id": "id"}
    rows = [json.loads(row) for row in shown(out, 3)]
    assert [row["colour"] for row in rows] == COLUMNS["colour"]
    assert [float(row["x"]) for row in rows] == COLUMNS["x"]


def test_missing_values_become_the_mean_and_are_marked(load: Load, out: Path) -> None:
    info = load(CENSUS.encode(), "csv", columns={"targets": "income"})
    assert info.encoding is not None
    age, job, hours = info.encoding["inputs"]["features"]
    assert (age["missing"], age["indicator"], age["at"]) == (1, True, [0, 2])
    assert age["mean"] == pytest.approx(47) and age["std"] == pytest.approx(np.std([39, 50, 52]))
    assert job["values"] == ["Private", "State-gov"] and job["at"] == [2, 5]
    assert (hours["missing"], hours["indicator"]) == (0, False)
    want = [[39, 0, 0, 1, 0, 40], [50, 0, 1, 0, 0, 13], [47, 1, 1, 0, 0, 40], [52, 0, 0, 0, 1, 45]]
    np.testing.assert_array_equal(canonical(out), np.array(want, "f4"))
    assert info.encoding["classes"] == ["<=50K", ">50K"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_nothing_is_missing_in_a_typed_file_but_null_and_nan(load: Load, out: Path, kind: str) -> None:
    columns = {"x": [1.0, None, 3.0], "word": ["?", None, "NA"], "y": [0, 1, 0]}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    info = load(parquet(columns) if kind == "parquet" else jsonl(rows), kind)
    assert info.encoding is not None
    x, word = info.encoding["inputs"]["features"]
    assert (x["missing"], word["missing"], word["values"]) == (1, 1, ["?", "NA"])
    assert canonical(out).tolist() == [[1, 0, 1, 0, 0], [2, 1, 0, 0, 1], [3, 0, 0, 1, 0]]


def test_a_key_that_appears_on_a_late_line_is_a_column_as_well(load: Load, out: Path) -> None:
    """The others lack it; columns stand in the order in which lines first name them."""
    rows: list[dict[str, object]] = [{"b": i, "label": i % 2} for i in range(5000)]
    rows[4711] = {"word": "late", "a": 0.5, "label": 1, "b": 7}
    info = load(jsonl(rows), "jsonl")
    assert info.encoding is not None
    assert info.encoding["columns"] == {"inputs": ["b", "word", "a"], "targets": "label", "id": None}
    word, a = info.encoding["inputs"]["features"][1:]
    assert (word["values"], word["missing"], a["mean"], a["missing"]) == (["late"], 4999, 0.5, 4999)
    x = canonical(out)
    assert x.shape == (5000, 5) and x[4711].tolist() == [7, 1, 0, 0.5, 0]
    assert x[0].tolist() == [0, 0, 1, 0.5, 1]


def test_a_target_that_only_some_lines_have_is_refused(refuse: Refuse) -> None:
    rows: list[dict[str, Any]] = [{"x": 1.5}, {"x": 2.5, "label": 1}]
    assert "sample(s) 0" in refuse(jsonl(rows), "missing_value", "jsonl").detail


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_text_of_a_parquet_file_in_any_encoding(load: Load, out: Path, encoding: str, version: str) -> None:
    """Text, labels and ids; a column of another encoding beside them stays in its dictionary."""
    words = ["straight", "straighter", "strange", "straight"] * 2000
    columns = {"x": words, "y": words, "label": words, "id": [f"row {i:05}" for i in range(len(words))]}
    told = dict.fromkeys(("x", "label", "id"), encoding)
    kept = {"use_dictionary": ["y"], "column_encoding": told, "data_page_version": version}
    info = load(parquet(columns, row_group_size=3000, **kept))
    assert info.encoding is not None and info.encoding["classes"] == sorted(set(words))
    assert canonical(out, "targets").tolist() == [sorted(set(words)).index(word) for word in words]
    assert canonical(out, "ids").tolist() == columns["id"]
    assert (canonical(out)[:, :3] == canonical(out)[:, 3:]).all()


def test_images_of_a_parquet_file_encoded_by_differences(load: Load, out: Path) -> None:
    pixels = [colour(), colour()]
    files = [{"bytes": picture(one), "path": "x.png"} for one in pixels]
    encodings = {"image.bytes": "DELTA_BYTE_ARRAY", "image.path": "DELTA_LENGTH_BYTE_ARRAY"}
    load(parquet({"image": files, "label": [0, 1]}, use_dictionary=False, column_encoding=encodings))
    np.testing.assert_array_equal(canonical(out), np.stack(pixels))


def test_a_query_set_like_its_training_set_has_the_same_mapping(load: Load, out: Path) -> None:
    train = load(CENSUS.encode(), "csv", columns={"targets": "income"})
    assert train.encoding is not None
    query = b"hours,age,income,job\n?,20,>50K,Farmer\n10,?,>50K,State-gov\n"
    info = load(query, "csv", like=train.encoding)
    assert info.encoding is not None
    # columns by name, the training set's mean of hours without an indicator, an unknown job all zeros
    want = [[20, 0, 0, 0, 0, 34.5], [47, 1, 0, 1, 0, 10]]
    np.testing.assert_array_equal(canonical(out), np.array(want, "f4"))
    assert canonical(out, "targets").tolist() == [1, 1]
    assert (info.num_classes, info.encoding["classes"]) == (2, ["<=50K", ">50K"])
    assert info.class_counts == [0, 2]
    _, job, hours = info.encoding["inputs"]["features"]
    assert (job["unseen"], hours["missing"], hours["indicator"]) == (1, 1, False)


def test_a_query_set_that_is_unlike_is_refused_in_words(load: Load, refuse: Refuse, out: Path) -> None:
    train = load(CENSUS.encode(), "csv", columns={"targets": "income"})
    for file in out.iterdir():
        file.unlink()
    like = {"like": train.encoding}
    words = refuse(b"age,job,hours,income\n1,Private,2,rich\n", "unknown_label", "csv", **like).detail
    assert "rich" in words and "<=50K" in words and "sample(s) 0" in words
    assert "no column 'job'" in refuse(b"age,hours,income\n1,2,>50K\n", "missing_array", "csv", **like).detail
    words = refuse(b"age,job,hours,income\n1,a,2,>50K\nold,a,2,>50K\n", "unlike", "csv", **like).detail
    assert "age" in words and "sample(s) 1" in words


@pytest.mark.parametrize(
    ("values", "kept", "dtype", "classes"),
    [
        (["0", "1", "2"], [0, 1, 2], "int64", None),
        (["0.5", "1", "2"], [0.5, 1, 2], "float32", None),
        (["10", "9", "x"], [0, 1, 2], "int64", ["10", "9", "x"]),
        (["b", "a", "b"], [1, 0, 1], "int64", ["a", "b"]),
    ],
)
def test_targets_of_a_csv(
    load: Load, out: Path, values: list[str], kept: list[float], dtype: str, classes: list[str] | None
) -> None:
    info = load(csv({"x": [1, 2, 3], "label": values}), "csv")
    assert canonical(out, "targets").tolist() == kept
    assert info.target.dtype == dtype
    assert info.encoding is not None and info.encoding["classes"] == classes


def test_names_of_classes_that_the_datasets_library_wrote(load: Load, out: Path) -> None:
    features: dict[str, Any] = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"x": [1.0, 2.0], "label": [1, 1]}).replace_schema_metadata(metadata)
    info = load(parquet(table))
    assert info.encoding is not None and info.encoding["classes"] == ["neg", "pos"]
    assert (info.num_classes, info.class_counts) == (2, [0, 2])
    # a file that numbers the same names otherwise agrees by name
    features["label"]["names"] = ["pos", "neg"]
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    other = pa.table({"x": [1.0], "label": [0]}).replace_schema_metadata(metadata)
    load(parquet(other), like=info.encoding)
    assert canonical(out, "targets").tolist() == [1]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_of_arrays(load: Load, out: Path, kind: str) -> None:
    x = np.arange(24, dtype=float).reshape(3, 2, 4).tolist()
    file = parquet({"x": x, "y": [0, 1, 0]}) if kind == "parquet" else jsonl(
        [{"x": one, "y": y} for one, y in zip(x, (0, 1, 0), strict=True)]
    )  # fmt: skip
    info = load(file, kind)
    assert info.input.shape == [2, 4] and info.input.dtype == "float32"
    np.testing.assert_array_equal(canonical(out), np.array(x, "f4"))


def test_pixels_in_a_column_of_lists_stay_bytes(load: Load, out: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    column = pa.array(pixels.tolist(), pa.list_(pa.list_(pa.uint8())))
    info = load(parquet({"image": column, "label": [0, 1, 2]}))
    assert (info.input.kind, info.input.shape, info.input.dtype) == ("image", [5, 4, 1], "uint8")
    np.testing.assert_array_equal(canonical(out)[..., 0], pixels)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_token_ids_of_any_length_are_padded(load: Load, refuse: Refuse, out: Path, kind: str) -> None:
    tokens, y = [[5, 6], [7], [8, 9, 10]], [0, 1, 1]
    rows = [{"ids_of_tokens": one, "label": label} for one, label in zip(tokens, y, strict=True)]
    file = parquet({"ids_of_tokens": tokens, "label": y}) if kind == "parquet" else jsonl(rows)
    assert "padding_id" in refuse(file, "padding_required", kind).detail
    info = load(file, kind, padding_id=1)
    assert canonical(out).tolist() == [[5, 6, 1], [7, 1, 1], [8, 9, 10]]
    assert info.encoding is not None
    assert info.encoding["inputs"] == {"kind": "tokens", "max_length": 3, "padding_id": 1, "truncated": 0}
    cut = load(file, kind, padding_id=0, max_length=2)
    assert canonical(out).tolist() == [[5, 6], [7, 0], [8, 9]]
    assert cut.encoding is not None and cut.encoding["inputs"]["truncated"] == 1
    load(jsonl([{"ids_of_tokens": [3], "label": 0}]), "jsonl", like=cut.encoding)
    assert canonical(out).tolist() == [[3, 0]]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_lists_of_token_ids_alone_are_their_own_targets(
    load: Load, refuse: Refuse, out: Path, kind: str
) -> None:
    tokens = [[5, 6], [7], [8, 9, 10]]
    file = parquet({"tokens": tokens}) if kind == "parquet" else jsonl([{"tokens": one} for one in tokens])
    info = load(file, kind, padding_id=0)
    assert info.target.taken_from == "inputs" and info.target.shape == info.input.shape == [3]
    assert canonical(out).tolist() == [[5, 6, 0], [7, 0, 0], [8, 9, 10]]
    assert canonical(out, "targets").tolist() == [[5, 6, -100], [7, -100, -100], [8, 9, 10]]
    load(jsonl([{"id": "a", "tokens": [3]}]), "jsonl", like=info.encoding)
    assert canonical(out, "targets").tolist() == [[3, -100, -100]]
    load(file, kind, padding_id=0, max_length=2)
    assert canonical(out, "targets").tolist() == [[5, 6], [7, -100], [8, 9]]
    refused = refuse(jsonl([{"pixels": [0.5, 1.5]}]), "missing_array", "jsonl")
    assert "no lists of token ids" in refused.detail


def test_several_targets_are_a_column_of_lists(load: Load, out: Path) -> None:
    load(jsonl([{"x": 1, "y": [0.5, 1]}, {"x": 2, "y": [2, 3.5]}]), "jsonl")
    assert canonical(out, "targets").tolist() == [[0.5, 1], [2, 3.5]]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_as_others_write_it(load: Load, out: Path, separator: str) -> None:
    lines = ['"x"', '"label, or; name"'], ["1e3", '"two, words"'], ["-2", '"say ""so"""']
    data = "\r\n".join(separator.join(line) for line in lines)
    info = load(b"\xef\xbb\xbf" + data.encode(), "csv", columns={"targets": "label, or; name"})
    assert canonical(out).tolist() == [[1000], [-2]]
    assert info.encoding is not None and info.encoding["classes"] == ['say "so"', "two, words"]


def test_a_csv_without_a_header_is_given_names(load: Load, out: Path) -> None:
    load(b"1,2,a\n3,4,b\n", "csv", columns={"names": ["u", "v", "w"], "targets": "w"})
    assert canonical(out).tolist() == [[1, 2], [3, 4]]


NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
WORDS = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=5)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NUMBERS, WORDS, st.integers(-5, 5)), min_size=1, max_size=20))
def test_whatever_the_rows_their_values_come_through(load: Load, out: Path, rows: list[Any]) -> None:
    numbers, words, labels = zip(*rows, strict=True)
    if all(one is None for one in numbers):
        numbers = (0.0, *numbers[1:])
    if all(one is None for one in words):
        words = ("a", *words[1:])
    table = {
        "n": pa.array(numbers, pa.float64()),
        "w": pa.array(words, pa.string()),
        "label": pa.array(labels, pa.int64()),
    }
    info = load(parquet(table))
    assert info.encoding is not None
    number, word = info.encoding["inputs"]["features"]
    x, there = canonical(out), [one for one in numbers if one is not None]
    want = np.array([np.mean(there) if one is None else one for one in numbers], "f4")
    np.testing.assert_allclose(x[:, 0], want, rtol=1e-6, atol=1e-6)
    assert number["indicator"] == (None in numbers)
    first, last = word["at"]
    for row, value in zip(x[:, first:last], words, strict=True):
        hot = np.flatnonzero(row).tolist()
        assert hot == [len(word["values"]) if value is None else word["values"].index(value)]
    assert canonical(out, "targets").tolist() == list(labels)


def test_roles_of_ten_thousand_columns_take_no_time() -> None:
    """Looking for each column among all of them took seconds."""
    table = Table((*tuple(f"c{i}" for i in range(MOST_COLUMNS - 1)), "label"), lambda columns: iter(()))
    started = time.process_time()
    chosen = roles(table, Asked())
    assert time.process_time() - started < 0.3
    assert len(chosen.inputs) == MOST_COLUMNS - 1 and chosen.targets == "label"


def test_wide_rows_are_read_as_they_are(load: Load, out: Path) -> None:
    """Some thousand columns: a block of the file holds few rows, and several are taken together."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 1000)).astype(np.float32)
    columns = {f"c{i}": values[:, i].tolist() for i in range(1000)}
    info = load(csv({**columns, "label": [f"l{i % 2}" for i in range(300)]}), "csv")
    assert (info.num_samples, info.input.shape) == (300, [1000])
    np.testing.assert_array_equal(canonical(out), values)
    assert canonical(out, "targets").tolist() == [0, 1] * 150

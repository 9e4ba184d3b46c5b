"""The files of an export, read back by the libraries that people read them with."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.scores import ScoreOut
from app.store.spreadsheets import harmless
from worker.export import WRITERS
from worker.exporting.scores import KINDS
from worker.exporting.table import Batch, Column, Table

COLUMNS = tuple(Column(name, kind) for name, kind in KINDS.items())
EMPTY = ("standard_error", "self_influence")
BATCHES = (2, 3)


def row(index: int, **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "sample_index": index,
        "sample_id": f"sample {index}",
        "score": -0.1 * index,
        "rank": index + 1,
        "percentile": 100.0 / 3,
        "standard_error": None,
        "self_influence": None,
        "suspicion": 0.5,
        "label": index % 2,
        "label_name": "cat",
        "predicted_label": None if index == 3 else 1,
        "predicted_label_name": "dög, or so",
        "loss": 1e-300,
        "agrees": None if index == 3 else index % 2 == 1,
    }
    return plain | changes


ROWS = [row(i) for i in range(4)] + [row(4, loss=float("nan"), sample_id="x" * 40, label_name=None)]
INFLUENCES = ((np.arange(15).reshape(5, 3) - 7) / 3).astype(np.float32)


def table(queries: list[int] | None = None) -> Table:
    def batches() -> Iterator[Batch]:
        start = 0
        for count in BATCHES:
            where = slice(start, start + count)
            yield Batch(ROWS[where], None if queries is None else INFLUENCES[where])
            start += count

    asked = None if queries is None else np.array(queries)
    return Table(COLUMNS, batches, len(ROWS), asked, {"job_id": "job_1"})


def written(kind: str, folder: Path, queries: list[int] | None = None) -> Path:
    path = folder / f"scores.{kind}"
    assert tuple(WRITERS[kind](table(queries), path)) == BATCHES
    assert list(folder.iterdir()) == [path]
    return path


def test_the_columns_are_those_of_the_api() -> None:
    assert list(KINDS) == list(ScoreOut.model_fields)


def test_jsonl_holds_the_rows_as_the_api_has_them(tmp_path: Path) -> None:
    found = [json.loads(line) for line in written("jsonl", tmp_path).read_text().splitlines()]
    assert found == [*ROWS[:4], ROWS[4] | {"loss": None}]


def test_csv_holds_every_digit_and_nothing_for_what_is_missing(tmp_path: Path) -> None:
    with written("csv", tmp_path).open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [float(one["score"]) for one in found] == [one["score"] for one in ROWS]
    assert [one["predicted_label"] for one in found] == ["1", "1", "1", "", "1"]
    assert [one["agrees"] for one in found] == ["false", "true", "false", "", "false"]
    assert found[4]["loss"] == found[4]["label_name"] == found[0]["self_influence"] == ""
    assert found[0]["predicted_label_name"] == "dög, or so"


def test_parquet_has_types_and_nulls(tmp_path: Path) -> None:
    found = pq.read_table(written("parquet", tmp_path))
    assert found.to_pylist() == [*ROWS[:4], ROWS[4] | {"loss": None}]
    assert [str(found.schema.field(name).type) for name in ("rank", "label", "score", "agrees")] == [
        "int64",
        "int64",
        "double",
        "bool",
    ]
    assert found.schema.metadata[b"job_id"] == b"job_1"


def test_npz_has_arrays_that_need_no_pickle(tmp_path: Path) -> None:
    with np.load(written("npz", tmp_path), allow_pickle=False) as found:
        assert sorted(found) == sorted(name for name in KINDS if name not in EMPTY)
        assert found["score"].tolist() == [one["score"] for one in ROWS]
        assert found["label"].dtype == np.int64 and found["predicted_label"].dtype == np.float64
        np.testing.assert_array_equal(found["predicted_label"], [1, 1, 1, np.nan, 1])
        assert found["agrees"].tolist() == [0, 1, 0, -1, 0]
        assert found["sample_id"].tolist() == [one["sample_id"] for one in ROWS]
        assert found["label_name"].tolist() == ["cat"] * 4 + [""]


def test_influences_come_along_in_every_format(tmp_path: Path) -> None:
    queries = [7, 3, 11]
    for kind in WRITERS:
        (tmp_path / kind).mkdir()
    with np.load(written("npz", tmp_path / "npz", queries)) as found:
        np.testing.assert_array_equal(found["influences"], INFLUENCES)
        assert found["query_index"].tolist() == queries
    parquet = pq.read_table(written("parquet", tmp_path / "parquet", queries))
    np.testing.assert_array_equal(np.array(parquet["influences"].to_pylist(), np.float32), INFLUENCES)
    lines = written("jsonl", tmp_path / "jsonl", queries).read_text().splitlines()
    found = np.array([json.loads(line)["influences"] for line in lines], np.float32)
    np.testing.assert_array_equal(found, INFLUENCES)
    with written("csv", tmp_path / "csv", queries).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = np.array([[one[f"influence_{query}"] for query in queries] for one in rows], np.float32)
    np.testing.assert_array_equal(found, INFLUENCES)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_rows_are_the_same_bytes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "again").mkdir()
    first = written(kind, tmp_path / "again", [1, 2, 3]).read_bytes()
    (tmp_path / "again" / f"scores.{kind}").unlink()
    assert written(kind, tmp_path / "again", [1, 2, 3]).read_bytes() == first


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "'=1", "\n-"]
)
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "cat", "1-2", "a=b", "it's", " cat", None])
def test_other_texts_stay_as_they_are(text: str | None) -> None:
    assert harmless(text) == text


@given(st.text())
def test_taking_off_the_apostrophe_gives_back_every_text(text: str) -> None:
    cell = harmless(text)
    assert cell is not None
    assert cell.removeprefix("'") == text
    assert cell.lstrip()[:1] not in tuple("=+-@")

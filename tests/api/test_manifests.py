"""A selection as index lists, and as the ids that its samples have."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from app.api.selections.manifest import written
from app.store import chosen
from app.store.rows import Rows
from app.store.tables import Job, Selection

SELECTION = Selection(id="sel_1", type="clean", num_samples=4)
JOB = Job(id="job_1", train_dataset_id="ds_1")
ROWS = chosen.rows(
    np.array([2, 1], np.uint8),
    {"sample_index": [2, 1], "score": [1.0, 2.0], "suggested_label": [9.0, np.nan]},
)


@pytest.fixture
def ids(tmp_path: Path) -> Rows:
    np.save(path := tmp_path / "ids.npy", np.array(["a,b", "c", "=1+1", "-1"]))
    return Rows(path)


def test_ids_come_in_the_order_of_the_indices(ids: Rows) -> None:
    told = json.loads(written(SELECTION, JOB, ROWS, ids, "json"))
    assert (told["keep"], told["keep_ids"]) == ([0, 3], ["a,b", "-1"])
    assert (told["remove"], told["remove_ids"]) == ([1], ["c"])
    assert told["relabel"] == [{"sample_index": 2, "sample_id": "=1+1", "label": 9}]


def test_the_csv_has_them_as_cells_that_no_spreadsheet_runs(ids: Rows) -> None:
    table = written(SELECTION, JOB, ROWS, ids, "csv").decode()
    assert list(csv.reader(io.StringIO(table))) == [
        ["sample_index", "action", "label", "sample_id"],
        ["0", "keep", "", "a,b"],
        ["1", "remove", "", "c"],
        ["2", "relabel", "9", "'=1+1"],
        ["3", "keep", "", "'-1"],
    ]


def test_without_ids_nothing_is_said_of_them() -> None:
    told = json.loads(written(SELECTION, JOB, ROWS, None, "json"))
    assert told["keep_ids"] is told["remove_ids"] is told["relabel"][0]["sample_id"] is None
    assert written(SELECTION, JOB, ROWS, None, "csv") == (
        b"sample_index,action,label\n0,keep,\n1,remove,\n2,relabel,9\n3,keep,\n"
    )

"""Exports of the running service: every format says what the API says of every row."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from diffin import Diffin
from tests import walk
from tests.services import Service
from tests.shapes import BOTH

N, QUERIES = 120, [4, 0, 9]
Rows = list[dict[str, Any]]


@pytest.fixture(params=BOTH, scope="module")
def service(request: pytest.FixtureRequest) -> Service:
    service: Service = request.getfixturevalue(request.param)
    return service


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with service.client() as http:
        yield http


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Diffin]:
    with Diffin(service.url, service.key) as client:
        yield client


@pytest.fixture(scope="module")
def inputs(http: httpx.Client) -> dict[str, str]:
    x, y = walk.digits(N)
    ids = np.array([f"=cmd|{i}" if i % 3 else f"plain {i}" for i in range(N)])
    return {
        "trajectory_id": walk.run(http, (10, 20)),
        "train_dataset_id": walk.dataset(http, walk.npz(inputs=x, targets=y, ids=ids))["id"],
        "query_dataset_id": walk.dataset(http, walk.npz(inputs=x[:20], targets=y[:20]))["id"],
    }


def job(http: httpx.Client, inputs: dict[str, str], **method: Any) -> str:
    body = {"type": "influence", "query": {"indices": QUERIES}, "method": {"name": "tracin"} | method}
    posted = walk.ok(http.post("/v1/jobs", json=body | inputs), 202)
    done = walk.finished(http, posted["id"])
    assert done["status"] == "succeeded", done["error"]
    found: str = done["id"]
    return found


@pytest.fixture(scope="module")
def plain(http: httpx.Client, inputs: dict[str, str]) -> str:
    return job(http, inputs)


def test_every_format_holds_the_rows_of_the_api(
    http: httpx.Client, client: Diffin, plain: str, tmp_path: Path
) -> None:
    rows = walk.scores(http, plain)
    lines = client.download_scores(plain, tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert pq.read_table(client.download_scores(plain, tmp_path / "a.parquet")).to_pylist() == rows
    with client.download_scores(plain, tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert all(not one["sample_id"].startswith("=") for one in table)
    assert [one["sample_id"].removeprefix("'") for one in table] == [row["sample_id"] for row in rows]
    assert [float(one["score"]) for one in table] == [row["score"] for row in rows]
    with np.load(client.download_scores(plain, tmp_path / "a.npz"), allow_pickle=False) as arrays:
        for name in arrays:
            assert arrays[name].tolist() == [row[name] for row in rows], name
        left_out = rows[0].keys() - set(arrays)
    assert all(row[name] is None for row in rows for name in left_out)


@pytest.mark.parametrize("order", ["harmful", "helpful", "suspicion"])
def test_rows_come_in_the_order_asked_for(
    http: httpx.Client, client: Diffin, plain: str, tmp_path: Path, order: Any
) -> None:
    path = client.download_scores(plain, tmp_path / "a.jsonl", order=order)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert found == walk.scores(http, plain, order)


def test_a_job_by_query_is_exported_with_its_influences(
    http: httpx.Client, client: Diffin, inputs: dict[str, str], tmp_path: Path
) -> None:
    done = job(http, inputs, per_query=True)
    whole = np.load(client.download_influences(done, tmp_path / "whole.npy"))
    with np.load(client.download_scores(done, tmp_path / "a.npz", order="harmful")) as arrays:
        assert arrays["query_index"].tolist() == QUERIES
        np.testing.assert_array_equal(arrays["influences"], whole[arrays["sample_index"]])
        assert arrays["rank"].tolist() == list(range(1, N + 1))
    found = pq.read_table(client.download_scores(done, tmp_path / "a.parquet"))
    np.testing.assert_array_equal(np.array(found["influences"].to_pylist(), np.float32), whole)
    assert json.loads(found.schema.metadata[b"influences.query_index"]) == QUERIES


def test_the_content_is_told_by_its_digest_and_sent_in_parts(
    http: httpx.Client, client: Diffin, plain: str, tmp_path: Path
) -> None:
    export = client.create_export(plain, "csv")
    whole = client.download_export(export, tmp_path / "a.csv").read_bytes()
    body = walk.ok(http.get(f"/v1/exports/{export.id}"), 200)
    assert (body["sha256"], body["bytes"]) == (hashlib.sha256(whole).hexdigest(), len(whole))
    parts = [
        http.get(body["content_url"], headers={"Range": f"bytes={span}"}).content for span in ("0-99", "100-")
    ]
    assert b"".join(parts) == whole
    tag = {"If-None-Match": f'"{body["sha256"]}"'}
    assert http.get(body["content_url"], headers=tag).status_code == 304
    assert export.id in [one.id for one in client.exports(plain)]
    client.delete(export)
    assert http.get(body["content_url"]).status_code == 404


def test_a_selection_is_exported_as_it_was_chosen(
    http: httpx.Client, client: Diffin, plain: str, tmp_path: Path
) -> None:
    selection = client.selected(client.clean(plain, fraction=0.2))
    rows = walk.ok(http.get(f"/v1/selections/{selection.id}/samples?limit=1000"), 200)["data"]
    assert len(rows) == N // 5
    lines = client.download_selection(selection, tmp_path / "s.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert pq.read_table(client.download_selection(selection, tmp_path / "s.parquet")).to_pylist() == rows
    with np.load(client.download_selection(selection, tmp_path / "s.npz"), allow_pickle=False) as arrays:
        assert arrays["sample_index"].tolist() == [row["sample_index"] for row in rows]
        assert arrays["action"].tolist() == [row["action"] for row in rows]
    with client.download_selection(selection, tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [one["sample_id"].removeprefix("'") for one in table] == [row["sample_id"] for row in rows]
    export = next(client.exports(plain))
    assert export.selection_id == selection.id
    client.delete(selection)
    assert http.get(f"/v1/exports/{export.id}").status_code == 404

"""Rows of a table through the whole service: columns, names of labels and ids in every answer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from tests import walk
from tests.services import Service
from tests.worker.loading.archives import colour, picture
from tests.worker.loading.files import zipped
from tests.worker.loading.tables import csv, jsonl, parquet
from tests.worker.loading.test_text import tokenizer
from worker.influence.networks import build

COLUMNS = {"inputs": ["age", "job"], "targets": "income", "id": "person"}
N = 24


def people(n: int, seed: int) -> dict[str, list[Any]]:
    draw = np.random.default_rng(seed)
    ages = draw.integers(18, 80, n).tolist()
    return {
        "person": [f"p{seed}-{i}" for i in range(n)],
        "age": [None if i == 3 else age for i, age in enumerate(ages)],
        "job": [["baker", "clerk", "smith"][i % 3] for i in range(n)],
        "income": ["rich" if age > 45 else "poor" for age in ages],
    }


@pytest.fixture(scope="module")
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client


@pytest.fixture(scope="module")
def train(client: httpx.Client) -> dict[str, Any]:
    found = walk.dataset(client, csv(people(N, 1)), "people.csv", columns=json.dumps(COLUMNS))
    assert found["status"] == "ready", found["error"]
    return found


@pytest.fixture(scope="module")
def trajectory(client: httpx.Client, train: dict[str, Any]) -> str:
    """Scaled by what the data set says of its columns."""
    features = train["features"]
    mean, std = [0.0] * 5, [1.0] * 5
    mean[0], std[0] = features[0]["mean"], features[0]["std"]
    config = {"in_features": 5, "num_classes": 2}
    torch.manual_seed(0)
    state = build("linear", config).state_dict()
    created = walk.trajectory(client, "linear", config, preprocessing={"mean": mean, "std": std})
    assert walk.checkpoint(client, created, save(state), 10)["status"] == "ready"
    return created


def test_a_data_set_says_how_it_was_read(train: dict[str, Any]) -> None:
    assert (train["format"], train["classes"], train["columns"]) == ("csv", ["poor", "rich"], COLUMNS)
    age, job = train["features"]
    assert (age["kind"], age["missing"], age["indicator"], age["at"]) == ("number", 1, True, [0, 2])
    assert (job["values"], job["at"]) == (["baker", "clerk", "smith"], [2, 5])
    assert (train["encoding"], train["input"]["shape"], train["num_classes"]) == ({"kind": "table"}, [5], 2)


def test_a_sample_is_its_row(client: httpx.Client, train: dict[str, Any]) -> None:
    path, rows = f"/v1/datasets/{train['id']}/samples", people(N, 1)
    sample = walk.ok(client.get(f"{path}/3"), 200)
    assert (sample["sample_id"], sample["label_name"]) == ("p1-3", rows["income"][3])
    assert sample["row"] == {"age": "", "job": "baker"}
    assert client.get(f"{path}/3/content").json() == sample["row"]
    rich = walk.ok(client.get(path, params={"label_name": "rich"}), 200)["data"]
    assert [row["index"] for row in rich] == [
        i for i, income in enumerate(rows["income"]) if income == "rich"
    ]
    refused = walk.ok(client.get(path, params={"label_name": "none"}), 422)
    assert refused["code"] == "unknown_label" and "'poor', 'rich'" in refused["detail"]


def test_scores_name_labels_and_samples(client: httpx.Client, train: dict[str, Any], trajectory: str) -> None:
    query = people(9, 2)
    rows = [dict(zip(query, values, strict=True)) for values in zip(*query.values(), strict=True)]
    asked = walk.dataset(client, jsonl(rows), "people.jsonl", like=train["id"])
    assert asked["status"] == "ready", asked["error"]
    assert (asked["classes"], asked["like"]) == (train["classes"], train["id"])
    method = {"name": "tracin", "per_query": True}
    posted = walk.post_job(client, trajectory, train["id"], asked["id"], method=method)
    job = walk.finished(client, walk.ok(posted, 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    rows_ = walk.scores(client, job["id"])
    people_ = people(N, 1)
    assert [row["sample_id"] for row in rows_] == people_["person"]
    assert [row["label_name"] for row in rows_] == people_["income"]
    assert all(row["predicted_label_name"] == train["classes"][row["predicted_label"]] for row in rows_)
    path = f"/v1/jobs/{job['id']}"
    one = walk.ok(client.get(f"{path}/scores/3"), 200)
    assert (one["sample_id"], one["label_name"]) == ("p1-3", people_["income"][3])
    poor = walk.ok(client.get(f"{path}/scores", params={"label_name": "poor"}), 200)["data"]
    assert {row["label_name"] for row in poor} == {"poor"} and len(poor) == people_["income"].count("poor")
    summary = walk.ok(client.get(f"{path}/summary"), 200)
    assert [one["label_name"] for one in summary["by_class"]] == ["poor", "rich"]
    first = walk.ok(client.get(f"{path}/queries/0/influences"), 200)["data"][0]
    assert first["sample_id"] == people_["person"][first["sample_index"]]
    assert first["label_name"] == people_["income"][first["sample_index"]]


def test_a_part_of_the_query_is_told_by_the_names_of_labels(
    client: httpx.Client, train: dict[str, Any], trajectory: str
) -> None:
    data = train["id"]
    incomes = people(N, 1)["income"]
    found = {}
    for labels in (["rich"], [1], ["rich", 0]):
        method = {"name": "tracin", "per_query": True}
        posted = walk.post_job(client, trajectory, data, data, {"labels": labels}, method=method)
        assert walk.ok(posted, 202)["query"] == {"labels": labels}
        job = walk.finished(client, posted.json()["id"])
        assert job["status"] == "succeeded", job["error"]
        found[str(labels)] = [row["score"] for row in walk.scores(client, job["id"])]
        path = f"/v1/jobs/{job['id']}/queries/{incomes.index('poor')}/influences"
        assert client.get(path).status_code == (200 if 0 in labels else 404)
    assert found["['rich']"] == found["[1]"] != found["['rich', 0]"]
    refused = walk.ok(walk.post_job(client, trajectory, data, data, {"labels": ["rich", "1"]}), 422)
    assert refused["code"] == "unknown_label" and "'1'; its labels: 'poor', 'rich'" in refused["detail"]
    assert refused["errors"][0]["pointer"] == "/query/labels"


def test_labels_and_features_that_mean_something_else_are_refused(
    client: httpx.Client, train: dict[str, Any], trajectory: str
) -> None:
    poor = people(6, 3) | {"income": ["poor"] * 6}
    for columns, code in ((poor, "labels_differ"), (people(9, 3) | {"job": ["smith"] * 9}, "shape_mismatch")):
        other = walk.dataset(client, csv(columns), "q.csv", columns=json.dumps(COLUMNS))
        refused = walk.ok(walk.post_job(client, trajectory, train["id"], other["id"]), 422)
        assert refused["code"] == code, refused
    assert f"like={train['id']}" in refused["detail"] or code == "shape_mismatch"


def test_parquet_and_what_is_wrong_with_a_file(client: httpx.Client, train: dict[str, Any]) -> None:
    good = walk.dataset(client, parquet(people(8, 4)), "people.parquet", columns=json.dumps(COLUMNS))
    assert (good["status"], good["num_samples"]) == ("ready", 8)
    bad = walk.dataset(
        client, csv(people(8, 4) | {"income": ["rich"] * 7 + ["new"]}), "q.csv", like=train["id"]
    )
    assert (bad["status"], bad["error"]["code"]) == ("invalid", "unknown_label")
    assert "new" in bad["error"]["detail"]


def test_fields_that_a_format_has_no_use_for_are_refused(client: httpx.Client, train: dict[str, Any]) -> None:
    x, y = walk.digits(8)
    arrays = walk.npz(inputs=x, targets=y)
    for field, value in (("columns", "{}"), ("max_length", "5"), ("like", train["id"])):
        refused = walk.ok(walk.post_dataset(client, arrays, **{field: value}), 422)
        assert refused["errors"][0]["pointer"] == f"/{field}"
    plain = walk.dataset(client, arrays)
    for like, status in ((plain["id"], 422), ("ds_none", 404)):
        assert walk.ok(walk.post_dataset(client, csv(people(3, 0)), "a.csv", like=like), status)
    walk.ok(walk.post_dataset(client, csv(people(3, 0)), "a.csv", columns='{"input": "x"}'), 422)


def test_a_training_set_may_go_before_what_was_read_like_it(client: httpx.Client) -> None:
    first = walk.dataset(client, csv(people(7, 5)), "a.csv", columns=json.dumps(COLUMNS))
    second = walk.dataset(client, csv(people(5, 6)), "b.csv", like=first["id"])
    assert second["status"] == "ready", second["error"]
    walk.ok(client.delete(f"/v1/datasets/{first['id']}"), 204)
    assert walk.ok(client.get(f"/v1/datasets/{second['id']}/samples/0"), 200)["row"]["job"] == "baker"
    walk.ok(client.delete(f"/v1/datasets/{second['id']}"), 204)


def test_images_in_folders_with_names_and_paths(client: httpx.Client) -> None:
    files = {f"{kind}/{i}.png": picture(colour(8, 8)) for kind in ("cat", "dog") for i in range(4)}
    found = walk.dataset(client, zipped(files), "pets.zip")
    assert (found["status"], found["format"], found["classes"]) == ("ready", "imagefolder", ["cat", "dog"])
    path = f"/v1/datasets/{found['id']}/samples/5"
    sample = walk.ok(client.get(path), 200)
    assert (sample["sample_id"], sample["label_name"]) == ("dog/1.png", "dog")
    content = client.get(f"{path}/content")
    assert content.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(
        Image.open(io.BytesIO(content.content)), Image.open(io.BytesIO(files["dog/1.png"]))
    )
    config = {"in_channels": 3, "num_classes": 2, "image_size": [8, 8]}
    created = walk.trajectory(client, "cnn", config)
    torch.manual_seed(0)
    assert walk.checkpoint(client, created, save(build("cnn", config).state_dict()), 10)["status"] == "ready"
    job = walk.ok(walk.post_job(client, created, found["id"], found["id"], method={"name": "tracin"}), 202)
    assert walk.finished(client, job["id"])["status"] == "succeeded"
    assert [row["sample_id"] for row in walk.scores(client, job["id"])] == sorted(files)


def test_text_with_its_tokenizer(client: httpx.Client, tmp_path: Path) -> None:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    rows = [{"text": "a good film", "label": "pos", "id": 7}, {"text": "very bad", "label": "neg", "id": 8}]
    files = {
        "file": ("reviews.jsonl", jsonl(rows)),
        "tokenizer_file": ("tokenizer.json", (tmp_path / "tokenizer.json").read_bytes()),
    }
    fields = {"name": "reviews", "max_length": "6"}
    posted = walk.ok(client.post("/v1/datasets", files=files, data=fields), 202)
    found = walk.until(client, f"/v1/datasets/{posted['id']}", {"ready", "invalid"})
    assert found["status"] == "ready", found["error"]
    assert found["encoding"]["kind"] == "text" and found["input"] == {"shape": [6], "dtype": "int64"}
    path = f"/v1/datasets/{found['id']}/samples/1"
    assert walk.ok(client.get(path), 200) | {"content_url": ""} == {
        "index": 1, "sample_id": "8", "target": 0, "label_name": "neg", "values": [2, 7, 5, 0, 0, 0],
        "text": "very bad", "row": None, "content_url": "",
    }  # fmt: skip
    content = client.get(f"{path}/content")
    assert (content.text, content.headers["content-type"]) == ("very bad", "text/plain; charset=utf-8")
    config = {"vocab_size": 8, "max_length": 6, "num_classes": 2, "d_model": 8, "num_heads": 2,
              "num_layers": 1, "dim_feedforward": 16}  # fmt: skip
    created = walk.trajectory(client, "transformer", config)
    torch.manual_seed(0)
    state = save(build("transformer", config).state_dict())
    assert walk.checkpoint(client, created, state, 10)["status"] == "ready"
    query = walk.dataset(client, jsonl([{"text": "film", "label": "pos"}]), "q.jsonl", like=found["id"])
    assert query["status"] == "ready", query["error"]
    walk.ok(client.delete(f"/v1/datasets/{query['id']}"), 204)
    job = walk.ok(walk.post_job(client, created, found["id"], found["id"], method={"name": "tracin"}), 202)
    assert walk.finished(client, job["id"])["status"] == "succeeded"
    assert {row["sample_id"] for row in walk.scores(client, job["id"])} == {"7", "8"}


def test_a_rows_content_is_the_inputs_columns_with_null_for_keys_it_had_not(client: httpx.Client) -> None:
    lines = [{"age": 30, "income": "poor"}, {"age": 50, "income": "rich", "hours": 40}]
    sent = "\n".join(map(json.dumps, lines)).encode()
    made = walk.dataset(client, sent, "people.jsonl", columns=json.dumps({"targets": "income"}))
    assert made["status"] == "ready", made["error"]
    rows = [client.get(f"/v1/datasets/{made['id']}/samples/{i}/content").json() for i in range(2)]
    assert rows == [{"age": 30, "hours": None}, {"age": 50, "hours": 40}]

"""What was sent, as pages: data sets and runs, looked at, renamed and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.ui.explored import Explored, finished, npz, sent
from tests.ui.forms import post
from tests.ui.test_pages import seen


@pytest.fixture(scope="module")
def http(explored: Explored) -> Iterator[httpx.Client]:
    with explored.signed_in() as http:
        yield http


@pytest.fixture(scope="module")
def api(explored: Explored) -> Iterator[httpx.Client]:
    with explored.service.client() as http:
        yield http


def indices(html: str) -> list[int]:
    return [int(found) for found in re.findall(r'id="sample-(\d+)"', html)]


def test_inputs_tell_state_size_and_use(http: httpx.Client, explored: Explored) -> None:
    page = seen(http, "/inputs")
    assert {f"/datasets/{explored.train}", f"/trajectories/{explored.trajectory}"} <= set(page.links)
    row = re.search(rf"/datasets/{explored.query}.*?</tr>", http.get("/inputs").text, re.S)
    assert row is not None
    cells = re.findall(r'<td class="right">([^<]*)</td>', row[0])
    assert cells[:2] == ["200", "10"]
    with explored.service.client() as api:
        jobs = api.get("/v1/jobs", params={"type": "influence"}).json()["data"]
    assert cells[3] == str(sum(job["query_dataset_id"] == explored.query for job in jobs))


def test_a_refused_file_says_why_in_the_list_and_on_its_page(http: httpx.Client, api: httpx.Client) -> None:
    answer = api.post("/v1/datasets", files={"file": ("x.npz", b"no zip")}, data={"name": "broken"})
    refused = finished(api, answer.headers["Location"])
    assert refused["status"] == "invalid"
    why = refused["error"]["detail"].split(".")[0]
    assert why in seen(http, "/inputs").words
    assert why in seen(http, f"/datasets/{refused['id']}").words


def test_a_data_set_shows_its_classes_and_samples(
    http: httpx.Client, api: httpx.Client, explored: Explored
) -> None:
    address = f"/datasets/{explored.train}"
    counts = api.get(f"/v1{address}").json()["class_counts"]
    page = http.get(address).text
    assert [int(found) for found in re.findall(r'class="count figures">(\d+)<', page)] == counts
    assert indices(page) == list(range(48))
    assert indices(http.get(f"{address}?page=2").text) == list(range(48, 96))
    assert indices(http.get(f"{address}?at=500").text)[0] == 480
    assert indices(http.get(f"{address}?page=99").text)[-1] == 599


def test_samples_of_one_class_are_those_of_the_api(
    http: httpx.Client, api: httpx.Client, explored: Explored
) -> None:
    rows = api.get(f"/v1/datasets/{explored.train}/samples", params={"label": 7, "limit": 1000}).json()
    expected = [row["index"] for row in rows["data"]]
    address = f"/datasets/{explored.train}?label=7"
    pages = -(-len(expected) // 48)
    found = [one for page in range(1, pages + 1) for one in indices(http.get(f"{address}&page={page}").text)]
    assert found == expected
    from_there = indices(http.get(f"{address}&at={expected[-1]}").text)
    assert expected[-1] in from_there
    assert indices(http.get(f"/datasets/{explored.train}?label=77").text) == []


@pytest.mark.parametrize("query", ["label=x", "label=", "at=-5", "at=9999999", "label=3&at=", "label=-1"])
def test_odd_filters_are_no_errors(http: httpx.Client, explored: Explored, query: str) -> None:
    seen(http, f"/datasets/{explored.train}?{query}")


def test_a_table_is_shown_by_its_rows(http: httpx.Client, api: httpx.Client, explored: Explored) -> None:
    people = api.get(f"/v1/jobs/{explored.table}").json()["train_dataset_id"]
    assert "Oslo" in seen(http, f"/datasets/{people}").words


def test_a_run_shows_what_was_trained_and_what_came_of_it(
    http: httpx.Client, api: httpx.Client, explored: Explored
) -> None:
    page = seen(http, f"/trajectories/{explored.trajectory}")
    for one in api.get(f"/v1/trajectories/{explored.trajectory}").json()["checkpoints"]:
        assert one["filename"] in page.words
    assert "momentum 0.9" in page.words
    assert {f"/jobs/{explored.job}", f"/jobs/{explored.by_query}"} <= set(page.links)
    [again] = [link for link in page.links if link.startswith("/jobs/new?")]
    assert f"trajectory_id={explored.trajectory}" in again
    assert f"train_dataset_id={explored.train}" in again


def test_a_refused_checkpoint_says_why_in_its_row(http: httpx.Client, api: httpx.Client) -> None:
    told: dict[str, Any] = {"name": "refused", "task": {"type": "classification", "loss": "cross_entropy"}}
    told["architecture"] = {"name": "linear", "config": {"in_features": 4, "num_classes": 2}}
    run = api.post("/v1/trajectories", json=told).json()["id"]
    answer = api.post(
        f"/v1/trajectories/{run}/checkpoints",
        files={"file": ("7.safetensors", b"nothing")},
        data={"step": "7", "learning_rate": "0.1"},
    )
    refused = finished(api, answer.headers["Location"])
    assert refused["error"]["detail"].split(".")[0] in seen(http, f"/trajectories/{run}").words
    assert "1 refused" in seen(http, "/inputs").words
    assert post(http, f"/trajectories/{run}/delete").headers["Location"] == "/inputs"
    assert api.get(f"/v1/trajectories/{run}").status_code == 404


def test_a_refused_network_says_why_in_the_list_and_on_its_page(
    http: httpx.Client, api: httpx.Client
) -> None:
    told: dict[str, Any] = {"name": "no graph", "architecture": {"name": "onnx"}}
    told |= {"task": {"type": "classification", "loss": "cross_entropy"}}
    files = {"architecture_file": ("n.onnx", b"no graph at all")}
    made = api.post("/v1/trajectories", data={"trajectory": json.dumps(told)}, files=files).json()
    refused = finished(api, f"/v1/trajectories/{made['id']}")
    assert refused["status"] == "invalid"
    row = re.search(rf"/trajectories/{made['id']}.*?</tr>", http.get("/inputs").text, re.S)
    assert row is not None and "refused" in row[0]
    page = seen(http, f"/trajectories/{made['id']}").words
    assert "architecture file was refused" in page and refused["error"]["code"] in page
    assert post(http, f"/trajectories/{made['id']}/delete").status_code == 303


def test_what_is_unused_is_renamed_and_deleted(http: httpx.Client, api: httpx.Client) -> None:
    content = npz(inputs=np.zeros((4, 3), np.float32), targets=np.arange(4))
    address = f"/datasets/{sent(api, 'spare.npz', content)}"
    assert post(http, f"{address}/rename", address, name="<b>spare</b>").status_code == 303
    page = http.get(address).text
    assert "&lt;b&gt;spare&lt;/b&gt;" in page
    assert "<b>spare" not in page
    assert post(http, f"{address}/rename", name="").status_code == 422
    assert post(http, f"{address}/delete").status_code == 303
    assert http.get(address).status_code == 404


def test_what_a_job_uses_is_not_deleted(http: httpx.Client, explored: Explored) -> None:
    for address in (f"/datasets/{explored.train}", f"/trajectories/{explored.trajectory}"):
        assert "used by" in seen(http, address).words
        answer = post(http, f"{address}/delete")
        assert answer.status_code == 409
        assert "delete the job first" in answer.text
        assert http.get(address).status_code == 200


def test_writes_want_the_token_and_pages_a_session(http: httpx.Client, explored: Explored) -> None:
    address = f"/datasets/{explored.train}"
    forged = http.post(f"{address}/rename", data={"name": "x"}, headers={"Origin": explored.url})
    assert forged.status_code == 403
    with httpx.Client(base_url=explored.url) as nobody:
        for path in ("/inputs", address, f"/trajectories/{explored.trajectory}", "/jobs/new"):
            assert nobody.get(path).headers["Location"].startswith("/sign-in")
    assert http.get("/datasets/ds_none").status_code == 404
    assert http.get("/trajectories/tr_none").status_code == 404

"""Decisions over HTTP: written, taken back, refused, listed, downloaded, made a selection of."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest

from app.store.db import Database
from app.store.tables import Dataset, Selection
from tests.api.front_end import N, Service, pages, pointers, problem, request_of, scored

COLUMNS = scored(2) | {"sample_id": np.array([f"s-{i}" for i in range(N)])}


@pytest.fixture
def path(service: Service, inputs: dict[str, str]) -> str:
    """Where one decides about a job that succeeded; its labels have names."""
    job = service.http.post("/v1/jobs", json=request_of(inputs)).json()
    service.succeed(job["id"], COLUMNS)
    with service.database.transaction() as session:
        train = session.get_one(Dataset, inputs["train_dataset_id"])
        train.info = {**train.info, "encoding": {"classes": ["ant", "bee", "cow"]}}
    return f"/v1/jobs/{job['id']}/decisions"


def put(service: Service, path: str, *told: dict[str, Any], **headers: Any) -> dict[str, int]:
    answer = service.http.put(path, json={"decisions": told}, **headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()
    return found


def test_decisions_are_written_replaced_and_taken_back(service: Service, path: str) -> None:
    first = put(
        service,
        path,
        {"sample_index": 4, "action": "remove"},
        {"sample_index": 2, "action": "relabel", "label": 1},
        {"sample_index": 7, "action": "relabel", "label_name": "cow"},
        {"sample_index": 0, "action": "keep"},
    )
    assert first == {"keep": 1, "remove": 1, "relabel": 2}
    again = put(service, path, {"sample_index": 4, "action": None}, {"sample_index": 2, "action": "keep"})
    assert again == {"keep": 2, "remove": 0, "relabel": 1}
    rows = pages(service.http, path, limit=2)
    assert [(row["sample_index"], row["action"], row["label"]) for row in rows] == [
        (0, "keep", None),
        (2, "keep", None),
        (7, "relabel", 2),
    ]
    assert (rows[2]["label_name"], rows[2]["sample_id"]) == ("cow", "s-7")
    assert [row["sample_index"] for row in pages(service.http, path, action="relabel")] == [7]


def test_each_key_sees_its_own_or_everyones(service: Service, path: str) -> None:
    other = service.make_key(f"another of {service.project_id}", "read", "write")
    put(service, path, {"sample_index": 1, "action": "remove"})
    put(service, path, {"sample_index": 1, "action": "keep"}, headers=other)
    assert [row["action"] for row in pages(service.http, path)] == ["remove"]
    everyone = pages(service.http, path, everyone=True, limit=1)
    assert sorted(row["action"] for row in everyone) == ["keep", "remove"]
    assert {row["key_name"] for row in everyone} == {
        service.project_id,
        f"another of {service.project_id}",
    }
    cursor = service.http.get(path, params={"everyone": True, "limit": 1}).json()["next_cursor"]
    problem(service.http.get(path, params={"limit": 1, "cursor": cursor}), 400, "invalid_cursor")
    stranger = service.make_key(f"a stranger to {service.project_id}", "admin", project_id="elsewhere")
    problem(service.http.get(path, headers=stranger), 404, "not_found")
    reader = service.make_key(f"a reader of {service.project_id}", "read")
    body = {"decisions": [{"sample_index": 1, "action": "keep"}]}
    problem(service.http.put(path, json=body, headers=reader), 403, "forbidden")


@pytest.mark.parametrize(
    ("told", "code", "pointer"),
    [
        ([{"sample_index": N, "action": "keep"}], "index_out_of_range", "/decisions/0/sample_index"),
        ([{"sample_index": 0, "action": "relabel", "label": 3}], "unknown_label", "/decisions/0/label"),
        (
            [{"sample_index": 0, "action": "relabel", "label_name": "dog"}],
            "unknown_label",
            "/decisions/0/label_name",
        ),
        ([{"sample_index": 0, "action": "relabel"}], "validation_error", "/decisions/0"),
        (
            [{"sample_index": 0, "action": "relabel", "label": 1, "label_name": "ant"}],
            "validation_error",
            "/decisions/0",
        ),
        ([{"sample_index": 0, "action": "remove", "label": 1}], "validation_error", "/decisions/0"),
        ([{"sample_index": 0}], "validation_error", "/decisions/0/action"),
        ([{"sample_index": 0, "action": "burn"}], "validation_error", "/decisions/0/action"),
        ([{"sample_index": "0", "action": "keep"}], "validation_error", "/decisions/0/sample_index"),
        ([{"sample_index": 0, "action": "keep"}] * 2, "validation_error", ""),
        ([], "validation_error", "/decisions"),
        (
            [{"sample_index": at, "action": None} for at in range(1001)],
            "validation_error",
            "/decisions",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_as_a_whole(
    service: Service, path: str, told: list[dict[str, Any]], code: str, pointer: str
) -> None:
    body = {"decisions": [*told, {"sample_index": 11, "action": "remove"}] if 0 < len(told) < 3 else told}
    assert pointers(problem(service.http.put(path, json=body), 422, code)) == [pointer]
    assert pages(service.http, path) == []


def test_numbers_are_no_classes_to_choose_another_of(service: Service, inputs: dict[str, str]) -> None:
    run = service.trajectory(
        architecture={"name": "mlp", "config": {"in_features": 4, "hidden": [8], "num_classes": 1}},
        task={"type": "regression", "loss": "mse"},
    )["id"]
    service.accept(service.checkpoint(run, 10)["id"])
    targets = np.linspace(0, 1, N, dtype=np.float32)
    sets = {}
    for role in ("train", "query"):
        sets[f"{role}_dataset_id"] = service.upload(name=role, targets=targets)["id"]
        service.validate(sets[f"{role}_dataset_id"], targets=targets)
    job = service.http.post("/v1/jobs", json=request_of(sets, trajectory_id=run)).json()
    service.succeed(job["id"], scored(1))
    body = {"decisions": [{"sample_index": 0, "action": "relabel", "label": 1}]}
    path = f"/v1/jobs/{job['id']}/decisions"
    found = problem(service.http.put(path, json=body), 422, "no_classes")
    assert pointers(found) == ["/decisions/0/action"]
    assert put(service, path, {"sample_index": 0, "action": "remove"})["remove"] == 1


def test_they_wait_for_the_jobs_success(service: Service, job: dict[str, Any]) -> None:
    body = {"decisions": [{"sample_index": 0, "action": "keep"}]}
    problem(service.http.put(f"/v1/jobs/{job['id']}/decisions", json=body), 409, "job_not_finished")
    problem(service.http.put("/v1/jobs/job_0/decisions", json=body), 404, "not_found")


def test_they_are_downloaded_as_json_and_as_csv(service: Service, path: str) -> None:
    empty = service.http.get(f"{path}/content")
    assert empty.json()["decisions"] == []
    put(
        service,
        path,
        {"sample_index": 2, "action": "relabel", "label": 1},
        {"sample_index": 0, "action": "keep"},
    )
    told = service.http.get(f"{path}/content")
    assert told.json()["decisions"] == pages(service.http, path)
    assert "attachment" in told.headers["content-disposition"]
    table = service.http.get(f"{path}/content", params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["sample_index"], row["action"], row["label"], row["label_name"]) for row in rows] == [
        ("0", "keep", "", ""),
        ("2", "relabel", "1", "bee"),
    ]


def test_no_spreadsheet_runs_what_the_csv_holds(service: Service, inputs: dict[str, str]) -> None:
    job = service.http.post("/v1/jobs", json=request_of(inputs)).json()
    service.succeed(job["id"], COLUMNS | {"sample_id": np.array(["=cmd|x!A1"] * N)})
    path = f"/v1/jobs/{job['id']}/decisions"
    put(service, path, {"sample_index": 2, "action": "keep"})
    table = service.http.get(f"{path}/content", params={"format": "csv"}).text
    assert next(csv.DictReader(io.StringIO(table)))["sample_id"] == "'=cmd|x!A1"


def test_a_selection_takes_them_as_they_are_then(service: Service, path: str) -> None:
    selections, body = path.replace("decisions", "selections"), {"type": "decided"}
    problem(service.http.post(selections, json=body), 409, "nothing_decided")
    put(
        service,
        path,
        {"sample_index": 4, "action": "remove"},
        {"sample_index": 2, "action": "relabel", "label": 1},
        {"sample_index": 0, "action": "keep"},
    )
    made = service.http.post(selections, json=body | {"name": "by hand"})
    assert made.status_code == 201, made.text
    found = made.json()
    assert (found["type"], found["size"], found["request"]) == ("decided", 2, {"verify": False})
    put(service, path, {"sample_index": 5, "action": "remove"}, {"sample_index": 4, "action": None})
    assert asked(service.database, found["id"]) == {"removed": [4], "relabelled": [[2, 1.0]]}
    put(service, path, *({"sample_index": at, "action": "remove"} for at in range(N)))
    problem(service.http.post(selections, json=body), 422, "nothing_left")


def asked(database: Database, selection_id: str) -> dict[str, Any]:
    with database.snapshot() as session:
        request = session.get_one(Selection, selection_id).request
        return {name: request[name] for name in ("removed", "relabelled")}

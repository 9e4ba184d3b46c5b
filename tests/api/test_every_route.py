"""Every route of the API against whoever has no business there: without a key, with a revoked one, with one
that may not write, or read, and with the ids of another project.

A route that has no row in `ROWS` fails the first test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from app.store import keys
from app.store.db import new_id
from app.store.tables import ApiKey
from tests.api.front_end import Service, bearer, problem, request_of

OPEN = {"GET /livez", "GET /readyz", "GET /metrics"}  # need no key
OPERATIONS = ("get", "post", "patch", "put", "delete")
PREFIXES = {
    "upload_id": "up",
    "dataset_id": "ds",
    "trajectory_id": "tr",
    "checkpoint_id": "ck",
    "job_id": "job",
    "selection_id": "sel",
    "export_id": "exp",
    "key_id": "key",
    "endpoint_id": "wh",
    "delivery_id": "del",
}
PLACES = {"number": "1", "index": "0", "sample_index": "0", "query_index": "0"}


class Row(NamedTuple):
    """A request that the owner of the ids may make; `<name>` in the body or the query is an id.

    Args:
        body: JSON; bytes are sent as a part, a tuple as a form with a file and these fields.
        admin: whether it wants the scope `admin`.
    """

    body: Any = None
    query: str = ""
    admin: bool = False


PLAIN = Row()
EDIT = Row({"name": "renamed"})
JOB = {
    "type": "influence",
    "method": {"name": "tracin"},
    "trajectory_id": "<trajectory_id>",
    "train_dataset_id": "<dataset_id>",
    "query_dataset_id": "<dataset_id>",
}
NETWORK = {"name": "linear", "config": {"in_features": 4, "num_classes": 3}}
TASK = {"type": "classification", "loss": "cross_entropy"}

HOOK = "https://hooks.example.com/diffin"
RECIPE = {"schedule": {"name": "constant", "learning_rate": 0.1}, "batch_size": 5, "epochs": 2}

ROWS: dict[str, Row] = {
    "GET /v1/capabilities": PLAIN,
    "GET /v1/methods": PLAIN,
    "GET /v1/architectures": PLAIN,
    # uploads
    "POST /v1/uploads": Row({"filename": "a.npz", "bytes": 4}),
    "GET /v1/uploads": PLAIN,
    "GET /v1/uploads/{upload_id}": PLAIN,
    "PATCH /v1/uploads/{upload_id}": EDIT,
    "PUT /v1/uploads/{upload_id}/parts/{number}": Row(b"four"),
    "POST /v1/uploads/{upload_id}/complete": PLAIN,
    "DELETE /v1/uploads/{upload_id}": PLAIN,
    # data sets
    "POST /v1/datasets": Row({"name": "a", "upload_id": "<upload_id>"}),
    "GET /v1/datasets": PLAIN,
    "GET /v1/datasets/{dataset_id}": PLAIN,
    "PATCH /v1/datasets/{dataset_id}": EDIT,
    "GET /v1/datasets/{dataset_id}/samples": PLAIN,
    "GET /v1/datasets/{dataset_id}/samples/{index}": PLAIN,
    "GET /v1/datasets/{dataset_id}/samples/{index}/content": PLAIN,
    "DELETE /v1/datasets/{dataset_id}": PLAIN,
    # runs
    "POST /v1/trajectories": Row(
        {"name": "a", "architecture": {"onnx_upload_id": "<upload_id>"}, "task": TASK}
    ),
    "GET /v1/trajectories": PLAIN,
    "GET /v1/trajectories/{trajectory_id}": PLAIN,
    "PATCH /v1/trajectories/{trajectory_id}": EDIT,
    "POST /v1/trajectories/{trajectory_id}/checkpoints": Row(("file", {"step": "70", "learning_rate": "1"})),
    "GET /v1/trajectories/{trajectory_id}/checkpoints/{checkpoint_id}": PLAIN,
    "PATCH /v1/trajectories/{trajectory_id}/checkpoints/{checkpoint_id}": EDIT,
    "DELETE /v1/trajectories/{trajectory_id}/checkpoints/{checkpoint_id}": PLAIN,
    "PUT /v1/trajectories/{trajectory_id}/batch-order": Row(("file", {})),
    "DELETE /v1/trajectories/{trajectory_id}/batch-order": PLAIN,
    "DELETE /v1/trajectories/{trajectory_id}": PLAIN,
    # jobs
    "POST /v1/jobs": Row(JOB),
    "POST /v1/jobs/estimate": Row(JOB),
    "GET /v1/jobs": PLAIN,
    "GET /v1/jobs/{job_id}": PLAIN,
    "PATCH /v1/jobs/{job_id}": EDIT,
    "POST /v1/jobs/{job_id}/cancel": PLAIN,
    "GET /v1/jobs/{job_id}/events": PLAIN,
    "GET /v1/jobs/{job_id}/scores": PLAIN,
    "GET /v1/jobs/{job_id}/scores/{sample_index}": PLAIN,
    "GET /v1/jobs/{job_id}/summary": PLAIN,
    "GET /v1/jobs/{job_id}/queries/{query_index}/influences": PLAIN,
    "GET /v1/jobs/{job_id}/influences/content": PLAIN,
    "GET /v1/jobs/{job_id}/compare": Row(query="with=<job_id>"),
    "GET /v1/jobs/{job_id}/evaluation": PLAIN,
    "PUT /v1/jobs/{job_id}/decisions": Row({"decisions": [{"sample_index": 0, "action": "keep"}]}),
    "GET /v1/jobs/{job_id}/decisions": PLAIN,
    "GET /v1/jobs/{job_id}/decisions/content": Row(query="format=csv"),
    "DELETE /v1/jobs/{job_id}": PLAIN,
    # results
    "POST /v1/exports": Row({"job_id": "<job_id>", "format": "csv"}),
    "GET /v1/exports": PLAIN,
    "GET /v1/exports/{export_id}": PLAIN,
    "PATCH /v1/exports/{export_id}": EDIT,
    "GET /v1/exports/{export_id}/content": PLAIN,
    "DELETE /v1/exports/{export_id}": PLAIN,
    "POST /v1/jobs/{job_id}/selections": Row({"type": "coreset", "size": 2}),
    "GET /v1/selections": PLAIN,
    "GET /v1/selections/{selection_id}": PLAIN,
    "PATCH /v1/selections/{selection_id}": EDIT,
    "GET /v1/selections/{selection_id}/samples": PLAIN,
    "GET /v1/selections/{selection_id}/checkpoint": PLAIN,
    "GET /v1/selections/{selection_id}/manifest": PLAIN,
    "DELETE /v1/selections/{selection_id}": PLAIN,
    # webhooks
    "POST /v1/webhook-endpoints": Row({"url": HOOK}),
    "GET /v1/webhook-endpoints": PLAIN,
    "GET /v1/webhook-endpoints/{endpoint_id}": PLAIN,
    "PATCH /v1/webhook-endpoints/{endpoint_id}": EDIT,
    "POST /v1/webhook-endpoints/{endpoint_id}/rotate-secret": Row({}),
    "POST /v1/webhook-endpoints/{endpoint_id}/replay": Row({"since": "2026-01-01T00:00:00Z"}),
    "GET /v1/webhook-deliveries": PLAIN,
    "GET /v1/webhook-deliveries/{delivery_id}": PLAIN,
    "POST /v1/webhook-deliveries/{delivery_id}/redeliver": PLAIN,
    "DELETE /v1/webhook-endpoints/{endpoint_id}": PLAIN,
    # operations
    "GET /v1/audit-events": Row(admin=True),
    # keys
    "POST /v1/api-keys": Row({"name": "a", "scopes": ["read"]}, admin=True),
    "GET /v1/api-keys": Row(admin=True),
    "GET /v1/api-keys/{key_id}": Row(admin=True),
    "PATCH /v1/api-keys/{key_id}": Row({"name": "renamed"}, admin=True),
    "POST /v1/api-keys/{key_id}/rotate": Row({"overlap_seconds": 0}, admin=True),
    "DELETE /v1/api-keys/{key_id}": Row(admin=True),
}

# The same ids where they stand elsewhere than in `ROWS`: in another field, or behind a parent of one's own.
ELSEWHERE: list[tuple[str, Row]] = [
    (
        "POST /v1/datasets",
        Row({"name": "a", "upload_id": "<mine:upload_id>", "format": "csv", "like": "<dataset_id>"}),
    ),
    ("POST /v1/jobs", Row(JOB | {"trajectory_id": "<mine:trajectory_id>"})),
    (
        "POST /v1/jobs",
        Row(JOB | {"train_dataset_id": "<mine:dataset_id>", "trajectory_id": "<mine:trajectory_id>"}),
    ),
    (
        "POST /v1/jobs",
        Row(
            {"type": "train", "architecture": NETWORK, "task": TASK, "train_dataset_id": "<dataset_id>"}
            | {"recipe": RECIPE}
        ),
    ),
    ("POST /v1/exports", Row({"selection_id": "<selection_id>", "format": "csv"})),
    (
        "POST /v1/trajectories/<mine:trajectory_id>/checkpoints",
        Row({"upload_id": "<upload_id>", "step": 71, "learning_rate": 0.1}),
    ),
    ("GET /v1/trajectories/<mine:trajectory_id>/checkpoints/{checkpoint_id}", PLAIN),
    ("PATCH /v1/trajectories/<mine:trajectory_id>/checkpoints/{checkpoint_id}", EDIT),
    ("DELETE /v1/trajectories/<mine:trajectory_id>/checkpoints/{checkpoint_id}", PLAIN),
    ("GET /v1/jobs/<mine:job_id>/compare", Row(query="with=<job_id>")),
    ("GET /v1/jobs", Row(query="trajectory_id=<trajectory_id>")),
    ("GET /v1/exports", Row(query="job_id=<job_id>")),
    ("GET /v1/webhook-deliveries", Row(query="endpoint_id=<endpoint_id>")),
    ("GET /v1/selections", Row(query="job_id=<job_id>")),
]

Ids = dict[str, str]


def names(route: str, row: Row) -> set[str]:
    """The resources that the request names."""
    return set(re.findall(r"[{<](\w+)[}>]", f"{route} {row.body} {row.query}")) & set(PREFIXES)


NAMING = [route for route, row in ROWS.items() if names(route, row)]


class Two(NamedTuple):
    """Two projects, each with one of everything, and the keys of the one."""

    mine: Service
    my_ids: Ids
    their: Service
    their_ids: Ids
    reader: dict[str, str]
    writer: dict[str, str]
    worker: dict[str, str]
    revoked: dict[str, str]


def project(app: FastAPI, settings: Settings, http: httpx.Client) -> tuple[Service, Ids]:
    """A project that has one of everything."""
    service = Service(app, settings, http, http.headers["Authorization"].removeprefix("Bearer "))
    service.make_key(service.project_id, "admin")
    endpoint = http.post("/v1/webhook-endpoints", json={"url": HOOK}).raise_for_status().json()["id"]
    dataset = service.upload()["id"]
    service.validate(dataset)
    trajectory = service.trajectory()["id"]
    checkpoint = service.checkpoint(trajectory, 10)["id"]
    service.accept(checkpoint)
    service.put_order(trajectory)
    sets = {"train_dataset_id": dataset, "query_dataset_id": dataset}
    service.accept_order(trajectory, steps=10, batch=4)
    answer = http.post("/v1/jobs", json=request_of({"trajectory_id": trajectory} | sets))
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    service.succeed(job)

    def made(path: str, **body: Any) -> str:
        answer = http.post(path, json=body)
        assert answer.status_code in (201, 202), answer.text
        found: str = answer.json()["id"]
        return found

    upload = made("/v1/uploads", filename="a.npz", bytes=4)
    http.put(f"/v1/uploads/{upload}/parts/1", content=b"four").raise_for_status()
    http.post(f"/v1/uploads/{upload}/complete").raise_for_status()
    return service, {
        "upload_id": upload,
        "dataset_id": dataset,
        "trajectory_id": trajectory,
        "checkpoint_id": checkpoint,
        "job_id": job,
        "selection_id": made(f"/v1/jobs/{job}/selections", type="coreset", size=3),
        "export_id": made("/v1/exports", job_id=job, format="csv"),
        "key_id": made("/v1/api-keys", name="a", scopes=["read"]),
        "endpoint_id": endpoint,
        "delivery_id": http.get("/v1/webhook-deliveries").json()["data"][0]["id"],
    }


@pytest.fixture(scope="module")
def two(settings: Settings, front_end: tuple[FastAPI, str]) -> Iterator[Two]:
    app, url = front_end
    ids = [new_id("project") for _ in range(2)]
    clients = [httpx.Client(base_url=url, headers=bearer(one), timeout=30) for one in ids]
    (mine, my_ids), (their, their_ids) = (project(app, settings, http) for http in clients)
    limited = {}
    for scopes in (("read",), ("write",), ("read", "write")):
        limited[scopes] = dict(mine.make_key(f"{scopes} {mine.project_id}", *scopes))
    mine.make_key(f"revoked {mine.project_id}", "admin")
    with mine.database.transaction() as session:
        row = keys.find(session, settings.secret, f"revoked {mine.project_id}")
        assert row is not None
        keys.revoke(session, session.get_one(ApiKey, row.id))
    yield Two(
        mine,
        my_ids,
        their,
        their_ids,
        limited["read",],
        limited["write",],
        limited["read", "write"],
        bearer(f"revoked {mine.project_id}"),
    )
    for client in clients:
        client.close()


def ask(
    two: Two, route: str, row: Row, ids: Ids, http: httpx.Client | None = None, **headers: Any
) -> httpx.Response:
    """The request of the row with these ids; `<mine:…>` are those of the one who asks."""
    method, _, path = route.partition(" ")
    own = {f"mine:{name}": value for name, value in two.my_ids.items()}

    def filled(text: str) -> str:
        return re.sub(r"<([\w:]+)>", lambda found: (own | ids)[found[1]], text)

    path = filled(path).format(**ids, **PLACES)
    given: dict[str, Any] = {}
    if isinstance(row.body, bytes):
        given["content"] = row.body
    elif isinstance(row.body, tuple):
        given = {"files": {row.body[0]: ("a", b"bytes")}, "data": row.body[1]}
    elif row.body is not None:
        given["json"] = json.loads(filled(json.dumps(row.body)))
    client = http or two.mine.http
    return client.request(method, path, params=filled(row.query) or None, **given, **headers)


def plain(answer: httpx.Response, ids: Ids) -> tuple[int, Any, list[str]]:
    """An answer without what has to differ: ids, and what names the request itself."""
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    body = json.loads(text)
    for name in ("request_id", "instance"):
        body.pop(name, None)
    told = sorted(set(answer.headers) - {"date", "x-request-id"})
    return answer.status_code, body, [f"{name}: {answer.headers[name]}" for name in told]


def absent() -> Ids:
    return {name: new_id(prefix) for name, prefix in PREFIXES.items()}


def is_write(route: str) -> bool:
    return not route.startswith("GET ")


def test_every_route_has_a_row(two: Two) -> None:
    paths = two.mine.app.openapi()["paths"]
    found = {f"{m.upper()} {path}" for path, methods in paths.items() for m in methods if m in OPERATIONS}
    assert found - OPEN == ROWS.keys()


@pytest.mark.parametrize("route", ROWS)
def test_nobody_comes_in_without_a_live_key(two: Two, route: str) -> None:
    with httpx.Client(base_url=two.mine.url) as nobody:
        answer = ask(two, route, ROWS[route], two.my_ids, nobody)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    problem(ask(two, route, ROWS[route], two.my_ids, headers=two.revoked), 401, "unauthorized")


@pytest.mark.parametrize("route", ROWS)
def test_a_key_does_no_more_than_its_scopes_say(two: Two, route: str) -> None:
    row = ROWS[route]
    other = two.reader if is_write(route) else two.writer
    problem(ask(two, route, row, two.my_ids, headers=other), 403, "forbidden")
    if row.admin:
        problem(ask(two, route, row, two.my_ids, headers=two.worker), 403, "forbidden")


@pytest.mark.parametrize("route", NAMING)
def test_another_projects_ids_are_as_those_of_nothing(two: Two, route: str) -> None:
    alike(two, route, ROWS[route], 404)


@pytest.mark.parametrize(("route", "row"), ELSEWHERE, ids=map(str, range(len(ELSEWHERE))))
def test_so_they_are_wherever_else_they_stand(two: Two, route: str, row: Row) -> None:
    alike(two, route, row, 200 if row.query and "<mine" not in route else 404)


def alike(two: Two, route: str, row: Row, status: int) -> None:
    nothing = absent()
    theirs = ask(two, route, row, two.their_ids)
    assert theirs.status_code == status, theirs.text
    assert plain(theirs, two.their_ids) == plain(ask(two, route, row, nothing), nothing)


@pytest.mark.parametrize("route", [one for one in NAMING if not one.startswith("DELETE")])
def test_their_owner_is_not_kept_out(two: Two, route: str) -> None:
    """Or else the tests above would pass for any id."""
    row, own = ROWS[route], two.their_ids
    answer = ask(two, route, row, own, two.their.http)
    assert answer.status_code not in (401, 403), answer.text
    if answer.status_code == 404:  # what the request would read is not there; the resource is
        assert not any(value in answer.json()["detail"] for value in own.values()), answer.text


def test_lists_hold_nothing_of_another_project(two: Two) -> None:
    for route in ROWS:
        method, _, path = route.partition(" ")
        if path == "/v1/audit-events":  # it repeats what one asked about, and whether one got it
            keys_used = {row["key_id"] for row in two.mine.http.get(path).json()["data"]}
            assert keys_used.isdisjoint(row["key_id"] for row in two.their.http.get(path).json()["data"])
        elif method == "GET" and "{" not in path:
            text = two.mine.http.get(path).text
            assert not any(value in text for value in two.their_ids.values()), path
            assert two.their.project_id not in text, path


def test_pages_send_strangers_to_the_sign_in(two: Two) -> None:
    with httpx.Client(base_url=two.mine.url) as nobody:
        for path in ("/", f"/jobs/{two.my_ids['job_id']}", "/live", "/datasets", "/new"):
            answer = nobody.get(path)
            assert answer.status_code in (303, 404), path
            assert two.my_ids["job_id"] not in answer.text

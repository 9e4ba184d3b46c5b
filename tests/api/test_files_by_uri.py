"""Data sets and checkpoints named by `uri`: taken below the operator's prefixes, refused everywhere else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.api.dataset_forms import MOST_TOKENIZER
from app.settings import Quota
from app.store import work
from app.store.tables import Work
from tests.api.front_end import Service, pointers, problem
from tests.api.test_uploads_used import dataset, uploaded
from tests.test_uris import ELSEWHERE, PATHS

URI = "s3://data/sets/a.npz"
HOSTILE = [*ELSEWHERE, *(f"s3://data/sets/{path}" for path in PATHS)]
HOSTILE = [
    uri for uri in HOSTILE if uri and not {"\ud800", "\0"} & set(uri)
]  # those are no text that JSON may hold


def checkpoint(service: Service, **body: Any) -> httpx.Response:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    return service.http.post(path, json={"step": 10, "learning_rate": 0.1} | body)


def units(service: Service, subject: str) -> dict[str, Work]:
    with service.database.snapshot() as session:
        return {one.kind: one for one in work.of(session, subject, work.FETCHED, "validate")}


def test_a_data_set_is_named_where_it_lies(service: Service) -> None:
    answer = dataset(service, uri=URI, notes="n")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/v1/datasets/{body['id']}"
    assert (body["status"], body["format"], body["filename"]) == ("validating", "npz", "a.npz")
    assert (body["uri"], body["bytes"], body["sha256"]) == (URI, None, None)
    assert service.http.get(f"/v1/datasets/{body['id']}").json() == body
    found = units(service, body["id"])
    assert (found["fetch"].status, found["validate"].status) == ("queued", "waiting")
    assert found["fetch"].payload == {"file": {"uri": URI, "most": service.settings.max_resumable_bytes}}
    assert found["fetch"].rung_at is None, "fetching threads look for themselves"
    assert service.http.delete(f"/v1/datasets/{body['id']}").status_code == 204
    assert units(service, body["id"]) == {}


def test_a_checkpoint_is_named_where_it_lies(service: Service) -> None:
    uris = {"uri": "file:///srv/shared/7/10.safetensors", "optimizer_uri": "s3://data/sets/state.safetensors"}
    answer = checkpoint(service, **uris)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["status"], body["filename"], body["step"]) == ("validating", "10.safetensors", 10)
    assert (body["uri"], body["bytes"], body["sha256"]) == (uris["uri"], None, None)
    told = {"filename": "state.safetensors", "bytes": None, "sha256": None, "uri": uris["optimizer_uri"]}
    assert body["optimizer_file"] == told
    assert {role: one["uri"] for role, one in units(service, body["id"])["fetch"].payload.items()} == {
        "file": uris["uri"],
        "optimizer": uris["optimizer_uri"],
    }
    rates = {"uri": uris["uri"], "step": 12, "learning_rate": None, "learning_rates": [0.1, 0.2]}
    assert checkpoint(service, **rates).json()["learning_rates"] == [0.1, 0.2]
    graph = service.http.get(f"/v1/trajectories/{body['trajectory_id']}").json()
    assert graph["checkpoints"] == [body]


def test_a_tokenizer_comes_by_uri_or_by_upload(service: Service) -> None:
    table, words = "https://files.example.com/pub/my%20texts.csv", "s3://data/sets/tokenizer.json"
    body = dataset(service, uri=table, tokenizer_uri=words).json()
    assert (body["filename"], body["format"]) == ("my texts.csv", "csv")
    payload = units(service, body["id"])["fetch"].payload
    assert payload["tokenizer"] == {"uri": words, "most": MOST_TOKENIZER}
    upload_id = uploaded(service, b"{}", "tokenizer.json")
    body = dataset(service, uri=table, tokenizer_upload_id=upload_id).json()
    assert units(service, body["id"])["fetch"].payload.keys() == {"file"}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"uri": URI, "upload_id": "up_1"},
        {"uri": URI, "tokenizer_uri": URI, "tokenizer_upload_id": "up_1"},
        {"upload_id": "up_1", "tokenizer_uri": URI},
    ],
    ids=str,
)
def test_each_file_is_named_once(service: Service, wrong: dict[str, str]) -> None:
    refused = problem(dataset(service, **wrong), 422, "validation_error")
    assert "uri" in refused["detail"]
    renamed = {name.replace("tokenizer", "optimizer"): value for name, value in wrong.items()}
    problem(checkpoint(service, **renamed), 422, "validation_error")


@pytest.mark.parametrize("uri", HOSTILE, ids=ascii)
def test_what_is_nowhere_below_a_prefix_is_refused_with_those_that_are(service: Service, uri: str) -> None:
    refused = problem(dataset(service, uri=uri, format="npz"), 422, "uri_not_allowed")
    assert pointers(refused) == ["/uri"]
    assert "s3://data/sets/" in refused["detail"]
    refused = problem(checkpoint(service, uri=URI, optimizer_uri=uri), 422, "uri_not_allowed")
    assert pointers(refused) == ["/optimizer_uri"]


def test_another_projects_files_are_not_told_from_those_of_nobody(service: Service) -> None:
    assert dataset(service, uri=f"s3://teams/{service.project_id}/a.npz").status_code == 202
    for other in ("somebody", "{project}"):
        refused = problem(dataset(service, uri=f"s3://teams/{other}/a.npz"), 422, "uri_not_allowed")
        assert f"s3://teams/{service.project_id}/" in refused["detail"]


def test_what_may_be_named_is_told(service: Service) -> None:
    told = service.http.get("/v1/capabilities").json()["uri_prefixes"]
    assert "file:///srv/shared/" in told and f"s3://teams/{service.project_id}/" in told


def test_no_pickle_comes_by_uri(service: Service) -> None:
    for ending in (".pt", ".PKL", ".bin"):
        refused = problem(checkpoint(service, uri=f"s3://data/sets/c{ending}"), 422, "unsafe_file")
        assert pointers(refused) == ["/uri"]
    state = checkpoint(service, uri="s3://data/sets/c.safetensors", optimizer_uri="s3://data/sets/o.pt")
    assert pointers(problem(state, 422, "unsafe_file")) == ["/optimizer_uri"]
    hidden = checkpoint(service, uri="https://files.example.com/pub/c%2Ept")
    problem(hidden, 422, "unsafe_file")
    problem(dataset(service, uri="s3://data/sets/d.pt"), 422, "unknown_format")


def test_a_post_sent_again_is_done_once(service: Service) -> None:
    headers = {"Idempotency-Key": "a-data-set-by-uri"}
    body = {"name": "d", "uri": URI}
    one, two = (service.http.post("/v1/datasets", json=body, headers=headers) for _ in range(2))
    assert (one.json(), two.headers["idempotency-replayed"]) == (two.json(), "true")
    other = service.http.post("/v1/datasets", json=body | {"uri": f"{URI}.npz"}, headers=headers)
    problem(other, 422, "idempotency_key_reused")


def test_a_project_with_no_byte_left_has_nothing_fetched(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas = {service.project_id: Quota(bytes=0)}
    monkeypatch.setattr(service.app.state.settings, "project_quotas", quotas)
    problem(dataset(service, uri=URI), 403, "quota_exceeded")
    problem(checkpoint(service, uri="s3://data/sets/c.safetensors"), 403, "quota_exceeded")


def test_a_job_waits_for_what_is_being_fetched(service: Service, inputs: dict[str, str]) -> None:
    coming = dataset(service, uri=URI).json()["id"]
    body = {"type": "influence", "method": {"name": "diff_in"}} | inputs | {"query_dataset_id": coming}
    problem(service.http.post("/v1/jobs", json=body), 409, "input_not_ready")

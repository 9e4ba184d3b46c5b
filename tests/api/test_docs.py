"""The OpenAPI document and its page."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.api.front_end import Service

DOCUMENT = "/v1/openapi.json"
OPERATIONS = ("get", "post", "patch", "put", "delete")


@pytest.fixture(scope="module")
def document(settings: Settings) -> dict[str, Any]:
    return create_app(settings).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in OPERATIONS
    ]


def test_the_document_is_served_without_a_key(service: Service, document: dict[str, Any]) -> None:
    assert httpx.get(f"{service.url}{DOCUMENT}").json() == document


def test_the_page_needs_nothing_from_anywhere_else(service: Service) -> None:
    page = httpx.get(f"{service.url}/docs")
    assert page.status_code == 200
    assert re.findall(r"https?://", page.text) == []
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assets = re.findall(r"/docs/static/[\w.-]+", page.text)
    assert {asset.rpartition(".")[2] for asset in assets} == {"js", "css", "png"}
    for asset in assets:
        assert httpx.get(f"{service.url}{asset}").status_code == 200


def test_the_root_leads_to_the_sign_in(service: Service) -> None:
    assert httpx.get(service.url, follow_redirects=True).url.path == "/sign-in"


def test_every_operation_is_summed_up_and_tells_its_problems(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) > 25
    for name, operation in found:
        assert operation["summary"], name
        if "/v1/" in name:
            assert {"401", "403", "422"} <= operation["responses"].keys(), name
            assert operation["security"], name


def test_every_problem_is_described_as_one(document: dict[str, Any]) -> None:
    assert "Problem" in document["components"]["schemas"]
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))
    assert names <= document["components"]["schemas"].keys()


def test_bodies_and_answers_come_with_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in (
        "TrajectoryIn",
        "InfluenceJobIn",
        "TrainJobIn",
        "InfluenceJobOut",
        "TrainJobOut",
        "DatasetOut",
        "CheckpointOut",
        "ScoreOut",
        "DatasetIn",
        "CheckpointIn",
        "UploadIn",
        "UploadOut",
        "ExportIn",
        "ExportOut",
        "ComparisonOut",
        "CleanIn",
        "CoresetIn",
        "DeletionIn",
        "SelectionOut",
        "SelectedOut",
        "ManifestOut",
        "Problem",
    ):
        assert schemas[name]["examples"], name


def test_whatever_has_an_id_of_its_own_is_renamed(document: dict[str, Any]) -> None:
    paths = document["paths"]
    kept = {path for path, one in paths.items() if "delete" in one and path.endswith("_id}")}
    assert {path for path in kept if "patch" not in paths[path]} == set()
    assert len(kept) == 9  # data sets, runs, checkpoints, jobs, selections, exports, uploads, webhooks, keys


def test_what_is_made_leads_on_to_all_that_can_be_asked_of_it(document: dict[str, Any]) -> None:
    known = {one["operationId"]: name for name, one in operations(document)}

    def leads(path: str, status: str) -> dict[str, dict[str, str]]:
        links = document["paths"][path]["post"]["responses"][status]["links"]
        return {known[link["operationId"]]: link["parameters"] for link in links.values()}

    made = "$response.body#/id"
    checkpoint = leads("/v1/trajectories/{trajectory_id}/checkpoints", "202")
    one = "/v1/trajectories/{trajectory_id}/checkpoints/{checkpoint_id}"
    told = {"trajectory_id": "$request.path.trajectory_id", "checkpoint_id": made}
    assert checkpoint == {f"{method} {one}": told for method in ("GET", "PATCH", "DELETE")}
    selections = leads("/v1/jobs/{job_id}/selections", "201")
    assert selections["GET /v1/selections/{selection_id}/manifest"] == {"selection_id": made}
    jobs = leads("/v1/jobs", "202")
    below = {name for name in known.values() if " /v1/jobs/{job_id}" in name}
    assert jobs.keys() == below
    assert all(parameters == {"job_id": made} for parameters in jobs.values())


def test_whatever_is_made_can_be_walked_to(document: dict[str, Any]) -> None:
    leaderless = [
        name
        for name, operation in operations(document)
        for status, answer in operation["responses"].items()
        if name.startswith("POST") and status in ("201", "202") and "links" not in answer
    ]
    assert leaderless == [
        "POST /v1/jobs/{job_id}/cancel",
        "POST /v1/webhook-endpoints/{endpoint_id}/replay",
        "POST /v1/webhook-deliveries/{delivery_id}/redeliver",
    ]  # they make nothing


def test_uploads_are_described_as_multipart(document: dict[str, Any]) -> None:
    for path in ("/v1/datasets", "/v1/trajectories/{trajectory_id}/checkpoints"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        schema = content["multipart/form-data"]["schema"]
        assert schema["properties"]["file"]["format"] == "binary"
        assert "file" in schema["required"]


def test_references_lead_somewhere_from_multipart_bodies_too(document: dict[str, Any]) -> None:
    assert re.findall(r"#/\$defs/", str(document)) == []


def test_a_method_that_is_not_there_is_answered_with_those_that_are(service: Service) -> None:
    answer = service.http.options("/v1/trajectories")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert service.http.put("/v1/jobs/job_1").headers["allow"] == "DELETE, GET, HEAD, PATCH"
    assert service.http.put("/v1/jobs/estimate").headers["allow"] == "POST"

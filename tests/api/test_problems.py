"""Every error is a problem with a code, a place and words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.api.front_end import KEY, RUN, Service, bearer, listening, pointers, problem, request_of


def test_an_unknown_path_is_a_problem(service: Service) -> None:
    body = problem(service.http.get("/v1/nothing"), 404, "not_found")
    assert body["instance"] == "/v1/nothing"


def test_a_method_that_a_path_lacks_is_a_problem_and_names_those_it_has(service: Service) -> None:
    answer = service.http.delete("/v1/methods")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_body_that_is_no_json_is_a_problem(service: Service) -> None:
    answer = service.http.post("/v1/trajectories", content=b"{", headers={"Content-Type": "application/json"})
    assert "character 1" in problem(answer, 400, "invalid_json")["detail"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe{}", "at character 0"),
        (b'{"name": "\xff"}', "not UTF-8 at byte 10"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"train_size": ' + b"9" * 5000 + b"}", "over 4,300 digits"),
    ],
    ids=["encoding", "bytes", "depth", "digits"],
)
def test_a_body_that_breaks_the_parser_is_a_problem(service: Service, content: bytes, words: str) -> None:
    answer = service.http.post(
        "/v1/trajectories", content=content, headers={"Content-Type": "application/json"}
    )
    assert words in problem(answer, 400, "invalid_json")["detail"]


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"method": {}}, "/method/name", "is required; one of 'diff_in', "),
        ({"method": "diff_in"}, "/method", "should be an object"),
        ({"trajectory_ids": ["tr_1"] * 40}, "/trajectory_ids", "List should have at most 32 items, not 40"),
    ],
)
def test_words_are_those_of_the_api_not_of_its_parser(
    service: Service, inputs: dict[str, str], changes: dict[str, Any], pointer: str, words: str
) -> None:
    body = problem(service.http.post("/v1/jobs", json=request_of(inputs) | changes), 422, "validation_error")
    told = {error["pointer"]: error["detail"] for error in body["errors"]}
    assert told[pointer].startswith(words)


def test_a_body_of_another_media_type_is_a_problem(service: Service) -> None:
    answer = service.http.post("/v1/trajectories", content=b"name: x", headers={"Content-Type": "text/yaml"})
    problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"batch_size": 0}, "/batch_size"),
        ({"batch_size": "64"}, "/batch_size"),
        ({"train_size": 2**63}, "/train_size"),
        ({"colour": "red"}, "/colour"),
        ({"metadata": {"a": 1}}, "/metadata/a"),
        ({"metadata": {"a/b~c": 1}}, "/metadata/a~1b~0c"),
        ({"metadata": {str(i): "" for i in range(17)}}, "/metadata"),
        ({"architecture": {"name": "mlp", "config": {"in_features": 4}}}, "/architecture/config/num_classes"),
        (
            {
                "architecture": {
                    "name": "mlp",
                    "config": {"in_features": 4, "num_classes": 3, "hidden": [8, "x"]},
                }
            },
            "/architecture/config/hidden/1",
        ),
        ({"architecture": {"name": "mlp", "config": {"colour": 1}}}, "/architecture/config/colour"),
        ({"task": {"type": "classification", "loss": "mse"}}, "/task"),
        ({"optimizer": {"name": "sgd", "betas": [0.9, 0.99]}}, "/optimizer"),
    ],
)
def test_a_field_at_fault_is_pointed_at(service: Service, changes: dict[str, Any], pointer: str) -> None:
    answer = service.http.post("/v1/trajectories", json=RUN | changes)
    assert pointer in pointers(problem(answer, 422, "validation_error"))


def test_text_that_is_no_unicode_is_a_problem(service: Service) -> None:
    content = b'{"name": "\\ud800", "architecture": {}, "task": {}}'
    answer = service.http.post(
        "/v1/trajectories", content=content, headers={"Content-Type": "application/json"}
    )
    assert "/name" in pointers(problem(answer, 422, "validation_error"))


def test_an_unknown_architecture_is_named_with_those_known(service: Service) -> None:
    answer = service.http.post(
        "/v1/trajectories", json=RUN | {"architecture": {"name": "no-such", "config": {}}}
    )
    body = problem(answer, 422, "unknown_architecture")
    assert pointers(body) == ["/architecture"]
    assert "no-such" in body["detail"] and "'cnn'" in body["detail"]


def test_a_query_parameter_at_fault_is_named(service: Service) -> None:
    answer = service.http.get("/v1/jobs", params={"limit": 0})
    assert pointers(problem(answer, 422, "validation_error")) == ["query:limit"]


def test_an_id_with_a_nul_is_refused(service: Service) -> None:
    assert service.http.get("/v1/jobs/job_%00").status_code == 422


def test_a_request_has_the_clients_id_when_it_is_safe(service: Service) -> None:
    named = service.http.get("/livez", headers={"X-Request-ID": "build-7.3"})
    assert named.headers["x-request-id"] == "build-7.3"
    for unsafe in ("a b", "<script>", "x" * 200):
        renamed = service.http.get("/livez", headers={"X-Request-ID": unsafe})
        assert renamed.headers["x-request-id"].startswith("req_")


def test_a_crash_is_a_problem_that_tells_its_request_and_no_secrets(settings: Settings) -> None:
    app: FastAPI = create_app(settings)

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the password is 1234")

    with listening(app) as url:
        answer = httpx.get(f"{url}/crash", headers=bearer(KEY))
        body = problem(answer, 500, "internal_error")
        assert "1234" not in answer.text
        assert body["request_id"].startswith("req_")


def test_a_json_body_over_the_limit_is_refused_by_its_length(service: Service) -> None:
    answer = service.http.post("/v1/trajectories", json=RUN | {"notes": "x" * 100_000})
    problem(answer, 413, "payload_too_large")


def test_a_json_body_over_the_limit_is_refused_as_it_arrives(service: Service) -> None:
    pieces = (b"x" * 8192 for _ in range(20))  # sent in chunks, with no length told before
    answer = service.http.post(
        "/v1/trajectories", content=pieces, headers={"Content-Type": "application/json"}
    )
    problem(answer, 413, "payload_too_large")


def test_calling_a_body_multipart_does_not_lift_its_limit(service: Service) -> None:
    answer = service.http.post("/v1/jobs", files={"file": ("x", b"x" * 100_000)})
    problem(answer, 413, "payload_too_large")

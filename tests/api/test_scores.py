"""Scores over HTTP: ranked pages, one sample, the summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.api.pagination import Page
from app.api.scores import ScoreOut
from app.store import jobs
from tests.api.front_end import N, Service, pages, pointers, problem, request_of, scored

COLUMNS = scored(2)
SCORES: list[float] = COLUMNS["score"].tolist()


@pytest.fixture
def path(service: Service, job: dict[str, Any]) -> str:
    """The address of a job that succeeded with `COLUMNS`."""
    service.succeed(job["id"], COLUMNS)
    return f"/v1/jobs/{job['id']}"


def order_of(service: Service, path: str, **query: Any) -> list[int]:
    return [row["sample_index"] for row in pages(service.http, f"{path}/scores", **query)]


@pytest.mark.parametrize("limit", [1, 5, 12, 1000])
def test_pages_of_every_order_hold_every_sample_once(service: Service, path: str, limit: int) -> None:
    everyone = range(N)
    orders = {
        "harmful": sorted(everyone, key=lambda i: (-SCORES[i], i)),
        "helpful": sorted(everyone, key=lambda i: (SCORES[i], i)),
        "index": list(everyone),
    }
    assert {order: order_of(service, path, order=order, limit=limit) for order in orders} == orders


def test_harmful_is_the_order_when_none_is_asked_for(service: Service, path: str) -> None:
    assert order_of(service, path) == order_of(service, path, order="harmful")


def test_a_page_is_what_its_model_would_be_to_the_byte(service: Service, job: dict[str, Any]) -> None:
    """Pages are written without the model that the OpenAPI document has of them."""
    odd = {"loss": np.array([1e-7, 1e22, 0.1, np.inf, *COLUMNS["loss"][4:]]), "label": np.array([0.5] * N)}
    odd["sample_id"] = np.array(['"ü\n' + str(i) for i in range(N)])
    service.succeed(job["id"], COLUMNS | odd)
    for query in ("", "?limit=5"):
        answer = service.http.get(f"/v1/jobs/{job['id']}/scores{query}")
        told = answer.json()
        rows = [ScoreOut.model_construct(**row) for row in told["data"]]
        page = Page[ScoreOut].model_construct(data=rows, next_cursor=told["next_cursor"])
        assert list(told["data"][0]) == list(ScoreOut.model_fields)
        assert answer.headers["content-type"] == "application/json"
        assert answer.text == page.model_dump_json()


def test_a_row_says_how_harmful_a_sample_is_and_whether_the_model_agrees(service: Service, path: str) -> None:
    rows = pages(service.http, f"{path}/scores")
    assert [row["rank"] for row in rows] == list(range(1, N + 1))
    assert rows[0] == {
        "sample_index": 8,
        "sample_id": None,
        "score": 1.0,
        "rank": 1,
        "percentile": 100.0,
        "standard_error": None,
        "self_influence": None,
        "suspicion": None,
        "label": 2,
        "label_name": None,
        "predicted_label": 0,
        "predicted_label_name": None,
        "loss": pytest.approx(COLUMNS["loss"][8]),
        "agrees": False,
    }
    assert rows[-1]["percentile"] == pytest.approx(100 / N)
    assert [row["agrees"] for row in rows] == [row["label"] == row["predicted_label"] for row in rows]
    assert isinstance(rows[0]["label"], int)


def test_rows_can_be_filtered_by_label_and_score(service: Service, path: str) -> None:
    assert sorted(order_of(service, path, label=1, limit=2)) == [1, 4, 7, 10]
    assert set(order_of(service, path, min=0.1, limit=2)) == {i for i in range(N) if SCORES[i] >= 0.1}
    assert set(order_of(service, path, max=-0.1, order="helpful", limit=2)) == {
        i for i in range(N) if SCORES[i] <= -0.1
    }
    assert order_of(service, path, min=5) == []


def test_a_cursor_of_another_order_or_filter_is_refused(service: Service, path: str) -> None:
    cursor = service.http.get(f"{path}/scores?limit=5").json()["next_cursor"]
    for query in ("order=helpful", "label=1", "min=0", "max=9"):
        problem(service.http.get(f"{path}/scores?{query}&cursor={cursor}"), 400, "invalid_cursor")


@pytest.mark.parametrize("query", ["order=random", "min=nan", "max=inf", "label=cat"])
def test_a_parameter_at_fault_is_named(service: Service, path: str, query: str) -> None:
    body = problem(service.http.get(f"{path}/scores?{query}"), 422, "validation_error")
    assert pointers(body) == [f"query:{query.partition('=')[0]}"]


def test_self_influence_is_an_order_only_where_it_was_computed(service: Service, job: dict[str, Any]) -> None:
    columns = COLUMNS | {"self_influence": np.arange(N) % 4.0}
    service.succeed(job["id"], columns, self_influence=True)
    path = f"/v1/jobs/{job['id']}"
    by_hand = sorted(range(N), key=lambda i: (-(i % 4), i))
    assert order_of(service, path, order="self_influence", limit=5) == by_hand


def test_self_influence_that_was_not_computed_is_refused(service: Service, path: str) -> None:
    problem(service.http.get(f"{path}/scores?order=self_influence"), 409, "not_computed")


def test_contributions_add_up_to_the_score_and_name_their_checkpoints(
    service: Service, path: str, job: dict[str, Any]
) -> None:
    for row in pages(service.http, f"{path}/scores"):
        one = service.http.get(f"{path}/scores/{row['sample_index']}").json()
        parts = one.pop("contributions")
        assert one == row
        assert sum(part["contribution"] for part in parts) == pytest.approx(row["score"])
        assert [part["checkpoint_id"] for part in parts] == job["checkpoint_ids"]
        assert [part["step"] for part in parts] == [10, 20]
        assert parts[-1]["loss"] == pytest.approx(row["loss"])


def test_a_part_that_is_no_number_is_null(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"], COLUMNS | {"losses": np.full((N, 2), np.nan)})
    answer = service.http.get(f"/v1/jobs/{job['id']}/scores/0")
    assert [part["loss"] for part in answer.json()["contributions"]] == [None, None]


def test_a_sample_that_was_not_scored_is_not_found(service: Service, path: str) -> None:
    assert "0 to 11" in problem(service.http.get(f"{path}/scores/12"), 404, "not_found")["detail"]
    problem(service.http.get(f"{path}/scores/-1"), 422, "validation_error")
    problem(service.http.get(f"{path}/scores/{2**63}"), 422, "validation_error")


def test_sample_ids_come_along(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"], COLUMNS | {"sample_id": np.array([f"row-{i}" for i in range(N)])})
    row = service.http.get(f"/v1/jobs/{job['id']}/scores/3").json()
    assert row["sample_id"] == "row-3"


def test_scores_wait_for_success(service: Service, job: dict[str, Any]) -> None:
    for path in ("scores", "scores/0", "summary"):
        answer = service.http.get(f"/v1/jobs/{job['id']}/{path}")
        assert "queued" in problem(answer, 409, "job_not_finished")["detail"]
        assert answer.headers["retry-after"] == "1"
    with service.database.transaction() as session:
        row = jobs.locked(session, job["id"])
        assert row is not None
        jobs.fail(session, service.blobs, row, {"code": "non_finite"})
    answer = service.http.get(f"/v1/jobs/{job['id']}/scores")
    assert "failed" in problem(answer, 409, "job_not_finished")["detail"]
    assert "retry-after" not in answer.headers


def test_the_summary_agrees_with_numpy(service: Service, path: str) -> None:
    body = service.http.get(f"{path}/summary").json()
    scores = np.array(SCORES)
    assert body["count"] == N
    for name in ("mean", "std", "min", "max"):
        assert body[name] == pytest.approx(getattr(np, name)(scores))
    for q, value in body["quantiles"].items():
        assert value == pytest.approx(np.quantile(scores, float(q)))
    counts, edges = np.histogram(scores, len(body["histogram"]["counts"]))
    assert body["histogram"]["edges"] == pytest.approx(edges.tolist())
    assert sum(body["histogram"]["counts"]) == counts.sum()


def test_the_summary_is_told_by_class(service: Service, path: str) -> None:
    body = service.http.get(f"{path}/summary").json()
    assert [row["label"] for row in body["by_class"]] == [0, 1, 2]
    for row in body["by_class"]:
        ours = np.array(SCORES)[row["label"] :: 3]
        assert (row["count"], row["harmful"]) == (4, (ours > 0).sum())
        assert row["mean_score"] == pytest.approx(ours.mean())
        assert row["mean_loss"] == pytest.approx(COLUMNS["loss"][row["label"] :: 3].mean())


def test_scores_all_alike_have_a_summary(service: Service, job: dict[str, Any]) -> None:
    same = {"score": np.zeros(N), "rank": np.arange(1, N + 1), "contributions": np.zeros((N, 2))}
    service.succeed(job["id"], COLUMNS | same)
    body = service.http.get(f"/v1/jobs/{job['id']}/summary").json()
    assert (body["std"], body["quantiles"]["0.5"], body["histogram"]["counts"][0]) == (0, 0, N)


def test_a_regression_has_numbers_for_labels_and_no_agreement(service: Service) -> None:
    trajectory = service.trajectory(
        architecture={"name": "linear", "config": {"in_features": 4, "num_classes": 1}},
        task={"type": "regression", "loss": "mse"},
    )
    service.accept(service.checkpoint(trajectory["id"], 10)["id"])
    dataset = service.upload()["id"]
    service.validate(dataset, targets=np.linspace(0, 1, 12, dtype=np.float32))
    inputs = {
        "trajectory_id": trajectory["id"],
        "train_dataset_id": dataset,
        "query_dataset_id": dataset,
    }
    job = service.http.post("/v1/jobs", json=request_of(inputs)).json()
    labels = {"label": np.full(N, 2.0), "predicted_label": np.full(N, 2.25)}
    service.succeed(job["id"], scored(1) | labels)
    answer = service.http.get(f"/v1/jobs/{job['id']}/scores/0")
    row = answer.json()
    assert '"label":2.0,' in answer.text
    assert (row["predicted_label"], row["agrees"]) == (2.25, None)
    assert service.http.get(f"/v1/jobs/{job['id']}/summary").json()["by_class"] is None

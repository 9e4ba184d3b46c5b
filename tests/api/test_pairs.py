"""Runs on images with captions: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.api.front_end import N, Service, problem, scored

TWO_TOWER: dict[str, Any] = {
    "name": "two_tower",
    "config": {
        "image": {"name": "mlp", "config": {"in_features": 4, "hidden": [3]}},
        "text": {"name": "transformer", "config": {"vocab_size": 9, "max_length": 3, "d_model": 8}},
    },
}
CONTRASTIVE = {"type": "contrastive", "loss": "clip"}
RUN: dict[str, Any] = {"architecture": TWO_TOWER, "task": CONTRASTIVE, "batch_size": 8}
CAPTIONS = np.arange(N * 3, dtype=np.int64).reshape(N, 3) % 9


def ready(service: Service, inputs: Any = None, targets: Any = CAPTIONS, **run: Any) -> dict[str, Any]:
    """A request for scores on a run with one checkpoint."""
    data = service.upload(name="pairs")["id"]
    service.validate(data, inputs, targets)
    trajectory = service.trajectory(**RUN | run)["id"]
    service.accept(service.checkpoint(trajectory, 10)["id"])
    named = {"trajectory_id": trajectory, "train_dataset_id": data, "query_dataset_id": data}
    return {"type": "influence", "method": {"name": "diff_in"}} | named


def test_groups_are_the_batches_unless_their_size_is_told(service: Service) -> None:
    assert service.trajectory(**RUN)["task"] == CONTRASTIVE | {"group_size": 8}
    told = service.trajectory(**RUN | {"task": CONTRASTIVE | {"group_size": 4}})
    assert told["task"]["group_size"] == 4
    assert "group_size" not in service.trajectory()["task"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": {"type": "classification", "loss": "cross_entropy"}}, "its task is 'contrastive'"),
        ({"batch_size": None}, "give task.group_size"),
        ({"batch_size": 1}, "give task.group_size"),
        ({"architecture": {"name": "linear", "config": {"in_features": 4, "num_classes": 2}}}, "two_tower"),
        ({"task": {"type": "regression", "loss": "mse", "group_size": 4}}, "group_size belongs to"),
        ({"task": {"type": "contrastive", "loss": "mse"}}, "is 'clip'"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused_in_words(
    service: Service, changed: dict[str, Any], words: str
) -> None:
    answer = service.http.post("/v1/trajectories", json={"name": "pairs"} | RUN | changed)
    assert words in problem(answer, 422, "validation_error")["detail"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"targets": np.zeros(N, dtype=np.int64)}, "captions, but samples of a single number"),
        ({"targets": np.full((N, 3), 9)}, "token ids go up to 9"),
        ({"targets": np.full((N, 3), -1)}, "token ids go down to -1"),
        ({"targets": np.zeros((N, 4), dtype=np.int64)}, "max_length is 3"),
        ({"targets": np.zeros((N, 3), dtype=np.float32)}, "are no token ids"),
        ({"inputs": np.zeros((N, 5), dtype=np.float32)}, "in_features is 4"),
    ],
)
def test_images_and_captions_that_do_not_fit_are_refused_in_words(
    service: Service, arrays: dict[str, Any], words: str
) -> None:
    answer = service.http.post("/v1/jobs", json=ready(service, **arrays))
    assert words in problem(answer, 422, "shape_mismatch")["detail"]


@pytest.mark.parametrize(
    "method",
    [
        {"name": "diff_in", "per_query": True},
        {"name": "self_influence"},
        {"name": "grad_norm"},
        {"name": "diff_in_eq9", "target": "self"},
    ],
)
def test_what_takes_the_gradient_of_a_single_pair_is_refused_in_words(
    service: Service, method: dict[str, Any]
) -> None:
    answer = service.http.post("/v1/jobs", json=ready(service) | {"method": method})
    body = problem(answer, 422, "unsuitable_method")
    assert "whole group" in body["detail"] and body["errors"][0]["pointer"] == "/method"


@pytest.mark.parametrize("name", ["diff_in", "influence_function"])
def test_curvature_of_single_predictions_is_refused_in_words(service: Service, name: str) -> None:
    method = {"name": name, "curvature": "kronecker"}
    answer = service.http.post("/v1/jobs", json=ready(service) | {"method": method})
    body = problem(answer, 422, "unsuitable_method")
    assert "ggn" in body["detail"] and body["errors"][0]["pointer"] == "/method/curvature"


@pytest.mark.parametrize("name", ["diff_in", "tracin", "influence_function", "diff_in_eq9", "loss", "el2n"])
def test_the_other_methods_are_taken(service: Service, name: str) -> None:
    answer = service.http.post("/v1/jobs", json=ready(service) | {"method": {"name": name}})
    assert answer.status_code == 202, answer.text


def test_a_pair_agrees_where_its_own_caption_fits_best(service: Service) -> None:
    job = service.http.post("/v1/jobs", json=ready(service)).json()["id"]
    best = np.arange(N, dtype=np.float64)
    best[3] = 5
    service.succeed(job, scored() | {"label": None, "predicted_label": best})
    rows = service.http.get(f"/v1/jobs/{job}/scores?order=index").json()["data"]
    assert [row["predicted_label"] for row in rows] == best.tolist()
    assert [row["agrees"] for row in rows] == [index != 3 for index in range(N)]
    assert all(row["label"] is None for row in rows)
    assert service.http.get(f"/v1/jobs/{job}/summary").json()["by_class"] is None

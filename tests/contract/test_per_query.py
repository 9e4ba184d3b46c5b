"""Influences on single query samples over HTTP: each is what a job about that sample alone says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffin import Diffin, DiffinError
from diffin.models import Job
from tests import walk
from tests.services import Service
from tests.shapes import BOTH

N, QUERIES = 300, [7, 3, 11]


@pytest.fixture(params=BOTH)
def service(request: pytest.FixtureRequest) -> Service:
    service: Service = request.getfixturevalue(request.param)
    return service


@pytest.fixture
def client(service: Service) -> Iterator[Diffin]:
    with Diffin(service.url, service.key) as client:
        yield client


@pytest.fixture
def inputs(service: Service) -> dict[str, str]:
    x, y = walk.digits(N)
    with service.client() as http:
        return {
            "trajectory_id": walk.run(http, (10, 20)),
            "train_dataset_id": walk.dataset(http, walk.npz(inputs=x, targets=y))["id"],
            "query_dataset_id": walk.dataset(http, walk.npz(inputs=x[:50], targets=y[:50]))["id"],
        }


def ask(service: Service, client: Diffin, inputs: dict[str, str], indices: list[int], **method: Any) -> Job:
    body = {"type": "influence", "query": {"indices": indices}, "method": method} | inputs
    with service.client() as http:
        return client.wait(walk.ok(http.post("/v1/jobs", json=body), 202)["id"])


@pytest.mark.parametrize("name", ["diff_in", "tracin"])
def test_each_query_has_the_scores_of_a_job_of_its_own(
    service: Service, client: Diffin, inputs: dict[str, str], tmp_path: Path, name: str
) -> None:
    job = ask(service, client, inputs, QUERIES, name=name, per_query=True, top_k=20)
    matrix = np.load(client.download_influences(job, tmp_path / "influences.npy"))
    assert (matrix.shape, matrix.dtype) == ((N, len(QUERIES)), np.float32)
    for column, query in enumerate(QUERIES):
        alone = ask(service, client, inputs, [query], name=name)
        scores = np.array([row.score for row in client.scores(alone, order="index")])
        found = matrix[:, column]
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-6 * np.abs(scores).max())
        opponents = [row.sample_index for row in client.influences(job, query)]
        assert opponents == list(np.argsort(-found, kind="stable")[:20])
        proponents = list(client.influences(job, query, order="proponents", limit=5))
        assert [row.sample_index for row in proponents] == list(np.argsort(found, kind="stable")[:5])
        assert proponents[0].score == found.min()


def test_the_samples_own_rows_are_the_mean_over_the_queries(
    service: Service, client: Diffin, inputs: dict[str, str], tmp_path: Path
) -> None:
    job = ask(service, client, inputs, QUERIES, name="tracin", per_query=True)
    together = ask(service, client, inputs, QUERIES, name="tracin")
    rows = [np.array([row.score for row in client.scores(one, order="index")]) for one in (job, together)]
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-3, atol=1e-6 * np.abs(rows[1]).max())
    assert job.progress.completed == job.progress.total
    assert job.progress.completed > together.progress.completed
    assert (job.result or {})["per_query"] == {"queries": 3}
    detail = client.score(job, 5)
    assert sum(part.contribution for part in detail.contributions) == pytest.approx(detail.score, rel=1e-12)


def test_a_single_query_is_a_matrix_of_one_column(
    service: Service, client: Diffin, inputs: dict[str, str], tmp_path: Path
) -> None:
    job = ask(service, client, inputs, [4], name="tracin", per_query=True)
    matrix = np.load(client.download_influences(job, tmp_path / "influences.npy"))
    scores = [row.score for row in client.scores(job, order="index")]
    np.testing.assert_allclose(matrix, np.array(scores)[:, None], rtol=1e-6)


def test_a_job_without_them_keeps_no_file(
    service: Service, client: Diffin, inputs: dict[str, str], tmp_path: Path
) -> None:
    job = ask(service, client, inputs, QUERIES, name="tracin")
    with pytest.raises(DiffinError) as refused:
        client.download_influences(job, tmp_path / "influences.npy")
    assert refused.value.code == "not_computed"
    assert list(tmp_path.iterdir()) == []

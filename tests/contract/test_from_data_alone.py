"""A user who has data and nothing else: the service trains, scores, and finds the labels that are wrong.

Plain HTTP, as any language speaks it.
"""

from __future__ import annotations

import httpx
import numpy as np

from tests import walk
from tests.services import Service

SAMPLES, WRONG = 600, 60


def wrongly_labelled(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels with WRONG of them changed, and which (their indices)."""
    rng = np.random.default_rng(1)
    rows = rng.choice(len(y), WRONG, replace=False)
    changed = y.copy()
    changed[rows] = (changed[rows] + rng.integers(1, 10, WRONG)) % 10
    return changed, rows


def post(client: httpx.Client, **body: object) -> dict[str, object]:
    job: dict[str, object] = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body), 202)["id"])
    assert job["status"] == "succeeded", job
    return job


def test_from_a_data_set_alone_to_its_harmful_samples(embedded_service: Service) -> None:
    x, y = walk.digits(900)
    given, wrong = wrongly_labelled(y[:SAMPLES])
    with embedded_service.client() as client:
        train = walk.dataset(client, walk.npz(inputs=x[:SAMPLES], targets=given))["id"]
        query = walk.dataset(client, walk.npz(inputs=x[SAMPLES:], targets=y[SAMPLES:]))["id"]
        trained = post(
            client,
            type="train",
            architecture={"name": "mlp", "config": {"in_features": 64, "hidden": [32], "num_classes": 10}},
            task={"type": "classification", "loss": "cross_entropy"},
            train_dataset_id=train,
            query_dataset_id=query,
            recipe={
                "optimizer": {"name": "sgd", "momentum": 0.9},
                "schedule": {"name": "cosine", "learning_rate": 0.05},
                "batch_size": 32,
                "epochs": 8,
            },
        )
        result = trained["result"]
        assert isinstance(result, dict)
        assert result["query"]["accuracy"] > 0.85
        scored = post(
            client,
            type="influence",
            trajectory_id=result["trajectory_id"],
            train_dataset_id=train,
            query_dataset_id=query,
            method={"name": "diff_in", "resolution": "steps"},
        )
        rows = walk.scores(client, str(scored["id"]), "harmful")[:WRONG]
    found = np.isin([row["sample_index"] for row in rows], wrong)
    assert found.mean() >= 0.7, f"{found.sum()} of the {WRONG} most harmful are labelled wrongly"
    assert found[:20].mean() >= 0.9

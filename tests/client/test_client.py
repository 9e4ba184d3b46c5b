"""The client against the real service: what goes in, what comes out, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffin import Diffin, DiffinError, InputInvalid, JobFailed
from diffin.models import Dataset, Job, Trajectory
from tests.client.conftest import CLASSES, SAMPLES, Arrays
from tests.services import Service

# ---- uploads


def test_a_data_set_uploaded_as_arrays_knows_itself(training: Dataset) -> None:
    assert (training.status, training.num_samples, training.num_classes) == ("ready", SAMPLES, CLASSES)
    assert training.class_counts is not None and sum(training.class_counts) == SAMPLES
    assert training.created_at is not None and training.created_at.tzinfo is not None


def test_a_file_is_sent_with_its_progress(client: Diffin, tmp_path: Path) -> None:
    file = tmp_path / "two classes.npz"
    np.savez(file, inputs=np.zeros((50_000, 8), np.float32), targets=np.arange(50_000) % 2)
    told: list[tuple[int, int]] = []
    sent = client.upload_dataset(file, progress=lambda done, total: told.append((done, total)))
    size = file.stat().st_size
    assert (sent.name, sent.bytes) == ("two classes", size)
    assert len(told) > 10 and told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert client.ready(sent).num_samples == 50_000


def test_an_invalid_data_set_says_why(client: Diffin, tmp_path: Path) -> None:
    file = tmp_path / "bad.npz"
    file.write_bytes(b"PK\x03\x04 nothing of the kind")
    with pytest.raises(InputInvalid) as refused:
        client.ready(client.upload_dataset(file))
    assert refused.value.detail and refused.value.code
    assert isinstance(refused.value.resource, Dataset)


def test_an_invalid_checkpoint_says_why(
    client: Diffin, trajectory: Trajectory, recording: Path, training: Dataset, query: Dataset
) -> None:
    other = client.create_trajectory(
        name="other", architecture={"name": "linear", "config": {"in_features": 9, "num_classes": CLASSES}}
    )
    file = recording / "step-00000002.safetensors"
    client.upload_checkpoint(other, file, step=2, learning_rate=0.1)
    with pytest.raises(InputInvalid, match=r"layers\.0\.weight"):
        client.submit(other, training, query)


def test_a_refused_network_is_told_of_the_run(client: Diffin, tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(b"no graph at all")
    run = client.create_trajectory(name="no graph", architecture_file=file)
    with pytest.raises(InputInvalid):
        client.ready(run)
    found = client.trajectory(run.id)
    assert found.status == "invalid"
    assert found.error is not None and "architecture file was refused" in found.error.detail


def test_half_given_arrays_are_refused_before_anything_is_sent(client: Diffin) -> None:
    with pytest.raises(ValueError, match="inputs= and targets="):
        client.upload_dataset(inputs=np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="inputs= and targets="):
        client.upload_dataset(targets=[0, 1])


def test_token_ids_are_sent_without_targets(client: Diffin) -> None:
    texts = client.ready(client.upload_dataset(inputs=[[5, 6], [7, 1]], name="texts"))
    assert client.sample(texts, 1)["target"] == [7, 1]


def test_each_checkpoint_arrives_with_its_learning_rates(trajectory: Trajectory) -> None:
    assert [one.step for one in trajectory.checkpoints] == [2, 4, 6]
    assert trajectory.checkpoints[1].learning_rates == (0.5 / 3, 0.5 / 4)
    assert {one.status for one in trajectory.checkpoints} == {"ready"}


def test_the_content_of_a_sample_can_be_looked_at(client: Diffin, training: Dataset) -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    pictures = client.ready(client.upload_dataset(inputs=images, targets=np.zeros(4, np.int64), name="black"))
    assert client.sample_content(pictures, 0).startswith(b"\x89PNG")
    assert client.sample(training, 3)["index"] == 3


# ---- jobs


def test_a_job_that_succeeded_tells_when_and_what(job: Job) -> None:
    assert (job.status, job.name, job.metadata) == ("succeeded", "what hurts?", {"git": "abc"})
    assert job.created_at and job.finished_at and job.created_at <= job.finished_at
    assert job.result is not None and job.result["num_samples"] == SAMPLES
    assert job.finished and job.error is None


def test_progress_is_told_until_the_end(
    client: Diffin, trajectory: Trajectory, training: Dataset, query: Dataset
) -> None:
    seen: list[str] = []
    asked = client.submit(trajectory, training, query, method="tracin")
    client.wait(asked, progress=lambda now: seen.append(now.status))
    assert seen[-1] == "succeeded" and seen.count("succeeded") == 1


def test_a_wait_gives_up_when_told_and_a_cancelled_job_is_a_failed_one(
    client: Diffin, arrays: Arrays, training: Dataset, query: Dataset, tmp_path: Path
) -> None:
    slow = _slow_trajectory(client, tmp_path)
    job = client.submit(
        slow, training, query, method={"name": "diff_in", "lanczos_steps": 1000, "hessian_samples": None}
    )
    with pytest.raises(TimeoutError, match="not done after"):
        client.wait(job, timeout=0.01)
    client.cancel(job)
    with pytest.raises(JobFailed) as stopped:
        client.wait(job)
    assert stopped.value.job.status == "cancelled"
    client.delete(job)
    with pytest.raises(DiffinError) as gone:
        client.job(job)
    assert gone.value.status == 404


def _slow_trajectory(client: Diffin, folder: Path) -> Trajectory:
    """A wide network, so that a thousand Hessian-vector products take seconds."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tensors = {
        "layers.0.weight": torch.randn(1024, 4),
        "layers.0.bias": torch.zeros(1024),
        "layers.1.weight": torch.randn(CLASSES, 1024) / 32,
        "layers.1.bias": torch.zeros(CLASSES),
    }
    save_file(tensors, folder / "wide.safetensors")
    config = {"in_features": 4, "hidden": [1024], "num_classes": CLASSES}
    trajectory = client.create_trajectory(name="wide", architecture={"name": "mlp", "config": config})
    for step in (10, 20):
        client.upload_checkpoint(trajectory, folder / "wide.safetensors", step=step, learning_rate=0.1)
    return trajectory


def test_the_events_of_a_job_go_from_queued_to_succeeded(client: Diffin, job: Job) -> None:
    types = [event.type for event in client.events(job)]
    assert types[0] == "job.queued" and types[-1] == "job.succeeded"


def test_jobs_are_listed_newest_first(client: Diffin, job: Job) -> None:
    listed = list(client.jobs(status="succeeded"))
    assert job.id in {one.id for one in listed}
    assert [one.id for one in listed] == sorted((one.id for one in listed), reverse=True)


def test_the_cost_can_be_asked_beforehand(
    client: Diffin, trajectory: Trajectory, training: Dataset, query: Dataset
) -> None:
    assert client.estimate(trajectory, training, query, method="tracin").forward_passes > SAMPLES


# ---- answers


def test_scores_come_in_order_across_pages(client: Diffin, job: Job) -> None:
    by_index = list(client.scores(job, order="index"))
    assert [row.sample_index for row in by_index] == list(range(SAMPLES))
    harmful = list(client.scores(job))
    assert harmful == sorted(by_index, key=lambda row: (-row.score, row.sample_index))
    assert [row.rank for row in harmful] == list(range(1, SAMPLES + 1))


def test_a_limit_counts_rows_not_pages(client: Diffin, job: Job) -> None:
    assert len(list(client.scores(job, limit=1050))) == 1050
    assert [row.rank for row in client.scores(job, order="helpful", limit=2)] == [SAMPLES, SAMPLES - 1]


def test_scores_can_be_narrowed_to_a_label_and_a_range(client: Diffin, job: Job) -> None:
    rows = list(client.scores(job, label=1, min=0.0))
    assert rows and all(row.label == 1 and row.score >= 0 for row in rows)
    assert len(rows) == sum(row.label == 1 and row.score >= 0 for row in client.scores(job))


def test_wrong_labels_are_among_the_most_harmful(client: Diffin, job: Job) -> None:
    top = {row.sample_index for row in client.scores(job, limit=20)}
    assert len(top & set(range(10))) >= 7


def test_a_row_adds_up_to_its_score(client: Diffin, job: Job) -> None:
    row = client.score(job, 3)
    assert [part.step for part in row.contributions] == [2, 4, 6]
    assert sum(part.contribution for part in row.contributions) == pytest.approx(row.score, rel=1e-6)


def test_the_summary_counts_every_sample(client: Diffin, job: Job) -> None:
    summary = client.summary(job)
    assert summary.count == SAMPLES == sum(summary.histogram["counts"])
    assert summary.min <= summary.quantiles["0.5"] <= summary.max


def test_the_service_says_what_it_can_do(client: Diffin) -> None:
    assert {"diff_in", "tracin", "loss"} <= {method["name"] for method in client.methods()}
    assert {"linear", "cnn"} <= {network["name"] for network in client.architectures()}
    assert client.capabilities()["version"]


# ---- refusals


def test_a_refusal_carries_the_problem(
    client: Diffin, trajectory: Trajectory, training: Dataset, query: Dataset
) -> None:
    with pytest.raises(DiffinError) as refused:
        client.submit(trajectory, training, query, method="astrology")
    assert refused.value.status == 422 and refused.value.code
    assert refused.value.request_id
    assert "astrology" in str(refused.value) or "diff_in" in str(refused.value)


def test_what_is_in_use_is_not_deleted(client: Diffin, job: Job, training: Dataset) -> None:
    with pytest.raises(DiffinError) as refused:
        client.delete(training)
    assert refused.value.status == 409


def test_an_id_of_no_known_kind_is_not_deleted(client: Diffin) -> None:
    with pytest.raises(ValueError, match="nothing that can be deleted"):
        client.delete("wh_1")


def test_a_wrong_key_is_said_to_be_wrong(embedded_service: Service) -> None:
    with Diffin(embedded_service.url, "not the key") as stranger, pytest.raises(DiffinError) as refused:
        list(stranger.jobs())
    assert refused.value.status == 401


def test_no_key_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFIN_API_KEY", raising=False)
    with pytest.raises(ValueError, match="DIFFIN_API_KEY"):
        Diffin("http://127.0.0.1:1")


def test_url_and_key_come_from_the_environment(
    embedded_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFIN_URL", embedded_service.url + "/")
    monkeypatch.setenv("DIFFIN_API_KEY", embedded_service.key)
    with Diffin() as client:
        assert client.url == embedded_service.url
        assert client.capabilities()["version"]

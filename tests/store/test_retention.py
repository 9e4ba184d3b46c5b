"""What is old goes by itself, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from app.store import exports, jobs, scores, sweeper
from app.store.blobs import BlobStore
from app.store.db import Database, utcnow
from app.store.tables import Export, Job, Score, WebhookDelivery, WebhookEndpoint


def ended(database: Database, blobs: BlobStore, days: float) -> str:
    """A job that succeeded so many days ago, with scores and an export."""
    with database.transaction() as session, blobs.stage() as staged:
        job = jobs.create(
            session, project_id="p", type="influence", method={"name": "loss"}, seed=0, checkpoint_ids=[]
        )
        jobs.start(session, job, 1)
        columns: dict[str, Any] = {
            name: np.zeros(3) for name in ("score", "label", "predicted_label", "loss")
        }
        columns |= {"sample_index": np.arange(3), "rank": np.arange(1, 4)}
        columns |= {"contributions": np.zeros((3, 1)), "losses": np.zeros((3, 1))}
        scores.write(session, job.id, columns)
        jobs.succeed(session, blobs, job, {"num_samples": 3})
        staged.write_text(job.id)
        export = exports.create(session, job, 3, format="csv", ordered_by="index")
        export.status, export.blob = "succeeded", blobs.keep(session, staged)
        job.finished_at = utcnow() - timedelta(days=days)
        return job.id


def files(blobs: BlobStore) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file()]


def test_jobs_go_with_all_that_came_of_them_once_they_are_old(database: Database, blobs: BlobStore) -> None:
    old, young = ended(database, blobs, 31), ended(database, blobs, 29)
    with database.transaction() as session:
        running = jobs.create(
            session, project_id="p", type="influence", method={"name": "loss"}, seed=0, checkpoint_ids=[]
        )
        running.created_at = utcnow() - timedelta(days=99)
    sweeper.tidy(database, blobs)  # nobody asked for anything to go
    assert len(files(blobs)) == 2
    sweeper.tidy(database, blobs, retention_days=30)
    with database.snapshot() as session:
        assert session.get(Job, old) is None
        assert session.get(Job, young) is not None
        assert session.get(Job, running.id) is not None
        assert session.query(Score).filter(Score.job_id == old).count() == 0
        assert session.query(Score).filter(Score.job_id == young).count() == 3
        assert [one.job_id for one in session.query(Export)] == [young]
    assert len(files(blobs)) == 1


def test_old_messages_are_forgotten_unless_they_are_pending(database: Database, blobs: BlobStore) -> None:
    with database.transaction() as session:
        session.add(WebhookEndpoint(id="wh_1", project_id="p", url="https://a", events=[], salt=b""))
        session.flush()
        for number, status in enumerate(("delivered", "failed", "skipped", "pending")):
            session.add(
                WebhookDelivery(
                    id=f"whd_{number}",
                    project_id="p",
                    endpoint_id="wh_1",
                    message_id="m",
                    type="job.failed",
                    subject="j",
                    ordered_by="j",
                    payload="{}",
                    status=status,
                    created_at=utcnow() - timedelta(days=8),
                )
            )
    sweeper.tidy(database, blobs, webhook_log_days=9)
    with database.snapshot() as session:
        assert session.query(WebhookDelivery).count() == 4
    sweeper.tidy(database, blobs, webhook_log_days=7)
    with database.snapshot() as session:
        assert [one.status for one in session.query(WebhookDelivery)] == ["pending"]

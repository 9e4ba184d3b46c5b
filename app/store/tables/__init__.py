"""The tables. States change only in `jobs.py`, `work.py`, `datasets.py`, `trajectories.py`, `selections.py`,
`exports.py` and `webhooks.py`."""

from app.store.tables.base import Base, Named, Resource
from app.store.tables.inputs import (
    BatchOrder,
    Blob,
    Checkpoint,
    Dataset,
    Trajectory,
    TrajectoryFile,
    Upload,
    UploadPart,
)
from app.store.tables.jobs import Event, Job, JobTrajectory, TrainingState, Turn, Work
from app.store.tables.results import (
    Decision,
    Evaluation,
    Export,
    Score,
    ScoreColumns,
    Selection,
    SelectionFile,
)
from app.store.tables.service import ApiKey, AuditEvent, Figure, IdempotencyKey, WebSession, Worker
from app.store.tables.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "ApiKey",
    "AuditEvent",
    "Base",
    "BatchOrder",
    "Blob",
    "Checkpoint",
    "Dataset",
    "Decision",
    "Evaluation",
    "Event",
    "Export",
    "Figure",
    "IdempotencyKey",
    "Job",
    "JobTrajectory",
    "Named",
    "Resource",
    "Score",
    "ScoreColumns",
    "Selection",
    "SelectionFile",
    "TrainingState",
    "Trajectory",
    "TrajectoryFile",
    "Turn",
    "Upload",
    "UploadPart",
    "WebSession",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Work",
    "Worker",
]

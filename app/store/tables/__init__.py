"""The tables. States change only in `jobs.py`, `work.py`, `datasets.py`, `trajectories.py`, `selections.py`
and `exports.py`."""

from app.store.tables.base import Base, Resource
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
from app.store.tables.jobs import Event, Job, JobTrajectory, TrainingState, Work
from app.store.tables.results import (
    Decision,
    Evaluation,
    Export,
    Score,
    ScoreColumns,
    Selection,
    SelectionFile,
)
from app.store.tables.service import ApiKey, IdempotencyKey, WebSession, Worker

__all__ = [
    "ApiKey",
    "Base",
    "BatchOrder",
    "Blob",
    "Checkpoint",
    "Dataset",
    "Decision",
    "Evaluation",
    "Event",
    "Export",
    "IdempotencyKey",
    "Job",
    "JobTrajectory",
    "Resource",
    "Score",
    "ScoreColumns",
    "Selection",
    "SelectionFile",
    "TrainingState",
    "Trajectory",
    "TrajectoryFile",
    "Upload",
    "UploadPart",
    "WebSession",
    "Work",
    "Worker",
]

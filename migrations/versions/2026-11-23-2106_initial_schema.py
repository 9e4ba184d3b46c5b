"""initial schema

Revision ID: 1d49c7732088
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "1d49c7732088"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:

    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("location", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
        sa.UniqueConstraint("location", name=op.f("uq_blobs_location")),
    )
    op.create_table(
        "events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=False),
            nullable=False,
        ),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("terminal", sa.Boolean(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_subject_id"), "events", ["subject", "id"], unique=False)
    op.create_index(
        "uq_events_one_terminal",
        "events",
        ["subject"],
        unique=True,
        sqlite_where=sa.text("terminal"),
        postgresql_where=sa.text("terminal"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("headers", JSON, nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "scores",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sample_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sample_id", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("self_influence", sa.Double(), nullable=True),
        sa.Column("label", sa.Double(), nullable=True),
        sa.Column("predicted_label", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("contributions", sa.LargeBinary(), nullable=False),
        sa.Column("losses", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sample_index", name=op.f("pk_scores")),
        postgresql_partition_by="LIST (job_id)",
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_scores_job_id_rank"), "scores", ["job_id", "rank"], unique=False)
    op.create_index(
        op.f("ix_scores_job_id_score_sample_index"),
        "scores",
        ["job_id", "score", "sample_index"],
        unique=False,
    )
    op.create_table(
        "trajectories",
        sa.Column("architecture", JSON, nullable=False),
        sa.Column("task", JSON, nullable=False),
        sa.Column("preprocessing", JSON, nullable=False),
        sa.Column("optimizer", JSON, nullable=False),
        sa.Column("recipe", JSON, nullable=True),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("train_size", sa.BigInteger(), nullable=True),
        sa.Column("total_steps", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trajectories")),
    )
    op.create_index(op.f("ix_trajectories_project_id_id"), "trajectories", ["project_id", "id"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("queues", JSON, nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("trajectory_id", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("learning_rate", sa.Double(), nullable=True),
        sa.Column("learning_rates", JSON, nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=True),
        sa.Column("info", JSON, nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_checkpoints_blob")),
        sa.ForeignKeyConstraint(
            ["trajectory_id"], ["trajectories.id"], name=op.f("fk_checkpoints_trajectory_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
    )
    op.create_index(op.f("ix_checkpoints_blob"), "checkpoints", ["blob"], unique=False)
    op.create_index(op.f("ix_checkpoints_trajectory_id"), "checkpoints", ["trajectory_id"], unique=False)
    op.create_index(
        "uq_checkpoints_trajectory_id_step",
        "checkpoints",
        ["trajectory_id", "step"],
        unique=True,
        sqlite_where=sa.text("status <> 'invalid'"),
        postgresql_where=sa.text("status <> 'invalid'"),
    )
    op.create_table(
        "datasets",
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("source_blob", sa.String(), nullable=True),
        sa.Column("inputs_blob", sa.String(), nullable=True),
        sa.Column("targets_blob", sa.String(), nullable=True),
        sa.Column("ids_blob", sa.String(), nullable=True),
        sa.Column("num_samples", sa.BigInteger(), nullable=True),
        sa.Column("num_classes", sa.Integer(), nullable=True),
        sa.Column("info", JSON, nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["ids_blob"], ["blobs.sha256"], name=op.f("fk_datasets_ids_blob")),
        sa.ForeignKeyConstraint(["inputs_blob"], ["blobs.sha256"], name=op.f("fk_datasets_inputs_blob")),
        sa.ForeignKeyConstraint(["source_blob"], ["blobs.sha256"], name=op.f("fk_datasets_source_blob")),
        sa.ForeignKeyConstraint(["targets_blob"], ["blobs.sha256"], name=op.f("fk_datasets_targets_blob")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_ids_blob"), "datasets", ["ids_blob"], unique=False)
    op.create_index(op.f("ix_datasets_inputs_blob"), "datasets", ["inputs_blob"], unique=False)
    op.create_index(op.f("ix_datasets_project_id_id"), "datasets", ["project_id", "id"], unique=False)
    op.create_index(op.f("ix_datasets_source_blob"), "datasets", ["source_blob"], unique=False)
    op.create_index(op.f("ix_datasets_targets_blob"), "datasets", ["targets_blob"], unique=False)
    op.create_table(
        "work",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("waits_for", sa.String(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("rung_at", sa.Double(), nullable=True),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("result_blob", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["result_blob"], ["blobs.sha256"], name=op.f("fk_work_result_blob")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
    )
    op.create_index(op.f("ix_work_result_blob"), "work", ["result_blob"], unique=False)
    op.create_index(
        op.f("ix_work_status_lease_expires_at"), "work", ["status", "lease_expires_at"], unique=False
    )
    op.create_index(op.f("ix_work_status_rung_at"), "work", ["status", "rung_at"], unique=False)
    op.create_index(
        op.f("ix_work_subject_status_stage"), "work", ["subject", "status", "stage"], unique=False
    )
    op.create_table(
        "jobs",
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("trajectory_id", sa.String(), nullable=True),
        sa.Column("train_dataset_id", sa.String(), nullable=True),
        sa.Column("query_dataset_id", sa.String(), nullable=True),
        sa.Column("query", JSON, nullable=True),
        sa.Column("method", JSON, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint_ids", JSON, nullable=False),
        sa.Column("plan", JSON, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["query_dataset_id"], ["datasets.id"], name=op.f("fk_jobs_query_dataset_id")),
        sa.ForeignKeyConstraint(["train_dataset_id"], ["datasets.id"], name=op.f("fk_jobs_train_dataset_id")),
        sa.ForeignKeyConstraint(["trajectory_id"], ["trajectories.id"], name=op.f("fk_jobs_trajectory_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_project_id_id"), "jobs", ["project_id", "id"], unique=False)
    op.create_index(op.f("ix_jobs_query_dataset_id"), "jobs", ["query_dataset_id"], unique=False)
    op.create_index(op.f("ix_jobs_train_dataset_id"), "jobs", ["train_dataset_id"], unique=False)
    op.create_index(op.f("ix_jobs_trajectory_id"), "jobs", ["trajectory_id"], unique=False)


def downgrade() -> None:

    op.drop_index(op.f("ix_jobs_trajectory_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_train_dataset_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_query_dataset_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_project_id_id"), table_name="jobs")
    op.drop_table("jobs")
    op.drop_index(op.f("ix_work_subject_status_stage"), table_name="work")
    op.drop_index(op.f("ix_work_status_rung_at"), table_name="work")
    op.drop_index(op.f("ix_work_status_lease_expires_at"), table_name="work")
    op.drop_index(op.f("ix_work_result_blob"), table_name="work")
    op.drop_table("work")
    op.drop_index(op.f("ix_datasets_targets_blob"), table_name="datasets")
    op.drop_index(op.f("ix_datasets_source_blob"), table_name="datasets")
    op.drop_index(op.f("ix_datasets_project_id_id"), table_name="datasets")
    op.drop_index(op.f("ix_datasets_inputs_blob"), table_name="datasets")
    op.drop_index(op.f("ix_datasets_ids_blob"), table_name="datasets")
    op.drop_table("datasets")
    op.drop_index(
        "uq_checkpoints_trajectory_id_step",
        table_name="checkpoints",
        sqlite_where=sa.text("status <> 'invalid'"),
        postgresql_where=sa.text("status <> 'invalid'"),
    )
    op.drop_index(op.f("ix_checkpoints_trajectory_id"), table_name="checkpoints")
    op.drop_index(op.f("ix_checkpoints_blob"), table_name="checkpoints")
    op.drop_table("checkpoints")
    op.drop_table("workers")
    op.drop_index(op.f("ix_trajectories_project_id_id"), table_name="trajectories")
    op.drop_table("trajectories")
    op.drop_index(op.f("ix_scores_job_id_score_sample_index"), table_name="scores")
    op.drop_index(op.f("ix_scores_job_id_rank"), table_name="scores")
    op.drop_table("scores")
    op.drop_table("idempotency_keys")
    op.drop_index(
        "uq_events_one_terminal",
        table_name="events",
        sqlite_where=sa.text("terminal"),
        postgresql_where=sa.text("terminal"),
    )
    op.drop_index(op.f("ix_events_subject_id"), table_name="events")
    op.drop_table("events")
    op.drop_table("blobs")
    op.drop_table("api_keys")

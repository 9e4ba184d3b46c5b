"""what exact scores stand on: batch orders, optimizer state, several trajectories, an error for each score

Revision ID: e6dcd9b88d05
Revises: 1d49c7732088
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "e6dcd9b88d05"
down_revision = "1d49c7732088"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
JOBS = sa.table("jobs", sa.column("id"), sa.column("trajectory_id"))
RUNS = sa.table("job_trajectories", sa.column("job_id"), sa.column("position"), sa.column("trajectory_id"))


def upgrade() -> None:
    op.create_table(
        "batch_orders",
        sa.Column("trajectory_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=True),
        sa.Column("info", JSON, nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_batch_orders_blob")),
        sa.ForeignKeyConstraint(
            ["trajectory_id"], ["trajectories.id"], name=op.f("fk_batch_orders_trajectory_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_orders")),
        sa.UniqueConstraint("trajectory_id", name=op.f("uq_batch_orders_trajectory_id")),
    )
    op.create_index(op.f("ix_batch_orders_blob"), "batch_orders", ["blob"], unique=False)
    with op.batch_alter_table("checkpoints") as table:
        table.add_column(sa.Column("optimizer_file", JSON, nullable=True))
        table.add_column(sa.Column("optimizer_blob", sa.String(), nullable=True))
        table.create_index(op.f("ix_checkpoints_optimizer_blob"), ["optimizer_blob"], unique=False)
        table.create_foreign_key(
            op.f("fk_checkpoints_optimizer_blob"), "blobs", ["optimizer_blob"], ["sha256"]
        )
    # Read before the column goes, written once `jobs` stands again: SQLite rebuilds the table, and must not
    # find rows that refer to it.
    named = sa.select(JOBS.c.id, JOBS.c.trajectory_id).where(JOBS.c.trajectory_id.is_not(None))
    runs = [
        {"job_id": job_id, "position": 0, "trajectory_id": trajectory_id}
        for job_id, trajectory_id in op.get_bind().execute(named)
    ]
    with op.batch_alter_table("jobs") as table:
        table.drop_index(op.f("ix_jobs_trajectory_id"))
        table.drop_constraint(op.f("fk_jobs_trajectory_id"), type_="foreignkey")
        table.drop_column("trajectory_id")
        for blob in ("influences_blob", "ranked_blob"):
            table.add_column(sa.Column(blob, sa.String(), nullable=True))
            table.create_index(op.f(f"ix_jobs_{blob}"), [blob], unique=False)
            table.create_foreign_key(op.f(f"fk_jobs_{blob}"), "blobs", [blob], ["sha256"])
    op.create_table(
        "job_trajectories",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("trajectory_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_trajectories_job_id")),
        sa.ForeignKeyConstraint(
            ["trajectory_id"], ["trajectories.id"], name=op.f("fk_job_trajectories_trajectory_id")
        ),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_trajectories")),
    )
    op.create_index(
        op.f("ix_job_trajectories_trajectory_id"), "job_trajectories", ["trajectory_id"], unique=False
    )
    if runs:
        op.bulk_insert(RUNS, runs)
    for column in ("standard_error", "suspicion"):
        op.add_column("scores", sa.Column(column, sa.Double(), nullable=True))
    op.create_index(
        op.f("ix_scores_job_id_suspicion_sample_index"),
        "scores",
        ["job_id", "suspicion", "sample_index"],
        unique=False,
    )


def downgrade() -> None:
    """Jobs over several trajectories keep the first."""
    op.drop_index(op.f("ix_scores_job_id_suspicion_sample_index"), table_name="scores")
    for column in ("suspicion", "standard_error"):
        op.drop_column("scores", column)
    first = sa.select(RUNS.c.job_id, RUNS.c.trajectory_id).where(RUNS.c.position == 0)
    runs = op.get_bind().execute(first).all()
    op.drop_table("job_trajectories")
    with op.batch_alter_table("jobs") as table:
        for blob in ("influences_blob", "ranked_blob"):
            table.drop_constraint(op.f(f"fk_jobs_{blob}"), type_="foreignkey")
            table.drop_index(op.f(f"ix_jobs_{blob}"))
            table.drop_column(blob)
        table.add_column(sa.Column("trajectory_id", sa.String(), nullable=True))
        table.create_index(op.f("ix_jobs_trajectory_id"), ["trajectory_id"], unique=False)
        table.create_foreign_key(op.f("fk_jobs_trajectory_id"), "trajectories", ["trajectory_id"], ["id"])
    for job_id, trajectory_id in runs:
        op.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(trajectory_id=trajectory_id))
    with op.batch_alter_table("checkpoints") as table:
        table.drop_constraint(op.f("fk_checkpoints_optimizer_blob"), type_="foreignkey")
        table.drop_index(op.f("ix_checkpoints_optimizer_blob"))
        table.drop_column("optimizer_blob")
        table.drop_column("optimizer_file")
    op.drop_index(op.f("ix_batch_orders_blob"), table_name="batch_orders")
    op.drop_table("batch_orders")

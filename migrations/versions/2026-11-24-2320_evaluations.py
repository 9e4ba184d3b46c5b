"""evaluations: what each retraining showed

Revision ID: c4a7e0d3b915
Revises: 4c0d7be21a95
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c4a7e0d3b915"
down_revision = "4c0d7be21a95"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_evaluations_blob")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_evaluations_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_evaluations")),
    )
    op.create_index(op.f("ix_evaluations_blob"), "evaluations", ["blob"], unique=False)


def downgrade() -> None:
    """What retrainings showed is lost; the jobs keep their results."""
    op.drop_index(op.f("ix_evaluations_blob"), table_name="evaluations")
    op.drop_table("evaluations")

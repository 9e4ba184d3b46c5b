"""evaluations: what each retraining showed

Revision ID: c4a7e0d3b915
Revises: 7b1f0c52a9de
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c4a7e0d3b915"
down_revision = "7b1f0c52a9de"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("evaluation_blob", sa.String(), nullable=True))
        table.create_index(op.f("ix_jobs_evaluation_blob"), ["evaluation_blob"], unique=False)
        table.create_foreign_key(op.f("fk_jobs_evaluation_blob"), "blobs", ["evaluation_blob"], ["sha256"])


def downgrade() -> None:
    """What retrainings showed is lost; the jobs keep their results."""
    with op.batch_alter_table("jobs") as table:
        table.drop_constraint(op.f("fk_jobs_evaluation_blob"), type_="foreignkey")
        table.drop_index(op.f("ix_jobs_evaluation_blob"))
        table.drop_column("evaluation_blob")

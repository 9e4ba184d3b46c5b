"""columns of scores

Revision ID: 5c1e8f20a7b3
Revises: d27e90b4f6c8
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5c1e8f20a7b3"
down_revision = "d27e90b4f6c8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "score_columns",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_score_columns_blob")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_score_columns_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_score_columns")),
    )
    op.create_index(op.f("ix_score_columns_blob"), "score_columns", ["blob"], unique=False)


def downgrade() -> None:
    """Nothing is lost: what the columns hold is in the table of scores, and is read from there."""
    op.drop_index(op.f("ix_score_columns_blob"), table_name="score_columns")
    op.drop_table("score_columns")

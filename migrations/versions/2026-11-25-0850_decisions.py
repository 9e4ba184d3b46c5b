"""decisions: what each key decided about a job's samples

Revision ID: e81b4c6a9d35
Revises: c3a5d2e81f06
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "e81b4c6a9d35"
down_revision = "c3a5d2e81f06"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sample_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("label", sa.Double(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_decisions_job_id")),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name=op.f("fk_decisions_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "sample_index", "key_id", name=op.f("pk_decisions")),
    )


def downgrade() -> None:
    """What was decided is lost, but for the selections that were made of it."""
    op.drop_table("decisions")

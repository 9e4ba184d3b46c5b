"""jobs of several types: what each was asked, and the states that training has kept so far

Revision ID: 7b1f0c52a9de
Revises: 5b0f3c1a9e27
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "7b1f0c52a9de"
down_revision = "5b0f3c1a9e27"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("request", JSON, nullable=True))
    op.create_table(
        "training_states",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("optimizer_blob", sa.String(), nullable=True),
        sa.Column("optimizer_file", JSON, nullable=True),
        sa.Column("info", JSON, nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_training_states_blob")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_training_states_job_id")),
        sa.ForeignKeyConstraint(
            ["optimizer_blob"], ["blobs.sha256"], name=op.f("fk_training_states_optimizer_blob")
        ),
        sa.PrimaryKeyConstraint("job_id", "step", name=op.f("pk_training_states")),
    )
    for blob in ("blob", "optimizer_blob"):
        op.create_index(op.f(f"ix_training_states_{blob}"), "training_states", [blob], unique=False)


def downgrade() -> None:
    """Jobs of other types stay, without what they were asked."""
    for blob in ("blob", "optimizer_blob"):
        op.drop_index(op.f(f"ix_training_states_{blob}"), table_name="training_states")
    op.drop_table("training_states")
    op.drop_column("jobs", "request")

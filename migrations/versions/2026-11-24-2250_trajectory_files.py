"""files of a trajectory that tell what its network is, by role

Revision ID: 5b0f3c1a9e27
Revises: e6dcd9b88d05
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "5b0f3c1a9e27"
down_revision = "e6dcd9b88d05"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trajectory_files",
        sa.Column("trajectory_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=True),
        sa.Column("info", JSON, nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_trajectory_files_blob")),
        sa.ForeignKeyConstraint(
            ["trajectory_id"], ["trajectories.id"], name=op.f("fk_trajectory_files_trajectory_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trajectory_files")),
    )
    op.create_index(op.f("ix_trajectory_files_blob"), "trajectory_files", ["blob"], unique=False)
    op.create_index(
        op.f("ix_trajectory_files_trajectory_id_role"),
        "trajectory_files",
        ["trajectory_id", "role"],
        unique=True,
    )


def downgrade() -> None:
    """Trajectories that were described by a file keep the name of their architecture alone."""
    op.drop_index(op.f("ix_trajectory_files_trajectory_id_role"), table_name="trajectory_files")
    op.drop_index(op.f("ix_trajectory_files_blob"), table_name="trajectory_files")
    op.drop_table("trajectory_files")

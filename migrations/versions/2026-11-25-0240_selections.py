"""selections: what to do about a job's scores

Revision ID: 3f9a52c6e0d1
Revises: c4a7e0d3b915
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "3f9a52c6e0d1"
down_revision = "c4a7e0d3b915"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "selections",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("num_samples", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_selections_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_selections")),
    )
    op.create_index(op.f("ix_selections_job_id"), "selections", ["job_id"], unique=False)
    op.create_index(op.f("ix_selections_project_id_id"), "selections", ["project_id", "id"], unique=False)
    op.create_table(
        "selection_files",
        sa.Column("selection_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_selection_files_blob")),
        sa.ForeignKeyConstraint(
            ["selection_id"], ["selections.id"], name=op.f("fk_selection_files_selection_id")
        ),
        sa.PrimaryKeyConstraint("selection_id", "role", name=op.f("pk_selection_files")),
    )
    op.create_index(op.f("ix_selection_files_blob"), "selection_files", ["blob"], unique=False)


def downgrade() -> None:
    """What was chosen is lost; the scores it was chosen by stay."""
    op.drop_index(op.f("ix_selection_files_blob"), table_name="selection_files")
    op.drop_table("selection_files")
    op.drop_index(op.f("ix_selections_project_id_id"), table_name="selections")
    op.drop_index(op.f("ix_selections_job_id"), table_name="selections")
    op.drop_table("selections")

"""exports: files of a job's scores

Revision ID: 8f2d61c0a47b
Revises: 3f9a52c6e0d1
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "8f2d61c0a47b"
down_revision = "3f9a52c6e0d1"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("ordered_by", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.String(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_exports_blob")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_exports_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index(op.f("ix_exports_project_id_id"), "exports", ["project_id", "id"], unique=False)
    for column in ("job_id", "blob", "expires_at"):
        op.create_index(op.f(f"ix_exports_{column}"), "exports", [column], unique=False)


def downgrade() -> None:
    """Exports are lost; what they were made from is not."""
    op.execute("DELETE FROM work WHERE kind = 'export'")
    for column in ("job_id", "blob", "expires_at"):
        op.drop_index(op.f(f"ix_exports_{column}"), table_name="exports")
    op.drop_index(op.f("ix_exports_project_id_id"), table_name="exports")
    op.drop_table("exports")

"""audit log: writes that came with a key

Revision ID: b52d7e19c0a4
Revises: c4d80f6a1e57
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "b52d7e19c0a4"
down_revision = "c4d80f6a1e57"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    with op.batch_alter_table("audit_events") as table:
        table.create_index(op.f("ix_audit_events_project_id_id"), ["project_id", "id"], unique=False)
        table.create_index(op.f("ix_audit_events_created_at"), ["created_at"], unique=False)


def downgrade() -> None:
    """The log is lost."""
    op.drop_table("audit_events")

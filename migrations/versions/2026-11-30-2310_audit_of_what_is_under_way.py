"""audit log: lines from before a write, and sign-ins, some of which come with no key

Revision ID: 4d81c0b7e9f2
Revises: c81d5e0a7f34
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4d81c0b7e9f2"
down_revision = "c81d5e0a7f34"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("audit_events") as table:
        table.add_column(sa.Column("address", sa.String(), nullable=True))
        table.alter_column("key_id", existing_type=sa.String(), nullable=True)
        table.alter_column("status", existing_type=sa.Integer(), nullable=True)


def downgrade() -> None:
    """Lines without a key or a status, which the table before had no place for, are lost."""
    op.execute("DELETE FROM audit_events WHERE key_id IS NULL OR status IS NULL")
    with op.batch_alter_table("audit_events") as table:
        table.alter_column("status", existing_type=sa.Integer(), nullable=False)
        table.alter_column("key_id", existing_type=sa.String(), nullable=False)
        table.drop_column("address")

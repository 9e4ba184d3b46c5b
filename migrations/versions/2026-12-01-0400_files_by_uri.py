"""where a data set's or checkpoint's file was named to be

Revision ID: 688ab76501c5
Revises: a41c7be2d08f
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "688ab76501c5"
down_revision = "a41c7be2d08f"
branch_labels = None
depends_on = None

TABLES = ("datasets", "checkpoints")
ERROR = '{"code": "not_fetched", "fault": "service", "detail": "Nobody fetched it.", "errors": []}'


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("uri", sa.String(), nullable=True))


def downgrade() -> None:
    """Where files were named to be is lost; those that nobody has fetched yet become `invalid`."""
    coming = "SELECT subject FROM work WHERE kind = 'fetch' AND status <> 'done'"
    for table in TABLES:
        op.execute(f"UPDATE {table} SET status = 'invalid', error = '{ERROR}' WHERE id IN ({coming})")  # noqa: S608
    op.execute(f"DELETE FROM work WHERE subject IN ({coming})")  # noqa: S608
    op.execute("DELETE FROM work WHERE kind = 'fetch'")
    for table in TABLES:
        op.drop_column(table, "uri")  # in place: a table that others refer to cannot be written anew

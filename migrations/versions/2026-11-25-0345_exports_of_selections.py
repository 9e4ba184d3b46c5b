"""exports of selections

Revision ID: d27e90b4f6c8
Revises: a91c4be07d35
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "d27e90b4f6c8"
down_revision = "a91c4be07d35"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("exports") as table:
        table.add_column(sa.Column("selection_id", sa.String(), nullable=True))
        table.create_foreign_key(op.f("fk_exports_selection_id"), "selections", ["selection_id"], ["id"])
        table.create_index(op.f("ix_exports_selection_id"), ["selection_id"], unique=False)


def downgrade() -> None:
    """Exports of selections are lost; the selections are not."""
    op.execute("DELETE FROM work WHERE subject IN (SELECT id FROM exports WHERE selection_id IS NOT NULL)")
    op.execute("DELETE FROM exports WHERE selection_id IS NOT NULL")
    with op.batch_alter_table("exports") as table:
        table.drop_index(op.f("ix_exports_selection_id"))
        table.drop_constraint(op.f("fk_exports_selection_id"), type_="foreignkey")
        table.drop_column("selection_id")

"""checkpoints: names, notes and metadata as on every resource

Revision ID: c5e09a7d3f14
Revises: 688ab76501c5
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "c5e09a7d3f14"
down_revision = "688ab76501c5"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("name", sa.String(), nullable=False, server_default=""))
    op.add_column("checkpoints", sa.Column("notes", sa.Text(), nullable=False, server_default=""))
    op.add_column("checkpoints", sa.Column("metadata", JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Names, notes and metadata of checkpoints are lost."""
    for column in ("metadata", "notes", "name"):
        op.drop_column("checkpoints", column)  # in place: a table that others refer to cannot be written anew

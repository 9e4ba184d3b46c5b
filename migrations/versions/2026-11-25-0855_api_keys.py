"""api keys: names and notes as on every resource, an end, what came in their place

Revision ID: 7f20c4a9d1b6
Revises: e81b4c6a9d35
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "7f20c4a9d1b6"
down_revision = "e81b4c6a9d35"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("notes", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("metadata", JSON, nullable=False, server_default="{}"))
        table.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("replaced_by", sa.String(), nullable=True))
        table.create_index(op.f("ix_api_keys_project_id_id"), ["project_id", "id"], unique=False)
    with op.batch_alter_table("api_keys") as table:
        table.alter_column("notes", server_default=None)
        table.alter_column("metadata", server_default=None)


def downgrade() -> None:
    """Keys with an end are revoked, as nothing else would end them."""
    op.execute(
        "UPDATE api_keys SET revoked_at = expires_at WHERE expires_at IS NOT NULL AND revoked_at IS NULL"
    )
    with op.batch_alter_table("api_keys") as table:
        table.drop_index(op.f("ix_api_keys_project_id_id"))
        for column in ("replaced_by", "expires_at", "metadata", "notes"):
            table.drop_column(column)

"""what a data set's reader was told, its tokenizer, and its samples as people look at them

Revision ID: 4c0d7be21a95
Revises: 7b1f0c52a9de
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "4c0d7be21a95"
down_revision = "7b1f0c52a9de"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BLOBS = ("tokenizer_blob", "shown_blob")


def upgrade() -> None:
    with op.batch_alter_table("datasets") as table:
        table.add_column(sa.Column("options", JSON, nullable=False, server_default="{}"))
        for blob in BLOBS:
            table.add_column(sa.Column(blob, sa.String(), nullable=True))
            table.create_index(op.f(f"ix_datasets_{blob}"), [blob], unique=False)
            table.create_foreign_key(op.f(f"fk_datasets_{blob}"), "blobs", [blob], ["sha256"])
    with op.batch_alter_table("datasets") as table:  # the default was for the rows there were
        table.alter_column("options", existing_type=JSON, existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("datasets") as table:
        for blob in BLOBS:
            table.drop_constraint(op.f(f"fk_datasets_{blob}"), type_="foreignkey")
            table.drop_index(op.f(f"ix_datasets_{blob}"))
            table.drop_column(blob)
        table.drop_column("options")

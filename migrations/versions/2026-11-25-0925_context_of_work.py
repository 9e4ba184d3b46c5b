"""where work comes from: the request, for logs and traces

Revision ID: 9e0f4b7d2c61
Revises: b52d7e19c0a4
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "9e0f4b7d2c61"
down_revision = "b52d7e19c0a4"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("work") as table:
        table.add_column(sa.Column("context", JSON, nullable=True))


def downgrade() -> None:
    """What is still to be done is done without its request's id in the logs."""
    with op.batch_alter_table("work") as table:
        table.drop_column("context")

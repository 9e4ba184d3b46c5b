"""sessions: signing in to the page

Revision ID: c3a5d2e81f06
Revises: d27e90b4f6c8
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c3a5d2e81f06"
down_revision = "5c1e8f20a7b3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name=op.f("fk_sessions_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )


def downgrade() -> None:
    """Everybody has to sign in again."""
    op.drop_table("sessions")

"""figures: what workers count

Revision ID: c4d80f6a1e57
Revises: 7b3d95e1c2f8
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c4d80f6a1e57"
down_revision = "7b3d95e1c2f8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "figures",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("le", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "kind", "le", name=op.f("pk_figures")),
    )


def downgrade() -> None:
    """Counters begin at zero again."""
    op.drop_table("figures")

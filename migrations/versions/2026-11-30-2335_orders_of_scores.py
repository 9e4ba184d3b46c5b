"""orders of scores: an index for self-influence, and suspicion's in the direction it is asked for

Revision ID: 7d2f60c3b915
Revises: 4d81c0b7e9f2
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "7d2f60c3b915"
down_revision = "4d81c0b7e9f2"
branch_labels = None
depends_on = None

OLD = "ix_scores_job_id_suspicion_sample_index"
FALLING = ("suspicion", "self_influence")


def upgrade() -> None:
    op.drop_index(op.f(OLD), table_name="scores")
    for name in FALLING:
        there, falls = sa.text(f"{name} IS NOT NULL"), sa.text(f"{name} DESC")
        op.create_index(
            f"ix_scores_{name}",
            "scores",
            ["job_id", falls, "sample_index"],
            postgresql_where=there,
            sqlite_where=there,
        )


def downgrade() -> None:
    for name in FALLING:
        op.drop_index(f"ix_scores_{name}", table_name="scores")
    op.create_index(op.f(OLD), "scores", ["job_id", "suspicion", "sample_index"])

"""whose work it is, and when they were last served: turns between projects

Revision ID: c81d5e0a7f34
Revises: 9e0f4b7d2c61
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c81d5e0a7f34"
down_revision = "9e0f4b7d2c61"
branch_labels = None
depends_on = None

# where the project of a unit's subject stands
OWNED = ("jobs", "selections", "exports", "datasets", "webhook_deliveries")
OF_TRAJECTORIES = ("checkpoints", "batch_orders", "trajectory_files")


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("whose", sa.String(), nullable=False),
        sa.Column("served_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("whose", name=op.f("pk_turns")),
    )
    with op.batch_alter_table("work") as table:
        table.add_column(sa.Column("project_id", sa.String(), nullable=False, server_default="default"))
    for owner in OWNED:
        op.execute(
            f"UPDATE work SET project_id = o.project_id FROM {owner} AS o WHERE o.id = work.subject"  # noqa: S608
        )
    for part in OF_TRAJECTORIES:
        op.execute(
            f"UPDATE work SET project_id = t.project_id FROM {part} AS p "  # noqa: S608
            "JOIN trajectories AS t ON t.id = p.trajectory_id WHERE p.id = work.subject"
        )
    with op.batch_alter_table("work") as table:
        table.alter_column("project_id", server_default=None)
        table.create_index(op.f("ix_work_queue_status_project_id"), ["queue", "status", "project_id"])


def downgrade() -> None:
    """Work is done in the order of its messages again."""
    with op.batch_alter_table("work") as table:
        table.drop_index(op.f("ix_work_queue_status_project_id"))
        table.drop_column("project_id")
    op.drop_table("turns")

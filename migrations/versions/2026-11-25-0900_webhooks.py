"""webhooks, and work that is due later

Revision ID: 7b3d95e1c2f8
Revises: 7f20c4a9d1b6
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "7b3d95e1c2f8"
down_revision = "7f20c4a9d1b6"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("previous_salt", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(op.f("ix_webhook_endpoints_project_id_id"), "webhook_endpoints", ["project_id", "id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("ordered_by", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("log", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_deliveries_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    for name, columns in INDEXES.items():
        op.create_index(op.f(name), "webhook_deliveries", columns)
    with op.batch_alter_table("work") as table:
        table.add_column(sa.Column("due_at", sa.Double(), nullable=True))
        table.create_index(op.f("ix_work_queue_status_due_at"), ["queue", "status", "due_at"])


INDEXES = {
    "ix_webhook_deliveries_project_id_id": ["project_id", "id"],
    "ix_webhook_deliveries_endpoint_id_ordered_by_id": ["endpoint_id", "ordered_by", "id"],
    "ix_webhook_deliveries_status_created_at": ["status", "created_at"],
    "ix_webhook_deliveries_created_at": ["created_at"],
}


def downgrade() -> None:
    """Endpoints and messages are lost; what the messages told of is not."""
    op.execute("DELETE FROM work WHERE kind = 'deliver'")
    with op.batch_alter_table("work") as table:
        table.drop_index(op.f("ix_work_queue_status_due_at"))
        table.drop_column("due_at")
    for name in INDEXES:
        op.drop_index(op.f(name), table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_index(op.f("ix_webhook_endpoints_project_id_id"), table_name="webhook_endpoints")
    op.drop_table("webhook_endpoints")

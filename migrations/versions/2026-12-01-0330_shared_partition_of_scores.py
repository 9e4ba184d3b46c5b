"""a partition of scores that small jobs share

On PostgreSQL every job had one of its own. The large ones are attached again as they are, with another
primary key; rows of small jobs are copied.

Revision ID: a41c7be2d08f
Revises: 7d2f60c3b915
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from alembic import op

revision = "a41c7be2d08f"
down_revision = "7d2f60c3b915"
branch_labels = None
depends_on = None

SMALL = 50_000
COLUMNS = (
    "job_id, sample_index, sample_id, score, rank, self_influence, label, predicted_label, loss, "
    "contributions, losses, standard_error, suspicion"
)
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{}'::regclass"
CHECKS = "SELECT conname FROM pg_constraint WHERE conrelid = '{}'::regclass AND contype = 'c'"


class Part(NamedTuple):
    """One job's rows in a table of their own, attached to nothing."""

    table: str
    job_id: str
    rows: int


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.add_column("scores", sa.Column("large", sa.Boolean(), nullable=False, server_default=sa.false()))
        return
    parts = _detached("scores")
    op.drop_table("scores")
    _create(sa.Column("large", sa.Boolean(), nullable=False), by="large")
    op.execute("CREATE TABLE scores_small PARTITION OF scores FOR VALUES IN (false)")
    sub = "FOR VALUES IN (true) PARTITION BY LIST (job_id)"
    op.execute(f"CREATE TABLE scores_large PARTITION OF scores {sub}")
    for part in parts:
        if part.rows > SMALL:
            op.execute(f"ALTER TABLE {part.table} ADD COLUMN large boolean NOT NULL DEFAULT true")
            check = f"large = true AND job_id = '{part.job_id}'"
            _attach(part, "scores_large", "job_id, sample_index, large", check)
        else:
            rows = f"SELECT false, {COLUMNS} FROM {part.table}"  # noqa: S608
            op.execute(f"INSERT INTO scores (large, {COLUMNS}) {rows}")
            op.drop_table(part.table)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("ALTER TABLE scores DROP COLUMN large")
        return
    large = _detached("scores_large")
    op.execute("ALTER TABLE scores DETACH PARTITION scores_small")
    op.drop_table("scores")  # and scores_large with it
    _create(by="job_id")
    for part in large:
        for check in _rows(CHECKS.format(part.table)):
            op.drop_constraint(check, part.table)
        op.drop_column(part.table, "large")  # and the primary key with it
        _attach(part, "scores", "job_id, sample_index", f"job_id = '{part.job_id}'")
    for job_id in _rows("SELECT DISTINCT job_id FROM scores_small"):
        name = f"scores_{job_id.replace('-', '_')}"
        op.execute(f"CREATE TABLE {name} PARTITION OF scores FOR VALUES IN ('{job_id}')")
        rows = f"SELECT {COLUMNS} FROM scores_small WHERE job_id = '{job_id}'"  # noqa: S608
        op.execute(f"INSERT INTO {name} ({COLUMNS}) {rows}")
    op.drop_table("scores_small")


def _rows(query: str) -> list[str]:
    return list(op.get_bind().execute(sa.text(query)).scalars())


def _detached(parent: str) -> list[Part]:
    found = []
    for name in _rows(PARTITIONS.format(parent)):
        op.execute(f"ALTER TABLE {parent} DETACH PARTITION {name}")
        query = sa.text(f"SELECT count(*), min(job_id) FROM {name}")  # noqa: S608
        rows, job_id = op.get_bind().execute(query).one()
        found.append(Part(name, job_id, rows))
    return found


def _attach(part: Part, parent: str, key: str, check: str) -> None:
    """What the parent asks is made first, so that attaching finds it and reads no row."""
    op.execute(
        f"ALTER TABLE {part.table} DROP CONSTRAINT IF EXISTS {part.table}_pkey, ADD PRIMARY KEY ({key})"
    )
    op.execute(f"ALTER TABLE {part.table} ADD CHECK ({check})")
    op.execute(f"ALTER TABLE {parent} ATTACH PARTITION {part.table} FOR VALUES IN ('{part.job_id}')")


def _create(*more: sa.Column[bool], by: str) -> None:
    key = "job_id", "sample_index", *(one.name for one in more)
    op.create_table(
        "scores",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sample_index", sa.BigInteger(), autoincrement=False, nullable=False),
        *more,
        sa.Column("sample_id", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("self_influence", sa.Double(), nullable=True),
        sa.Column("label", sa.Double(), nullable=True),
        sa.Column("predicted_label", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("contributions", sa.LargeBinary(), nullable=False),
        sa.Column("losses", sa.LargeBinary(), nullable=False),
        sa.Column("standard_error", sa.Double(), nullable=True),
        sa.Column("suspicion", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_scores")),
        postgresql_partition_by=f"LIST ({by})",
    )
    op.create_index(op.f("ix_scores_job_id_rank"), "scores", ["job_id", "rank"])
    op.create_index(
        op.f("ix_scores_job_id_score_sample_index"), "scores", ["job_id", "score", "sample_index"]
    )
    for name in ("suspicion", "self_influence"):
        falls, there = sa.text(f"{name} DESC"), sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"ix_scores_{name}", "scores", ["job_id", falls, "sample_index"], postgresql_where=there
        )

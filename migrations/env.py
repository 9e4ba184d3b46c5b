"""What Alembic runs: on the address given to `migrations.upgrade`, or the service's own settings."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import text

from app.settings import Settings
from app.store.db import Json, Utc, connect
from app.store.tables import Base

LOCK = 0x6469_6666  # two processes that migrate at once take turns


FALLING = {"ix_scores_suspicion", "ix_scores_self_influence"}


def ours(_object: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Partitions of `scores` are where its rows are, and come and go with jobs: no tables of the schema.
    SQLite's reflection does not tell which way a column of an index goes.
    """
    if kind == "index" and name in FALLING:
        return context.get_context().dialect.name != "sqlite"
    return not (reflected and kind in ("table", "index") and (name or "").startswith("scores_"))


def plainly(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Our column types as the plain ones they are in the schema, so that a migration needs no model."""
    if kind == "type" and isinstance(item, Utc):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and item is Json:
        return "JSON"
    return False


def run() -> None:
    url = context.config.attributes.get("database_url") or Settings().database_url
    engine = connect(url)
    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=ours,
            compare_type=True,
            render_as_batch=connection.dialect.name == "sqlite",
            render_item=plainly,
        )
        context.run_migrations()
    engine.dispose()


run()

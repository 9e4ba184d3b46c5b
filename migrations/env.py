"""What Alembic runs: on the address given to `migrations.upgrade`, or the service's own settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, text

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
    with engine.connect() as connection, _rewriting(connection), connection.begin():
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
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(f"rows would refer to nothing: {broken[:5]}")
    engine.dispose()


@contextmanager
def _rewriting(connection: Connection) -> Iterator[None]:
    """SQLite changes a table by writing it anew, and refuses that where rows of others refer to it, unless
    foreign keys are off from before the transaction on (https://sqlite.org/lang_altertable.html#otheralter).
    """
    raw = connection.connection.driver_connection if connection.dialect.name == "sqlite" else None
    if raw is not None:
        raw.execute("PRAGMA foreign_keys = OFF")
    yield
    if raw is not None:
        raw.execute("PRAGMA foreign_keys = ON")


run()

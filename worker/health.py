"""`python -m worker.health`: exit 0 while a worker of this host is alive, for a container's health check."""

from __future__ import annotations

import socket
import sys

from app.settings import Settings
from app.store import workers
from app.store.db import Database

# A worker beats once a second; one that is late by this much hangs.
SILENT_SECONDS = 30.0


def healthy(database: Database, host: str) -> bool:
    """Whether a worker on `host` was heard of lately. Workers are named `host:pid`."""
    with database.snapshot() as session:
        return any(w.id.rpartition(":")[0] == host for w in workers.alive(session, SILENT_SECONDS))


def main() -> int:
    if healthy(Database(Settings().database_url), socket.gethostname()):
        return 0
    print(f"no worker of {socket.gethostname()} in the last {SILENT_SECONDS:.0f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())

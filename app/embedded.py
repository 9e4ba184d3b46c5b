"""The service in one command: migrate, then API and separate workers, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from app import front_end
from app.settings import Settings
from app.store import keys, sessions
from app.store.db import Database
from app.supervision import COMMAND, Supervised, end_on_sigterm

LINK_SECONDS = 600.0


def serve(settings: Settings | None = None) -> None:
    """Serves API and workers; all are stopped, and the work in hand finished, before this returns."""
    settings = settings or Settings()
    front_end.refuse_guessable(settings)
    front_end.refuse_taken(settings)  # before a worker is started
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    subprocess.run([*COMMAND, "migrate"], check=True)
    end_on_sigterm()
    workers = [Worker() for _ in range(settings.workers)]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
    print(f"diffin  {address}  docs at /docs\nkey     {settings.first_key}", flush=True)
    if (link := _invitation(settings)) is not None:
        print(f"page    {address}/sign-in?link={link}  (works once, for 10 minutes)", flush=True)
    try:
        with suppress(KeyboardInterrupt):
            front_end.answer(settings)
    finally:
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.wait()


class Worker(Supervised):
    """A worker process."""

    name = "the worker"

    def start(self) -> subprocess.Popen[bytes]:
        # A session of its own keeps Ctrl-C, sent to a terminal's whole group, from reaching the worker.
        environment = os.environ | {"DIFFIN_EXIT_WITH_PARENT": "1"}
        return subprocess.Popen([*COMMAND, "worker"], start_new_session=True, env=environment)


def _invitation(settings: Settings) -> str | None:
    """A token that signs a browser in, so that nobody has to paste the key; None once that is revoked."""
    database = Database(settings.database_url)
    with database.transaction() as session:
        keys.ensure_first(session, settings.secret, settings.first_key)
        key = keys.find(session, settings.secret, settings.first_key)
        token = sessions.invite(session, settings.secret, key.id, LINK_SECONDS) if key else None
    database.engine.dispose()
    return token

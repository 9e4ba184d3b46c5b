"""How a worker comes back to a broker that was away: soon, since work may wait behind it."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker import consumer
from celery.worker.state import maybe_shutdown

log = logging.getLogger(__name__)
PAUSE_SECONDS = 0.5


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's, which waits 2 s, 4 s, up to 30 s from one try to the next."""

    def ensure_connected(self, conn: Any) -> Any:
        """Tries twice a second until the broker answers, or the worker is asked to stop."""
        told = False

        def tell(problem: Exception, _pause: float) -> None:
            nonlocal told
            if not told:
                log.warning("the broker is out of reach (%s); trying again", problem)
            told = True

        pauses = {"interval_start": PAUSE_SECONDS, "interval_step": 0, "interval_max": PAUSE_SECONDS}
        connected = conn.ensure_connection(tell, callback=maybe_shutdown, **pauses)
        self.first_connection_attempt = False
        return connected

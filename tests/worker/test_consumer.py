"""A worker whose broker was away is back soon after it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

from kombu import Connection

from tests import servers
from worker.celery import celery
from worker.consumer import Consumer

AWAY = 3.0


def test_it_is_back_within_a_second_of_the_broker() -> None:
    assert celery.conf.worker_consumer == "worker.consumer:Consumer"
    with servers.controlled_redis() as redis, Connection(f"{redis.url}/0") as connection:
        redis.stop()
        started: list[float] = []

        def start() -> None:
            time.sleep(AWAY)
            redis.start()
            started.append(time.monotonic())

        other = threading.Thread(target=start)
        other.start()
        nobody: Any = SimpleNamespace()  # all that is asked of it is to connect
        assert Consumer.ensure_connected(nobody, connection) is not None
        connected = time.monotonic()
        other.join()
        assert connected - started[0] < 1

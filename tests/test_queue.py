"""The doorbell rings, and a broker out of reach harms no request."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from app import queue
from app.settings import Settings
from app.store.db import Message

MESSAGE = Message("diffin.score", "a work id", 3, "gpu")


def test_a_ring_names_the_task_the_unit_and_its_attempt(tmp_path: Path) -> None:
    celery = queue.producer(Settings(data_dir=tmp_path))
    queue.ring(celery, [MESSAGE])
    queue.check(celery)
    celery.close()
    (file,) = (tmp_path / "broker" / "messages").iterdir()
    message = json.loads(file.read_text())
    assert message["headers"]["task"] == "diffin.score"
    assert message["properties"]["delivery_info"]["routing_key"] == "gpu"
    assert json.loads(base64.b64decode(message["body"]))[0] == ["a work id", 3]


def test_a_ring_reaches_redis(redis_url: str, tmp_path: Path) -> None:
    celery = queue.producer(Settings(data_dir=tmp_path, broker_url=redis_url))
    queue.ring(celery, [MESSAGE, MESSAGE])
    queue.check(celery)
    with celery.connection_for_read() as connection:
        assert connection.default_channel.client.llen("gpu") == 2
    celery.close()


@pytest.fixture(params=["refuses", "is silent"])
def deaf_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that nobody listens at, or where connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        if request.param == "refuses":
            server.close()
        yield port


def test_a_broker_out_of_reach_is_logged_and_soon_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, deaf_port: int
) -> None:
    celery = queue.producer(Settings(data_dir=tmp_path, broker_url=f"redis://127.0.0.1:{deaf_port}/0"))
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        queue.ring(celery, [MESSAGE])
    assert time.monotonic() - started < 10
    assert "sweeper" in caplog.text
    with pytest.raises((OperationalError, OSError)):
        queue.check(celery)
    celery.close()

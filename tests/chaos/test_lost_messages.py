"""A broker that forgets: the database knows what is to be done, and the sweeper rings again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import redis

from tests import services, walk
from tests.servers import PostgresServer

LEASE = {"LEASE_SECONDS": "1"}


@pytest.mark.slow
def test_work_whose_message_was_lost_with_the_brokers_files_is_done(tmp_path: Path) -> None:
    service = services.prepared(tmp_path, **LEASE)
    service.migrate()
    with service.running("api", "api"), service.client() as client:
        services.wait_for_http(service)
        x, y = walk.digits(50)
        posted = walk.ok(walk.post_dataset(client, walk.npz(inputs=x, targets=y)), 202)
        messages = list((tmp_path / "broker" / "messages").iterdir())
        assert messages, "the doorbell rang"
        shutil.rmtree(tmp_path / "broker")
        (tmp_path / "broker" / "messages").mkdir(parents=True)
        (tmp_path / "broker" / "control").mkdir(parents=True)
        with service.running("worker", "worker"):
            body = walk.until(client, f"/v1/datasets/{posted['id']}", {"ready", "invalid"}, seconds=60)
            assert body["status"] == "ready"


def test_work_whose_message_went_with_a_flush_of_redis_is_done(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str, redis_url: str
) -> None:
    with postgres.fresh(postgres_template) as url:
        urls = {"DATABASE_URL": url, "BROKER_URL": redis_url, "SECRET_KEY": "s"}
        service = services.prepared(tmp_path, **LEASE, **urls)
        with service.running("api", "api"), service.client() as client:
            services.wait_for_http(service)
            x, y = walk.digits(50)
            posted = walk.ok(walk.post_dataset(client, walk.npz(inputs=x, targets=y)), 202)
            with redis.Redis.from_url(redis_url) as broker:
                assert broker.keys("*"), "the doorbell rang"
                broker.flushdb()
            with service.running("worker", "worker"):
                body = walk.until(client, f"/v1/datasets/{posted['id']}", {"ready", "invalid"}, seconds=60)
                assert body["status"] == "ready"

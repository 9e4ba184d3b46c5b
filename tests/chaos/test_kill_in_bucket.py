"""API and workers share database, broker and bucket, nothing else: files go both ways, a worker may die."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from tests import buckets, servers, services, walk
from tests.chaos.processes import kill
from tests.chaos.test_kill import SLOWLY, ask, ends_as, submitted, undisturbed, wait_for_the_middle
from tests.contract.test_uploads import PART, uploaded
from tests.servers import PostgresServer
from tests.services import Service


@pytest.fixture(scope="module")
def store(s3_server: str) -> S3Store:
    """What lies in the bucket, below the service's prefix."""
    return buckets.store(s3_server, buckets.made(s3_server), "blobs")


@pytest.fixture(scope="module")
def machines(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    redis_server: str,
    s3_server: str,
    store: S3Store,
) -> Iterator[tuple[Service, dict[str, Service]]]:
    """(the API, and two workers by name), each with a data folder of its own."""
    folder = tmp_path_factory.mktemp("machines")
    with postgres.fresh() as url, ExitStack() as stack:
        urls = {"DATABASE_URL": url, "BROKER_URL": f"{redis_server}/2", "SECRET_KEY": "secret-of-the-tests"}
        urls["BLOB_URL"] = f"s3://{store.config['bucket']}/blobs"
        api = services.prepared(folder / "api", THREADS="1", **SLOWLY | urls)
        api.environment.update(servers.s3_environment(s3_server))
        api.migrate()
        stack.enter_context(api.running("api", "api"))
        workers = {}
        for name in ("worker 1", "worker 2"):
            (own := folder / name).mkdir()
            environment = api.environment | {"DIFFIN_DATA_DIR": str(own)}
            workers[name] = replace(api, data_dir=own, environment=environment, processes={})
            stack.enter_context(workers[name].running(name, "worker"))
        api.wait_until_ready()
        yield api, workers


def lying(store: S3Store) -> set[str]:
    return {one["path"] for some in obstore.list(store) for one in some}


@pytest.mark.slow
def test_a_worker_dies_and_the_other_ends_its_job(
    machines: tuple[Service, dict[str, Service]], store: S3Store
) -> None:
    api, workers = machines
    with api.client() as client:
        question = ask(client)
        expected = undisturbed(client, question)
        job_id = submitted(client, question)
        wait_for_the_middle(client, job_id, 0)
        kill(workers["worker 1"].processes["worker 1"].pid)
        ends_as(client, job_id, expected)
        assert not [path for path in (api.data_dir / "blobs").glob("??/*") if path.is_file()]
        assert lying(store)


@pytest.mark.slow
def test_files_in_parts_go_up_and_exports_come_down_in_parts(
    machines: tuple[Service, dict[str, Service]], store: S3Store
) -> None:
    api, _ = machines
    with api.client() as client:
        x, y = walk.digits(300)
        content = walk.npz(inputs=x, targets=y)
        assert len(content) > PART
        upload = uploaded(client, content, "d.npz")
        made = walk.ok(client.post("/v1/datasets", json={"upload_id": upload, "name": "d"}), 202)
        walk.ok(client.delete(f"/v1/uploads/{upload}"), 204)
        assert walk.until(client, f"/v1/datasets/{made['id']}", {"ready", "invalid"})["status"] == "ready"
        sample = walk.ok(client.get(f"/v1/datasets/{made['id']}/samples/7"), 200)
        assert np.allclose(sample["values"], x[7])
        job = walk.ok(walk.post_job(client, walk.run(client), made["id"], made["id"]), 202)["id"]
        assert walk.finished(client, job)["status"] == "succeeded"
        body = {"job_id": job, "format": "csv"}
        export = walk.ok(client.post("/v1/exports", json=body), 202)
        export = walk.until(client, f"/v1/exports/{export['id']}", {"succeeded", "failed"})
        whole = client.get(export["content_url"])
        assert hashlib.sha256(whole.content).hexdigest() == export["sha256"]
        assert int(whole.headers["content-length"]) == export["bytes"] == len(whole.content)
        spans = [client.get(export["content_url"], headers={"Range": f"bytes={s}"}) for s in ("0-99", "100-")]
        assert [one.status_code for one in spans] == [206, 206]
        assert b"".join(one.content for one in spans) == whole.content
        before = lying(store)
        walk.ok(client.delete(f"/v1/jobs/{job}"), 204)
        walk.ok(client.delete(f"/v1/datasets/{made['id']}"), 204)
        gone = before - lying(store)
        assert any(export["sha256"] in location for location in gone)
        assert len(gone) >= 4  # inputs, targets, the export, the scores by column

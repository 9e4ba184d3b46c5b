"""docs/operations.md: what it says of the metrics is true, and its commands bring a lost deployment back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from app.doctor import examine
from app.settings import Settings
from tests import services, walk
from tests.servers import PostgresServer
from tests.services import Service

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def block(name: str) -> str:
    found = re.search(rf"```sh {name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, name
    return found[1]


def shell(script: str, environment: dict[str, str], **more: str) -> None:
    """Runs a block of the page with `diffin` and `python` as they are installed."""
    here = str(Path(sys.executable).parent)
    path = f"{here}:{environment['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    ran = subprocess.run(command, env=environment | {"PATH": path} | more, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def plain(url: str) -> str:
    """The address as PostgreSQL's own programs read it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def test_a_lost_deployment_comes_back_from_its_backup(
    production_service: Service, postgres: PostgresServer, redis_server: str, tmp_path: Path
) -> None:
    x, y = walk.digits(20)
    with production_service.client() as client:
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        asked = walk.post_job(client, walk.run(client, (10,)), data, data, method={"name": "tracin"})
        job_id = walk.finished(client, walk.ok(asked, 202)["id"])["id"]
        expected = walk.scores(client, job_id)
        sample = client.get(f"/v1/datasets/{data}/samples/3").json()
    environment = production_service.environment
    here = {"DATABASE": plain(environment["DIFFIN_DATABASE_URL"]), "BACKUP": str(tmp_path)}
    blobs = production_service.data_dir / "blobs"
    shell(block("backup"), environment, BLOBS=str(blobs), **here)

    with postgres.fresh() as url:  # everything is lost: another database, another folder, another broker
        folder = tmp_path / "restored"
        secret = environment["DIFFIN_SECRET_KEY"]
        service = services.prepared(
            folder, DATABASE_URL=url, BROKER_URL=f"{redis_server}/7", SECRET_KEY=secret
        )
        place = {"DATABASE": plain(url), "BLOBS": str(folder / "blobs"), "BACKUP": str(tmp_path)}
        shell(block("restore"), service.environment, **place)
        with service.running("api", "api"), service.client() as client:
            services.wait_for_http(service)
            assert walk.scores(client, job_id) == expected
            assert client.get(f"/v1/datasets/{data}/samples/3").json() == sample
        shell(block("downgrade"), service.environment)
        wrong = list(examine(Settings(data_dir=folder, database_url=url, broker_url=f"{redis_server}/7")))
        assert "diffin migrate" in next(one.mend for one in wrong if one.part == "migrations")
        service.migrate()
        with service.running("api", "api"), service.client() as client:
            services.wait_for_http(service)
            assert walk.scores(client, job_id) == expected

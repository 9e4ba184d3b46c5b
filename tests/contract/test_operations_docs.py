"""docs/operations.md: its commands make keys and projects, and bring a lost deployment back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.doctor import examine
from app.settings import Settings
from diffin import Diffin
from diffin.errors import DiffinError
from tests import services, walk
from tests.servers import PostgresServer
from tests.services import Service

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def block(name: str) -> str:
    found = re.search(rf"```sh {name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, name
    return found[1]


def shell(script: str, environment: dict[str, str], **more: str) -> str:
    """Runs a block of the page with `diffin` and `python` as they are installed, and gives what it prints."""
    here = str(Path(sys.executable).parent)
    path = f"{here}:{environment['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    environment = environment | {"PATH": path} | more
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def plain(url: str) -> str:
    """The address as PostgreSQL's own programs read it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def test_keys_are_made_for_a_second_project_replaced_and_ended(
    embedded_service: Service, tmp_path: Path
) -> None:
    inside = f"cd '{tmp_path}'\n"
    environment = embedded_service.environment | {"DIFFIN_URL": embedded_service.url, "COLUMNS": "200"}
    table = shell(inside + block("keys"), environment)
    assert all(name in table for name in ("nightly", "dashboard", "lead"))
    url, texts = embedded_service.url, {one.stem: one.read_text().strip() for one in tmp_path.glob("*.key")}
    with Diffin(url, texts["lead"]) as lead, Diffin(url, texts["dashboard"]) as dashboard:
        assert [one.project_id for one in lead.keys(status="live")] == ["vision"]  # its admin
        assert list(dashboard.jobs(limit=1)) is not None
        with pytest.raises(DiffinError, match="scope 'write'"):
            dashboard.cancel("job_x")

    with Diffin(url, embedded_service.key) as operator:
        ids = {one.name: one.id for one in operator.keys(status="live")}
        shell(inside + block("rotate"), environment, KEY=ids["nightly"], OTHER_KEY=ids["dashboard"])
        status = {one.id: one.status for one in operator.keys(limit=20)}
    assert (status[ids["nightly"]], status[ids["dashboard"]]) == ("live", "revoked")
    made, listed = map(json.loads, shell(block("keys-http"), environment).splitlines())
    assert (made["project_id"], made["scopes"]) == ("vision", ["read", "write"])
    assert {one["name"] for one in listed["data"]} == {"lead", "training"}


@pytest.mark.slow
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

"""`diffin doctor` finds each thing that is broken, and says what to mend."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from pydantic import SecretStr

import migrations
from app.doctor import Finding, examine
from app.settings import Settings
from app.store import keys, workers
from app.store.db import Database
from tests import buckets, servers, services
from tests.receivers import receiving
from tests.services import Service

SECRET, KEY = "the secret", "the key"


@pytest.fixture
def sound(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, Any]:
    """The settings of a deployment that stands, with a worker's heartbeat."""
    settings: dict[str, Any] = {
        "data_dir": tmp_path,
        "database_url": database_url,
        "secret_key": SecretStr(SECRET),
        "api_key": SecretStr(KEY),
        "max_upload_bytes": 1000,
        "port": 0,  # where no API is looked for
    }
    if not database_url.startswith("sqlite"):
        settings["broker_url"] = redis_url
    database = Database(database_url)
    with database.transaction() as session:
        keys.ensure_first(session, SECRET.encode(), KEY)
    database.engine.dispose()
    beat(database_url)
    return settings


def beat(url: str, queues: tuple[str, ...] = ("cpu", "gpu"), version: str = "") -> None:
    from importlib import metadata

    database = Database(url)
    with database.transaction() as session:
        workers.beat(session, "host:1", list(queues), "cpu", version or metadata.version("diffin"))
    database.engine.dispose()


def found(settings: dict[str, Any], **changes: Any) -> dict[str, Finding]:
    """What is not well, by part."""
    now, url = changes.pop("now", time.time), changes.pop("url", None)
    return {one.part: one for one in examine(Settings(**settings | changes), now, url=url) if one.mend}


def test_a_deployment_that_stands_has_no_findings(sound: dict[str, Any]) -> None:
    assert found(sound) == {}


def test_a_database_that_does_not_answer(sound: dict[str, Any]) -> None:
    wrong = found(sound, database_url="postgresql://diffin@127.0.0.1:1/diffin", broker_url="redis://x")
    assert "DIFFIN_DATABASE_URL" in wrong["database"].mend


def test_a_schema_that_is_behind(sound: dict[str, Any]) -> None:
    command.downgrade(migrations.config(sound["database_url"]), "-1")
    assert "diffin migrate" in found(sound)["migrations"].mend


def test_a_clock_that_is_off(sound: dict[str, Any]) -> None:
    assert "60" in found(sound, now=lambda: time.time() - 60)["clock"].found


def test_another_secret_than_the_keys_were_made_with(sound: dict[str, Any]) -> None:
    wrong = found(sound, secret_key=SecretStr("another"))
    assert "DIFFIN_SECRET_KEY" in wrong["keys"].mend


def test_no_worker_or_one_of_another_version_or_for_half_of_the_work(sound: dict[str, Any]) -> None:
    beat(sound["database_url"], version="0.0.1")
    assert "0.0.1" in found(sound)["workers"].found
    beat(sound["database_url"], queues=("cpu",))
    assert "--queues gpu" in found(sound)["workers"].mend
    database = Database(sound["database_url"])
    with database.transaction() as session:
        workers.gone(session, "host:1")
    database.engine.dispose()
    assert "diffin worker" in found(sound)["workers"].mend


def test_a_broker_that_does_not_answer(sound: dict[str, Any]) -> None:
    assert "DIFFIN_BROKER_URL" in found(sound, broker_url="redis://127.0.0.1:1/0")["broker"].mend


def test_storage_that_is_full_or_is_no_folder(sound: dict[str, Any], tmp_path: Path) -> None:
    assert "free" in found(sound, max_upload_bytes=2**60)["storage"].found
    (tmp_path / "file").write_text("no folder")
    wrong = found(sound, blob_url=(tmp_path / "file").as_uri())
    assert "DIFFIN_BLOB_URL" in wrong["storage"].mend


def test_files_that_others_can_read(sound: dict[str, Any], tmp_path: Path) -> None:
    if not sound["database_url"].startswith("sqlite"):
        return
    file = tmp_path / "diffin.db"
    file.touch(0o644)
    tmp_path.chmod(0o755)
    wrong = found(sound)["files"]
    assert f"chmod -R go= {tmp_path}" in wrong.mend
    for private in (file, tmp_path):
        private.chmod(private.stat().st_mode & 0o700)
        assert "files" not in found(sound)
        private.chmod(private.stat().st_mode | 0o55)


def test_a_bucket_that_is_not_there(
    sound: dict[str, Any], s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = buckets.reached(s3_server, monkeypatch)
    wrong = found(sound, blob_url="s3://no-such-bucket")["storage"]
    assert "s3://no-such-bucket: " in wrong.found
    assert "AWS_ENDPOINT_URL" in wrong.mend
    assert "storage" not in found(sound, blob_url=f"s3://{there}")


def test_settings_that_contradict(sound: dict[str, Any]) -> None:
    if sound["database_url"].startswith("sqlite"):
        assert "DIFFIN_DATABASE_URL" in found(sound, broker_url="redis://127.0.0.1:1")["settings"].mend
        wrong = found(sound, host="0.0.0.0", api_key=None)  # noqa: S104  (what is warned of)
        assert "DIFFIN_API_KEY" in wrong["settings"].mend
    else:
        assert "DIFFIN_SECRET_KEY" in found(sound, secret_key=None)["settings"].mend
        assert "DIFFIN_BROKER_URL" in found(sound, broker_url="")["settings"].mend
    assert "DIFFIN_WEBHOOK_LOG_DAYS" in found(sound, webhook_log_days=1)["settings"].mend


def test_an_api_that_is_gone(sound: dict[str, Any]) -> None:
    port = servers.free_port()
    assert f"127.0.0.1:{port}" in found(sound, url=f"http://127.0.0.1:{port}")["api"].found
    if sound["database_url"].startswith("sqlite"):
        wrong = found(sound, port=port)["api"]
        assert f"127.0.0.1:{port}" in wrong.found and "diffin serve" in wrong.mend
        assert f"[::1]:{port}" in found(sound, port=port, host="::", api_key=SecretStr("k" * 9))["api"].found
    else:  # it may be on any machine
        told = [one for one in examine(Settings(**sound | {"port": port})) if one.part == "api"]
        assert "DIFFIN_URL" in told[0].found and told[0].mend == ""


def test_an_address_that_is_none_or_another_programs(sound: dict[str, Any]) -> None:
    assert "--url" in found(sound, url="http://[")["api"].mend
    with receiving() as other:
        wrong = found(sound, url=other.url.rstrip("/"))["api"]
    assert "another program" in wrong.found


def test_an_api_that_is_not_ready(sound: dict[str, Any], tmp_path: Path) -> None:
    service = services.prepared(tmp_path / "alone")
    service.migrate()
    with service.running("api", "api"):
        services.wait_for_http(service)
        wrong = found(sound, url=service.url)["api"]
    assert "not ready (503)" in wrong.found and "no worker" in wrong.found


COMMAND = [sys.executable, "-m", "diffin.cli", "doctor"]


def doctor(service: Service, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = service.environment | {f"DIFFIN_{name}": value for name, value in changes.items()}
    command = [*COMMAND, *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=service.data_dir)


@pytest.mark.slow
def test_the_command_says_it_by_its_status(embedded_service: Service, tmp_path: Path) -> None:
    ran = doctor(embedded_service, MAX_UPLOAD_BYTES="1000")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "workers" in ran.stdout and f"answers at {embedded_service.url}" in ran.stdout
    for way in ({"URL": "http://127.0.0.1:1"}, {"PORT": "1"}):
        ran = doctor(embedded_service, MAX_UPLOAD_BYTES="1000", **way)
        assert ran.returncode == 1 and "does not answer at http://127.0.0.1:1:" in ran.stdout
    ran = doctor(embedded_service, "--url", "http://127.0.0.1:1/", MAX_UPLOAD_BYTES="1000")
    assert ran.returncode == 1 and "does not answer at http://127.0.0.1:1/:" in ran.stdout
    ran = doctor(services.prepared(tmp_path / "empty"))
    assert ran.returncode == 1
    assert f"there is none in {tmp_path / 'empty'}" in ran.stdout
    assert "DIFFIN_DATA_DIR" in ran.stdout and "diffin migrate" in ran.stdout


def test_whoever_reads_its_output_may_stop(embedded_service: Service) -> None:
    """`diffin doctor | head -1`."""
    where: Any = {"env": embedded_service.environment, "cwd": embedded_service.data_dir, "text": True}
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert ran.stderr.read() == ""


def test_stores_that_do_not_answer(
    sound: dict[str, Any], s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "teams").mkdir()
    bucket = buckets.reached(s3_server, monkeypatch)
    at, data = f"file://{tmp_path}", {"data_dir": tmp_path / "own"}
    kept = {"database_url": sound["database_url"], "blob_url": f"{at}/blobs"}
    if "sqlite" in kept["database_url"]:  # which must not lie below what clients may read
        kept["database_url"] = f"sqlite:///{tmp_path / 'kept.db'}"
        shutil.copy(sound["database_url"].removeprefix("sqlite:///"), tmp_path / "kept.db")
    good = f"{at}/sets/,{at}/teams/{{project}}/,s3://{bucket}/a/,http://127.0.0.1/x/"
    sound |= data | kept | {"uri_allow": "127.0.0.0/8"}
    assert found(sound, uri_prefixes=good) == {}
    for wrong in (f"{at}/absent/", "http://169.254.169.254/x/"):
        finding = found(sound, uri_prefixes=f"{good},{wrong}")["store"]
        assert wrong in finding.found and "DIFFIN_URI_PREFIXES" in finding.mend
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    assert f"s3://{bucket}/a/" in found(sound, uri_prefixes=good)["store"].found

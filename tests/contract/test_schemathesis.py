"""The whole API against its own description: schemathesis makes requests up, good and bad, and reads answers.

All of its checks hold: no 5xx, no status, header, type or body that the description does not have, nothing
taken that is wrong, nobody let in without a key. `schemathesis.toml` says what else is allowed, and why.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services, walk
from tests.services import Service

CLEAN = {"type": "clean", "size": 5}
SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: what is made up is no neighbour for others' tests."""
    folder = tmp_path_factory.mktemp("schemathesis")
    unlimited = {"REQUESTS_PER_SECOND": "100000", "REQUEST_BURST": "100000"}
    small = {"MAX_RESUMABLE_BYTES": str(2**30)}  # or else a full disk would answer 507, which is a 5xx
    with services.embedded(folder, **unlimited, **small) as service:
        yield service


def check(
    service: Service,
    folder: Path,
    *options: str,
    phases: str,
    seconds: int,
    examples: int,
    settings: Path = SETTINGS,
) -> None:
    """Runs schemathesis; its own report is the message where a check fails; `-rP` shows its tally."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run", *options]
    command += [f"{service.url}/v1/openapi.json", "--header", f"Authorization: Bearer {service.key}"]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", "1"]
    command += ["--max-time", str(seconds), "--continue-on-failure", "--warnings", "off", "--no-color"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 120)
    assert run.returncode == 0, f"{run.stdout[-12_000:]}\n{run.stderr[-2000:]}"
    assert "generated" in run.stdout, run.stdout[-2000:]
    print(run.stdout[run.stdout.index("SUMMARY") :])


@pytest.fixture(scope="module")
def there(service: Service) -> dict[str, str]:
    """A resource of each kind, as far as it goes, by the parameter of a path that names it."""
    inputs, targets = walk.digits(60)
    with service.client() as client:
        sets = [walk.dataset(client, walk.npz(inputs=inputs, targets=targets))["id"] for _ in range(2)]
        walk.ok(client.post("/v1/webhook-endpoints", json={"url": "https://127.0.0.2.nip.invalid/"}), 201)
        run = walk.run(client)
        checkpoint = walk.ok(client.get(f"/v1/trajectories/{run}"), 200)["checkpoints"][0]["id"]
        method = {"name": "diff_in", "per_query": True}
        job = walk.finished(client, walk.ok(walk.post_job(client, run, *sets, method=method), 202)["id"])
        selection = walk.ok(client.post(f"/v1/jobs/{job['id']}/selections", json=CLEAN), 201)["id"]
        export = walk.ok(client.post("/v1/exports", json={"job_id": job["id"], "format": "csv"}), 202)["id"]
        for path in (f"/v1/selections/{selection}", f"/v1/exports/{export}"):
            assert walk.until(client, path, walk.FINISHED)["status"] == "succeeded"
        upload = walk.ok(client.post("/v1/uploads", json={"filename": "a.npz", "bytes": 10}), 201)["id"]
        key = walk.ok(client.post("/v1/api-keys", json={"name": "spare", "scopes": ["read"]}), 201)["id"]
        endpoint = walk.ok(client.get("/v1/webhook-endpoints"), 200)["data"][0]["id"]
        delivery = walk.ok(client.get("/v1/webhook-deliveries"), 200)["data"][0]["id"]
    ids = {"dataset_id": sets[0], "trajectory_id": run, "checkpoint_id": checkpoint, "job_id": job["id"]}
    ids |= {"selection_id": selection, "export_id": export, "upload_id": upload, "key_id": key}
    return ids | {"endpoint_id": endpoint, "delivery_id": delivery}


def test_every_answer_is_as_described(service: Service, tmp_path: Path) -> None:
    check(service, tmp_path, phases="examples,coverage", seconds=30, examples=3)


@pytest.mark.slow
def test_every_answer_is_as_described_whatever_is_asked(service: Service, tmp_path: Path) -> None:
    check(service, tmp_path, phases="examples,coverage,fuzzing", seconds=600, examples=50)


@pytest.mark.slow
def test_every_answer_is_as_described_wherever_the_links_lead(service: Service, tmp_path: Path) -> None:
    """What was made is asked for, changed, used and deleted, and asked for again."""
    check(service, tmp_path, phases="stateful", seconds=600, examples=200)


@pytest.mark.slow
def test_every_answer_about_what_is_there_is_as_described(
    service: Service, there: dict[str, str], tmp_path: Path
) -> None:
    """Whatever a path may name is there: answers go further than 404. Nothing is deleted on the way."""
    settings = tmp_path / "schemathesis.toml"
    named = "\n".join(f'"path.{name}" = "{one}"' for name, one in there.items())
    settings.write_text(f"{SETTINGS.read_text()}\n[parameters]\n{named}\n")
    bounds: dict[str, int] = {"seconds": 600, "examples": 50}
    options = "--exclude-method", "DELETE", "--include-path-regex", "{"
    check(service, tmp_path, *options, phases="coverage,fuzzing", settings=settings, **bounds)

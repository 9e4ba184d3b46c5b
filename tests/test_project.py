"""What the project says of itself holds: layers, schema, pins, names and documents."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import diffin
import migrations
from app.settings import Settings
from app.store import partitions, scores
from app.store.db import Database, new_id

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("worker/**/*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text()


def normal(requirement: str) -> str:
    """The name in a requirement, as PyPI spells it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def requirements() -> set[str]:
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    return {normal(entry) for entries in lists for entry in entries} - {"diffin"}


def pins(file: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", read(f"requirements/{file}"), re.MULTILINE))


# ---------------------------------------------------------------- code
def test_every_layer_keeps_to_its_contract() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_migrations_lead_to_the_tables(database_url: str) -> None:
    migrations.check(database_url)


def test_a_jobs_partition_is_data_and_no_change_of_schema(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SMALL", 0)
    database = Database(postgres_url)
    columns: dict[str, np.ndarray] = {
        name: np.zeros(3) for name in ("score", "label", "predicted_label", "loss")
    }
    columns |= {"sample_index": np.arange(3), "rank": np.arange(1, 4)}
    columns |= {"contributions": np.zeros((3, 1)), "losses": np.zeros((3, 1))}
    with database.transaction() as session:
        scores.write(session, new_id("job"), columns)
    database.engine.dispose()
    migrations.check(postgres_url)


# ---------------------------------------------------------------- pins
def test_the_lock_pins_every_requirement_but_torch() -> None:
    assert requirements() - {"torch"} <= set(pins("lock.txt"))
    assert "torch" not in pins("lock.txt")


def test_the_image_has_the_versions_that_the_tests_ran_with() -> None:
    assert pins("server.txt").items() <= pins("lock.txt").items()


def test_the_worker_extra_names_the_torch_that_is_installed() -> None:
    assert f"torch=={pins('torch.txt')['torch']}" in PROJECT["project"]["optional-dependencies"]["worker"]


# ---------------------------------------------------------------- names
def test_there_is_one_version() -> None:
    version = PROJECT["project"]["version"]
    assert diffin.__version__ == version
    assert f"\nversion: {version}\n" in read("CITATION.cff")


def test_the_example_environment_sets_what_the_compose_file_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", read("docker-compose.yml")))
    assert asked == set(re.findall(r"^(\w+)=", read(".env.example"), re.MULTILINE))


@pytest.mark.parametrize("file", ["docker-compose.yml", "Dockerfile"])
def test_only_settings_that_exist_are_set(file: str) -> None:
    known = {f"DIFFIN_{name}".upper() for name in Settings.model_fields}
    assert set(re.findall(r"(DIFFIN_\w+)(?:=|: )", read(file))) <= known


# ---------------------------------------------------------------- documents
def test_every_requirement_has_its_reason() -> None:
    page = read("docs/decisions/0001-dependencies.md")
    assert {name for name in requirements() if not re.search(rf"\b{name}\b", page)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    named = re.findall(r"(?:`|^|^\$ )make ([a-z-]+)", document.read_text(), re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE)
    assert set(named) <= set(targets)

"""Whether the service lives, is ready, and what passes through it. No key needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from celery import Celery
from fastapi import APIRouter, Request, Response
from kombu.exceptions import OperationalError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app import queue
from app.api.deps import Blobs, Config, Db
from app.api.metrics import Metrics
from app.api.problems import ApiProblem, responses
from app.settings import Settings
from app.store import workers
from app.store.db import Database

router = APIRouter(tags=["operations"])

LEASES = 3  # a worker silent for as long as this many leases counts as dead


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Every check, "ok" or why not."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str]


def alive_seconds(settings: Settings) -> float:
    return LEASES * settings.lease_seconds


@router.get("/livez", summary="Whether the process answers")
def livez() -> Alive:
    return Alive()


@router.get("/readyz", summary="Whether jobs would be done", responses=responses(503))
def readyz(request: Request, settings: Config, database: Db, blobs: Blobs) -> Ready:
    """Database, storage, queue and a live worker, each checked now."""
    celery: Celery = request.app.state.celery
    checks = {
        "database": _check(database.check),
        "storage": _check(blobs.check),
        "queue": _check(lambda: queue.check(celery)),
        "worker": _check(lambda: _check_worker(database, alive_seconds(settings))),
    }
    failing = {name: words for name, words in checks.items() if words != "ok"}
    if failing:
        detail = "; ".join(f"{name}: {words}" for name, words in failing.items())
        raise ApiProblem(503, "not_ready", detail, extra={"checks": checks}, headers={"Retry-After": "5"})
    return Ready(checks=checks)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Requests and their latency by route, jobs by status, queue depth and age, live workers."""
    known: Metrics = request.app.state.metrics
    return Response(generate_latest(known.registry), media_type=CONTENT_TYPE_LATEST)


def _check(what: Callable[[], None]) -> str:
    try:
        what()
    except (SQLAlchemyError, OperationalError, OSError) as problem:
        return f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else 'no answer'}"
    return "ok"


def _check_worker(database: Database, within: float) -> None:
    with database.snapshot() as session:
        if not workers.alive(session, within):
            raise OSError(
                f"no worker heard of in the last {within:g} s: none runs (`diffin worker` starts one), or it "
                "is still starting"
            )

"""The front end: routers, problems, middleware, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from app import queue, tracing, ui
from app.api import (
    audit_events,
    batch_orders,
    capabilities,
    checkpoints,
    comparisons,
    dataset_creation,
    datasets,
    decisions,
    docs,
    estimates,
    evaluation,
    events,
    exports,
    health,
    influences,
    problems,
    samples,
    scores,
    trajectories,
    trajectory_files,
)
from app.api import keys as api_keys
from app.api.auditing import Audited
from app.api.buckets import Buckets
from app.api.jobs import routes as jobs
from app.api.metrics import Metrics
from app.api.middleware import (
    BodyLimit,
    HeaderLimit,
    Heads,
    Measured,
    OneLength,
    RequestId,
    SafeHeaders,
)
from app.api.selections import content
from app.api.selections import routes as selections
from app.api.uploads import routes as uploads
from app.api.uploads.receiving import Digests
from app.api.webhooks import deliveries, endpoints
from app.settings import Settings
from app.store import blobs, idempotency, keys
from app.store.db import Database

ABOUT = """Which training samples hurt or help a model: upload the data and a run's checkpoints, start a job,
read the scores. A positive score is harmful: having the sample in training raised the query loss."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on the deployment that `settings` describe (default: the environment's).

    The tables must be there already (`diffin migrate`). The first admin key is made when it starts.
    """
    settings = settings or Settings()
    tracing.begin("diffin-api")
    app = docs.Documented(
        title="Diff-In",
        version=version("diffin"),
        description=ABOUT,
        openapi_url=docs.OPENAPI_URL,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host the request names
        lifespan=_lifespan,
    )
    celery = queue.producer(settings)
    app.state.settings = settings
    app.state.celery = celery
    ring = partial(queue.ring, celery)
    app.state.database = Database(settings.database_url, ring, settings.api_processes)
    app.state.blobs = blobs.opened(settings.blob_url, settings.blob_dir, settings.blob_cache_bytes)
    shared = settings.api_shared
    app.state.requests = Buckets(
        settings.requests_per_second, settings.request_burst, shared and shared / "requests"
    )
    app.state.digests = Digests()
    app.state.metrics = Metrics(app.state.database, app.state.blobs, health.alive_seconds(settings), shared)

    for noun in (
        capabilities,
        uploads,
        dataset_creation,
        datasets,
        samples,
        trajectory_files,
        trajectories,
        checkpoints,
        batch_orders,
        estimates,
        jobs,
        events,
        scores,
        influences,
        comparisons,
        exports,
        evaluation,
        decisions,
        selections,
        content,
        api_keys,
        audit_events,
        endpoints,
        deliveries,
        health,
    ):
        app.include_router(noun.router)
    docs.install(app)
    problems.install(app)
    ui.install(app, shared)

    app.add_middleware(Heads)
    app.add_middleware(BodyLimit, most=settings.max_body_bytes, seconds=settings.body_seconds)
    app.add_middleware(Audited, database=app.state.database)
    app.add_middleware(Measured, metrics=app.state.metrics)
    app.add_middleware(OneLength)
    app.add_middleware(HeaderLimit)
    app.add_middleware(SafeHeaders)
    app.add_middleware(RequestId)  # the last one added is the outermost
    tracing.follow(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if app.state.settings.api_shared is None:  # else the parent has
        await run_in_threadpool(_prepare, app.state.settings, app.state.database)
    yield
    app.state.celery.close()
    app.state.database.engine.dispose()


def _prepare(settings: Settings, database: Database) -> None:
    with database.transaction() as session:
        keys.ensure_first(session, settings.secret, settings.first_key)
        idempotency.purge(session)

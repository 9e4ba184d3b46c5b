"""A project's quotas: asked before bytes come in and before a job is queued."""

from __future__ import annotations

import asyncio

from fastapi import Request
from sqlalchemy.orm import Session

from app.api.problems import ApiProblem
from app.settings import Settings
from app.store import usage
from app.store.db import Database


def refuse_bytes(session: Session, settings: Settings, project_id: str, more: int) -> None:
    """Raises 403 `quota_exceeded` where the project would keep more bytes than it may."""
    most = settings.quota(project_id).bytes
    if most is not None and (held := usage.stored(session, project_id)) + more > most:
        detail = (
            f"The project keeps {held:,} of its {most:,} bytes; {more:,} more do not fit. Delete data sets, "
            "trajectories, uploads or exports that nobody needs."
        )
        raise ApiProblem(403, "quota_exceeded", detail)


def refuse_job(session: Session, settings: Settings, project_id: str) -> None:
    """Raises 429 `quota_exceeded` where as many of the project's jobs wait as may."""
    most = settings.quota(project_id).jobs_queued
    if most is not None and (waiting := usage.jobs_queued(session, project_id)) >= most:
        detail = f"{waiting} jobs of the project wait, and {most} may: ask again when one has begun."
        raise ApiProblem(429, "quota_exceeded", detail, headers={"Retry-After": "30"})


async def file_limit(request: Request, database: Database, settings: Settings, project_id: str) -> int:
    """Bytes that a file of this request may have; raises as `refuse_bytes` where those announced do not fit.

    Requests side by side do not see each other's files: together they may go over by all but one of them.
    """
    most = settings.quota(project_id).bytes
    if most is None:
        return settings.max_upload_bytes
    told = request.headers.get("content-length", "")

    def left() -> int:
        with database.snapshot() as session:
            refuse_bytes(session, settings, project_id, int(told) if told.isdecimal() else 1)
            return most - usage.stored(session, project_id)

    return min(await asyncio.to_thread(left), settings.max_upload_bytes)

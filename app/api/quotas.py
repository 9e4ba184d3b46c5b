"""A project's quotas: held where bytes are kept and where a job is queued."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from fastapi import Request
from sqlalchemy.orm import Session

from app.api.multipart import StagedFile
from app.api.problems import ApiProblem
from app.settings import Settings
from app.store import usage
from app.store.db import Database


def refuse_bytes(session: Session, settings: Settings, project_id: str, more: int) -> None:
    """Raises 403 `quota_exceeded` where the project would keep more bytes than it may.

    Until the end of the transaction nobody else's bytes of this project are counted.
    """
    if (most := settings.quota(project_id).bytes) is not None:
        usage.counting(session, project_id, "bytes")
        _refuse_over(most, usage.stored(session, project_id), more)


def refuse_files(session: Session, settings: Settings, project_id: str, files: Iterable[StagedFile]) -> None:
    """The same for files that are to be kept, of which the project may have some already. To be called before
    any row is locked, so that no two transactions wait for each other.
    """
    if (most := settings.quota(project_id).bytes) is not None:
        usage.counting(session, project_id, "bytes")
        more = usage.unknown(session, project_id, {file.sha256: file.bytes for file in files})
        _refuse_over(most, usage.stored(session, project_id), more)


def refuse_job(session: Session, settings: Settings, project_id: str) -> None:
    """Raises 429 `quota_exceeded` where as many of the project's jobs wait as may, 403 where it has no byte
    left for what a job makes. Until the end of the transaction no other job of the project is queued.
    """
    quota = settings.quota(project_id)
    if quota.bytes is not None:
        _refuse_over(quota.bytes, usage.stored(session, project_id), 1)
    if (most := quota.jobs_queued) is None:
        return
    usage.counting(session, project_id, "jobs queued")
    if (waiting := usage.jobs_queued(session, project_id)) >= most:
        detail = f"{waiting} jobs of the project wait, and {most} may: ask again when one has begun."
        raise ApiProblem(429, "quota_exceeded", detail, headers={"Retry-After": "30"})


async def file_limit(request: Request, database: Database, settings: Settings, project_id: str) -> int:
    """Bytes that a file of this request may have; raises as `refuse_bytes` where those announced do not fit.

    This spares the way of bytes that cannot be kept; `refuse_files` decides, when they are here.
    """
    most = settings.quota(project_id).bytes
    if most is None:
        return settings.max_upload_bytes
    told = request.headers.get("content-length", "")

    def left() -> int:
        with database.snapshot() as session:
            held = usage.stored(session, project_id)
        _refuse_over(most, held, int(told) if told.isdecimal() else 1)
        return most - held

    return min(await asyncio.to_thread(left), settings.max_upload_bytes)


def _refuse_over(most: int, held: int, more: int) -> None:
    if held + more > most:
        detail = (
            f"The project keeps {held:,} of its {most:,} bytes; {more:,} more do not fit. Delete data sets, "
            "trajectories, uploads or exports that nobody needs."
        )
        raise ApiProblem(403, "quota_exceeded", detail)

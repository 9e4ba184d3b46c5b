"""The audit log as an admin reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import Admin, Db
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS
from app.api.resources import NO_NUL
from app.store import pages
from app.store.tables import AuditEvent

router = APIRouter(prefix="/v1/audit-events", tags=["operations"], responses=PROBLEMS)

Filter = Annotated[str | None, Query(max_length=64, pattern=NO_NUL)]


class AuditEventOut(BaseModel):
    """One write or sign-in: which key asked for it, and how it was answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "aud_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52",
                    "created_at": "2026-11-25T08:00:00Z",
                    "key_id": "key_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52",
                    "method": "DELETE",
                    "route": "/v1/jobs/{job_id}",
                    "subject_id": "job_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "status": 204,
                    "request_id": "req_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52",
                    "address": None,
                }
            ]
        }
    )

    id: str
    created_at: datetime
    key_id: str | None = Field(description="null: a sign-in with no live key.")
    method: str
    route: str = Field(description="The path with the names of its parameters.")
    subject_id: str | None = Field(description="What was made, changed or deleted, where the path tells it.")
    status: int | None = Field(
        description="null: under way, or the service died before it answered; the write may have been made."
    )
    request_id: str
    address: str | None = Field(description="Of a sign-in: where it came from.")

    @classmethod
    def of(cls, row: AuditEvent) -> AuditEventOut:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


@router.get("", summary="List writes and sign-ins, newest first")
def list_audit_events(
    caller: Admin, database: Db, paging: PageOf, key_id: Filter = None, subject_id: Filter = None
) -> Page[AuditEventOut]:
    """Every write in this project that came with a key, the refused ones too, and every sign-in, as long as
    they are kept. Sign-ins with no live key are those of the project `default`.
    """
    wanted = {"key_id": key_id, "subject_id": subject_id}
    binding = "audit-events", caller.project_id, wanted
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, AuditEvent, caller.project_id, paging.limit + 1, after=after, **wanted)
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [AuditEventOut.of(row) for row in rows]
    return Page(data=data, next_cursor=cursor)

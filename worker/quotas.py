"""A project's quota of bytes, held where a worker keeps what it made of a project's files."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from app.settings import Settings
from app.store import usage
from worker.problems import UserError


def refuse_bytes(
    session: Session,
    settings: Settings,
    project_id: str,
    files: Mapping[str, int],
    *,
    in_place_of: str | None = None,
) -> None:
    """Raises UserError `quota_exceeded` where the project may not keep these files.

    To be called before any row is locked: until the end of the transaction nobody else's bytes of the project
    are counted.

    Args:
        files: bytes of each, by its digest.
        in_place_of: the id of a data set whose own file goes as they come.
    """
    if settings.quota(project_id).bytes is not None:
        usage.counting(session, project_id, "bytes")
        more = usage.unknown(session, project_id, files)
        _refuse_over(session, settings, project_id, more, in_place_of)


def refuse_announced(
    session: Session, settings: Settings, project_id: str, more: int, *, in_place_of: str
) -> None:
    """The same for bytes that are yet to come, all of them, for what has the id `in_place_of`."""
    if settings.quota(project_id).bytes is not None:
        usage.counting(session, project_id, "bytes")
        _refuse_over(session, settings, project_id, more, in_place_of)


def _refuse_over(
    session: Session, settings: Settings, project_id: str, more: int, in_place_of: str | None
) -> None:
    most = settings.quota(project_id).bytes or 0
    held = usage.stored(session, project_id, without=in_place_of)
    if held + more > most:
        raise UserError(
            "quota_exceeded",
            f"The project keeps {held:,} of its {most:,} bytes beside this; {more:,} more do not fit. Delete "
            "data sets, trajectories, uploads or exports that nobody needs, then ask again.",
        )

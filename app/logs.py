"""Logs of API and workers on standard error: lines for people, or JSON, with the ids of what they are about.

Everything logs through the standard library. What is bound (`about`) stands on every line written meanwhile,
in this thread or task and in the threads that it hands its context to.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any

import structlog
from structlog.processors import CallsiteParameter
from structlog.typing import EventDict

from app.settings import Settings

QUIET = ("uvicorn.access", "httpx", "httpcore")  # the middleware tells of requests, with their ids


def configure(settings: Settings) -> None:
    """Has every logger of this process write so, third parties' too."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _uncoloured,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.api_processes > 1:  # which of them it was
        shared.append(structlog.processors.CallsiteParameterAdder([CallsiteParameter.PROCESS]))
    if settings.log_format == "json":
        last: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        lines = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=_plain)
        last = [_in_one_line, lines, _harmless]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "celery"):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [], True


def about(**ids: str | None) -> AbstractContextManager[None]:
    """Until the end of the block, every line carries these ids; those that are None are left out."""
    return structlog.contextvars.bound_contextvars(**{name: one for name, one in ids.items() if one})


def _in_one_line(_logger: Any, _name: str, event: Any) -> Any:
    """What is told may come from outside: no text of it ends its line, and begins one of its own."""
    return {name: _printable(one) if isinstance(one, str) else one for name, one in event.items()}


def _harmless(_logger: Any, _name: str, rendered: str) -> str:
    """The lines, traces among them, without what a terminal obeys or what turns the order of characters."""
    return "\n".join(map(_printable, rendered.split("\n")))


def _printable(text: str) -> str:
    """The text with all that cannot be seen, but for the space, written as Python would: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _uncoloured(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """Leaves out the text once more, coloured, which uvicorn sends along."""
    line.pop("color_message", None)
    return line


_plain = structlog.dev.plain_traceback

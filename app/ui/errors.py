"""What went wrong, as a page: for people who look at pages, where a client of the API is told in JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.ui.shell import render


def install(app: FastAPI) -> None:
    """Answers browsers with a page wherever the application would with a problem."""
    for kind in (HTTPException, RequestValidationError, SQLAlchemyError, FileNotFoundError, Exception):
        app.exception_handler(kind)(_paged(app.exception_handlers[kind]))


def _paged(answer: Any) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(request: Request, exc: Exception) -> Response:
        answered = answer(request, exc)
        told: Response = await answered if isawaitable(answered) else answered
        if not _for_people(request):
            return told
        page = render(request, "error.html", told.status_code, problem=json.loads(bytes(told.body)))
        for name in ("retry-after", "allow"):
            if name in told.headers:
                page.headers[name] = told.headers[name]
        return page

    return handler


def _for_people(request: Request) -> bool:
    """Whether a browser asks for a page."""
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")

"""Signing in to the page with an API key, or by a link that works once; signing out."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from math import ceil
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.api import cookies
from app.api.buckets import Buckets
from app.api.deps import Config, Db, cookie
from app.api.problems import request_id
from app.store import audit, keys, sessions
from app.store.keys import Live
from app.store.tables import ApiKey
from app.ui.shell import render
from app.ui.visitors import PageWriter, safe

router = APIRouter(include_in_schema=False)

FAILURES_A_MINUTE = 10  # of one address

Next = Annotated[str, Query(alias="next")]
SessionToken = Annotated[str | None, Depends(cookie)]


def attempts(shared: Path | None = None) -> Buckets:
    """What limits the attempts of an address."""
    return Buckets(FAILURES_A_MINUTE / 60, FAILURES_A_MINUTE, shared and shared / "sign-ins")


@router.get("/sign-in")
def show_sign_in(
    request: Request,
    settings: Config,
    database: Db,
    wanted: Next = "/",
    link: Annotated[str | None, Query(description="A token that `diffin serve` printed.")] = None,
    previous: SessionToken = None,
) -> Response:
    """The form; a link leads past it, with a token that was not used yet, or with the session it began."""
    if link is None:
        return _form(request, wanted)
    if refused := _limited(request, wanted):
        return refused
    with database.transaction() as session:
        key = sessions.redeem(session, settings.secret, link)
        if key is None and previous and sessions.find(session, settings.secret, previous):
            _attempts(request).give_back(_address(request))
            return RedirectResponse(safe(wanted), 303)
        _write_down(request, session, key)
        if key is None:
            error = "This link was used already, or is too old. Sign in with the key."
            return _form(request, wanted, error, 401)
        token = sessions.start(session, settings.secret, key.id, settings.session_hours * 3600)
    return _in(request, token, settings.session_hours, wanted)


@router.post("/sign-in")
def sign_in(
    request: Request,
    settings: Config,
    database: Db,
    previous: SessionToken,
    key: Annotated[str, Form()] = "",
    wanted: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """A new session for the key, in place of the one before."""
    cookies.refuse_other_origins(request)
    if refused := _limited(request, wanted):
        return refused
    with database.transaction() as session:
        found = keys.find(session, settings.secret, key.strip())
        _write_down(request, session, found)
        if found is None:
            return _form(request, wanted, "No live API key reads so.", 401)
        if previous:
            sessions.end(session, settings.secret, previous)
        token = sessions.start(session, settings.secret, found.id, settings.session_hours * 3600)
    return _in(request, token, settings.session_hours, wanted)


@router.post("/sign-out")
def sign_out(settings: Config, database: Db, visitor: PageWriter, token: SessionToken) -> Response:
    with database.transaction() as session:
        sessions.end(session, settings.secret, token or "")
    answer = RedirectResponse("/sign-in", 303)
    cookies.take_back(answer)
    return answer


def _write_down(request: Request, session: Session, key: ApiKey | Live | None) -> None:
    """A line of the audit log; who comes without a key is told of to the operator."""
    audit.begin(
        session,
        project_id=key.project_id if key is not None else keys.DEFAULT_PROJECT,
        key_id=key.id if key is not None else None,
        method=request.method,
        route="/sign-in",
        status=401 if key is None else 303,
        request_id=request_id(request),
        address=_address(request),
    )


def _form(request: Request, wanted: str, error: str = "", status: int = 200, wait: float = 0) -> Response:
    answer = render(request, "sign_in.html", status, next=safe(wanted), error=error)
    if wait:
        answer.headers["Retry-After"] = str(ceil(wait))
    return answer


def _in(request: Request, token: str, hours: float, wanted: str) -> Response:
    """Lets the owner of the session in; only failures count as attempts."""
    _attempts(request).give_back(_address(request))
    answer = RedirectResponse(safe(wanted), 303)
    cookies.give(request, answer, token, hours * 3600)
    return answer


def _limited(request: Request, wanted: str) -> Response | None:
    """Counts an attempt; an answer when there were too many."""
    if wait := _attempts(request).take(_address(request)):
        error = f"Too many attempts from this address: try again in {ceil(wait)} s."
        return _form(request, wanted, error, 429, wait)
    return None


def _attempts(request: Request) -> Buckets:
    found: Buckets = request.app.state.sign_in_attempts
    return found


def _address(request: Request) -> str:
    """Who knocks: an address, or the network that one household has of IPv6."""
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:  # a socket file
        return ""
    return str(ip_network(f"{address}/64", strict=False) if address.version == 6 else address)

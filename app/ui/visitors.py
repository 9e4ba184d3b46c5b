"""Who looks at the page: signed in with a key, or sent to the sign-in first."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple
from urllib.parse import quote

from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from app.api import cookies
from app.api.deps import Config, Db, Principal, cookie, permitted, signed_in
from app.store import sessions

CSRF_FIELD = "csrf_token"
OURS = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")  # no other host, and nothing that browsers read as one


class Visitor(NamedTuple):
    """Who is signed in, and the token that the page's own writes bring along.

    A form sends `csrf_token` as the hidden field of that name, a script as the header `X-CSRF-Token`.
    """

    principal: Principal
    key_name: str
    csrf_token: str

    @property
    def project_id(self) -> str:
        return self.principal.project_id


class SignInNeeded(Exception):  # noqa: N818  (nothing went wrong)
    """Raised for a page that nobody is signed in for."""


def _visitor(
    request: Request,
    background: BackgroundTasks,
    settings: Config,
    database: Db,
    session_token: Annotated[str | None, Depends(cookie)],
) -> Visitor:
    """Raises `SignInNeeded`, or 403 where the key lacks the scope to read."""
    key = signed_in(settings, database, session_token) if session_token else None
    if key is None or session_token is None:
        raise SignInNeeded
    principal = permitted(request, background, database, key)
    return Visitor(principal, key.name, sessions.csrf_token(settings.secret, session_token))


PageCaller = Annotated[Visitor, Depends(_visitor)]


async def _writer(request: Request, visitor: PageCaller) -> Visitor:
    """Raises 403 `csrf_failed` unless our own form, or script, sends this."""
    sent = request.headers.get(cookies.CSRF_HEADER) or (await request.form()).get(CSRF_FIELD)
    cookies.refuse_forged(request, visitor.csrf_token, sent if isinstance(sent, str) else None)
    return visitor


PageWriter = Annotated[Visitor, Depends(_writer)]
"""The same for a form that writes."""


def safe(path: str) -> str:
    """`path` if it leads to a page of ours, else the first page."""
    return path if OURS.fullmatch(path) else "/"


def install(app: FastAPI) -> None:
    app.exception_handler(SignInNeeded)(_to_sign_in)


def _to_sign_in(request: Request, _exc: SignInNeeded) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = request.url.path + query if request.method in cookies.SAFE else "/"
    return RedirectResponse(f"/sign-in?next={quote(wanted, safe='/')}", 303)

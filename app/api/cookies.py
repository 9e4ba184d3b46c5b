"""The page's session cookie, and what a write that comes with it has to prove.

A browser sends the cookie along whoever wrote the page that asks, so a write must also come from our own
page (`Sec-Fetch-Site`, `Origin`: browsers set them, scripts cannot) and bring the session's CSRF token.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from fastapi import Request, Response

from app.api.problems import ApiProblem

NAME = "diffin_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE = ("GET", "HEAD", "OPTIONS")


def give(request: Request, response: Response, token: str, seconds: float) -> None:
    """Has the browser keep the session's token, out of scripts' reach."""
    https = request.url.scheme == "https"
    response.set_cookie(
        NAME, token, max_age=int(seconds), path="/", secure=https, httponly=True, samesite="lax"
    )


def take_back(response: Response) -> None:
    response.delete_cookie(NAME, path="/", httponly=True, samesite="lax")


def refuse_other_origins(request: Request) -> None:
    """Raises 403 `csrf_failed` unless a browser says that our own page asks."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    # A proxy may have taken off the TLS, so the scheme is not compared.
    ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if (site is None and origin is None) or site not in (None, "same-origin") or not ours:
        raise _forged("it does not come from this service's own page (Origin, Sec-Fetch-Site)")


def refuse_forged(request: Request, expected: str, sent: str | None) -> None:
    """Raises 403 `csrf_failed` unless a write by cookie is our own page's, with the session's token."""
    refuse_other_origins(request)
    if not hmac.compare_digest((sent or "").encode(), expected.encode()):
        raise _forged(f"it lacks the session's token: send {CSRF_HEADER}")


def _forged(why: str) -> ApiProblem:
    detail = (
        f"A write by session cookie was refused: {why}. Programs send Authorization: Bearer <key> instead."
    )
    return ApiProblem(403, "csrf_failed", detail)

"""What all pages share: templates, how values read, addresses of static files."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.types import Scope

from app.store.db import utcnow

STATIC = Path(__file__).parent / "static"
ASSETS = "/ui/static"
NOTHING = "\N{EN DASH}"
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page. It is made anew each time: what it shows changes, and it is for whoever is signed in."""
    text = ENVIRONMENT.get_template(template).render(request=request, **context)
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})


@lru_cache
def static(name: str) -> str:
    """The address of a static file: it changes with the content, so browsers may keep what they have."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"{ASSETS}/{name}?v={digest[:12]}"


class Static(StaticFiles):
    """The static files. Under the address that `static` gives they may be kept for good; scripts import each
    other by their plain names, so those are asked for anew each time, and answered with 304.
    """

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        kept = "public, max-age=31536000, immutable" if b"v=" in scope["query_string"] else "no-cache"
        answer.headers["Cache-Control"] = kept
        return answer


# ---------------------------------------------------------------- how values read
def number(value: float | None, digits: int = 3) -> str:
    """A number in a few digits: 12,345, 0.0123, 3.1e-05."""
    if value is None or value != value:
        return NOTHING
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.{max(digits - 1, 0)}e}"


def signed(value: float | None, digits: int = 3) -> str:
    """A number with its sign: + is harmful."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text.replace("-", "\N{MINUS SIGN}", 1)


def size(value: int | None) -> str:
    """Bytes in the unit that fits; a dash where they are not known."""
    if value is None:
        return NOTHING
    amount, unit = float(value), UNITS[0]
    for unit in UNITS:
        if amount < 1000 or unit == UNITS[-1]:
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if unit == UNITS[0] or amount >= 100 else f"{amount:,.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ago(when: datetime | None) -> str:
    """How long ago."""
    if when is None:
        return NOTHING
    seconds = (utcnow() - when).total_seconds()
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds // unit))} {name} ago"
    return f"{when:%Y-%m-%d}"


def spoken(name: str) -> str:
    """An identifier as words: "self_influence" is "self-influence" to people."""
    return {"self_influence": "self-influence"}.get(name, name.replace("_", " "))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"static": static}
    for rule in (number, signed, size, duration, ago, spoken):
        environment.filters[rule.__name__] = rule
    for name in environment.list_templates(["html"]):
        environment.get_template(
            name
        )  # compiled before anybody waits for it, and a broken one ends the start
    return environment


ENVIRONMENT = _environment()

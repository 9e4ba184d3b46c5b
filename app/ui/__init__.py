"""The page: what a team looks at and decides by, rendered on the server from the same store as the API."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from app.ui import (
    acts,
    browse,
    decisions,
    errors,
    gallery,
    inputs,
    insights,
    live,
    new,
    overview,
    pictures,
    queries,
    sample,
    selections,
    sign_in,
    visitors,
)
from app.ui.shell import ASSETS, STATIC, Static


def install(app: FastAPI, shared: Path | None = None) -> None:
    """Adds the page to the application, after its own problems are installed; `shared` is a folder that the
    processes of the API share.
    """
    app.mount(ASSETS, Static(directory=STATIC), name="ui-static")
    app.state.sign_in_attempts = sign_in.attempts(shared)
    for part in (
        sign_in,
        overview,
        live,
        new,
        inputs,
        browse,
        acts,
        gallery,
        sample,
        insights,
        queries,
        pictures,
        decisions,
        selections,
    ):
        app.include_router(part.router)
    visitors.install(app)
    errors.install(app)

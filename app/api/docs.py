"""The OpenAPI document and its page, which works with no internet: every asset is served by us."""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema

from app.api import links
from app.api.problems import Problem

OPENAPI_URL = "/v1/openapi.json"
ASSETS = "/docs/static"
# The page's own script is inline; nothing may come from anywhere but here.
INLINE = "'self' 'unsafe-inline'"
POLICY = f"default-src 'self'; script-src {INLINE}; style-src {INLINE}; img-src 'self' data:"


class Documented(FastAPI):
    """An application whose OpenAPI document knows problems, which routes name without returning them, and
    what to ask next.
    """

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            _, problems = models_json_schema(
                [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
            )
            schema["components"]["schemas"] |= problems["$defs"]
            links.add(schema["paths"])
        return self.openapi_schema or {}

    def allowed(self, path: str) -> list[str]:
        """The methods that an address answers to; one that is a route's to the letter is no id of another."""
        paths, found = self.openapi()["paths"], set()
        for template, operations in ({path: paths[path]} if path in paths else paths).items():
            if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
                found |= {method.upper() for method in operations}
        return sorted(found | ({"HEAD"} if "GET" in found else set()))


def install(app: FastAPI) -> None:
    """Adds `/docs` and its assets."""
    app.mount(ASSETS, StaticFiles(directory=_assets()), name="docs-static")
    app.add_api_route("/docs", _page, include_in_schema=False, response_class=HTMLResponse)


def _assets() -> Path:
    with as_file(files("fastapi_offline") / "static") as folder:
        return folder


def _page() -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url=OPENAPI_URL,
        title="Diff-In: the API",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
    page.headers["Content-Security-Policy"] = POLICY
    return page

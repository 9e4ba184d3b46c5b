"""Forms sent as a browser without scripts sends them."""

from __future__ import annotations

import re

import httpx


def post(http: httpx.Client, action: str, page: str = "/", **fields: str) -> httpx.Response:
    """Sends a form of `page` to `action`, with the token that the page carries."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', http.get(page).text)
    assert found is not None, page
    return http.post(action, data=fields | {"csrf_token": found[1]}, headers={"Origin": str(http.base_url)})

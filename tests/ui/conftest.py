"""A service with something to see, and a real browser that is signed in to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui.explored import Explored, exploring

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="session")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explored]:
    with exploring(tmp_path_factory.mktemp("ui")) as found:
        yield found


@pytest.fixture(
    scope="module"
)  # while it lives, so does an event loop that others' tests must not find running
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        if not Path(path).exists():
            pytest.skip(f"no browser at {path}: set CHROMIUM, or install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, explored: Explored) -> Iterator[Page]:
    """A page of a browser that is signed in; whatever it complains of fails the test."""
    context = browser.new_context(base_url=explored.url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/sign-in")
    page.get_by_label("API key").fill(explored.service.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    yield page
    context.close()
    assert not complaints, json.dumps(complaints, indent=1)

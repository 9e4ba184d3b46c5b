"""Takes the pictures of the page that docs/page.md shows, light and dark, from a service with digits in it.

python tools/screenshots.py [--out docs/images/page] [--only gallery,sample]
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

from tests.ui.conftest import CHROMIUM  # noqa: E402
from tests.ui.explored import Explored, exploring  # noqa: E402

WIDTH, HEIGHT = 1280, 860
COLOURS = 256  # of a picture: flat pages need no more, and the file is a third


def addresses(found: Explored) -> dict[str, str]:
    """The pages to show, by the name of their picture."""
    return {
        "overview": "/",
        "gallery": f"/jobs/{found.job}",
        "sample": f"/jobs/{found.job}/samples/{min(found.flipped)}",
        "charts": f"/jobs/{found.job}/charts",
        "query": f"/jobs/{found.by_query}/queries/5",
        "new": "/jobs/new",
        "inputs": "/inputs",
        "decisions": f"/jobs/{found.job}/decisions",
        "selections": f"/jobs/{found.job}/selections",
        "selection": f"/selections/{found.selection}",
    }


def signed_in(browser: Browser, found: Explored, colours: Literal["light", "dark"]) -> Page:
    page = browser.new_page(
        base_url=found.url, viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=colours
    )
    page.goto("/sign-in")
    page.get_by_label("API key").fill(found.service.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    return page


def decide(page: Page, found: Explored) -> None:
    """Some decisions, so that there is something to see."""
    page.goto(f"/jobs/{found.job}")
    page.locator(".media").first.focus()
    for keys in ("r", "ArrowRight", "r", "ArrowRight", "x", "ArrowRight", "k"):
        page.keyboard.press(keys)
        page.wait_for_timeout(250)


def taken(page: Page, address: str) -> bytes:
    page.goto(address)
    page.wait_for_load_state("load")
    page.wait_for_timeout(400)
    return page.screenshot()


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--out", type=Path, default=ROOT / "docs/images/page")
    cli.add_argument("--only", help="some of them, by commas")
    asked = cli.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, exploring(Path(folder)) as found, sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM))
        both: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for colours in both:
            page = signed_in(browser, found, colours)
            if colours == "light":
                decide(page, found)
            for name, address in addresses(found).items():
                if asked.only and name not in asked.only.split(","):
                    continue
                with Image.open(io.BytesIO(taken(page, address))) as image:
                    every = Image.Quantize.MAXCOVERAGE  # a small dot of a colour of its own keeps it
                    small = image.convert("RGB").quantize(COLOURS, every, dither=Image.Dither.NONE)
                    small.save(asked.out / f"{name}-{colours}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()

"""The page in a real Chromium: by pointer and by keys, in light and dark, and what axe-core says of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.ui.explored import Explored


def test_a_threshold_is_dragged_and_says_how_many(page: Page, explored: Explored) -> None:
    page.goto(f"/jobs/{explored.job}")
    handle = page.get_by_role("slider", name="Score: threshold")
    says = page.locator("[data-says]")
    expect(says).to_have_text("600 of 600 samples shown.")
    handle.focus()
    handle.evaluate("node => { node.value = 700; node.dispatchEvent(new Event('input')); }")
    expect(says).not_to_contain_text("600 of")
    said = int(says.inner_text().split(" ")[0])
    assert 0 < said < 200
    with page.expect_navigation():
        page.get_by_role("button", name="Show").click()
    assert "min=" in page.url
    expect(page.locator("[data-says]")).to_have_text(f"{said} of 600 samples shown.")
    expect(page.locator(".bar.over").first).to_be_visible()


def test_filters_apply_as_they_are_chosen(page: Page, explored: Explored) -> None:
    page.goto(f"/jobs/{explored.job}")
    with page.expect_navigation():
        page.get_by_label("Order").select_option("suspicion")
    with page.expect_navigation():
        page.get_by_label("Labelled", exact=True).select_option("3")
    assert "order=suspicion" in page.url
    assert "label=3" in page.url
    assert "min=" not in page.url, "empty fields stay out of the address"
    for words in page.locator(".sample .labels").all_inner_texts():
        assert "3" in words.split("→")[0]


def test_arrows_move_among_samples_and_enter_looks_closer(page: Page, explored: Explored) -> None:
    page.goto(f"/jobs/{explored.job}")
    cards = page.locator("[data-index]")
    cards.first.locator(".media").focus()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1).locator(".media")).to_be_focused()
    across = page.evaluate(
        "() => { const all = [...document.querySelectorAll('[data-index]')];"
        " return all.findIndex(one => one.offsetTop > all[0].offsetTop); }"
    )
    page.keyboard.press("ArrowDown")
    expect(cards.nth(1 + across).locator(".media")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("[data-ticked]")).to_have_text("1 ticked")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    cards.nth(0).locator(".media").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/samples/**")
    expect(page.get_by_text("1 of 600, harmful first")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("2 of 600, harmful first")).to_be_visible()


def test_the_way_through_a_query(page: Page, explored: Explored) -> None:
    page.goto(f"/jobs/{explored.by_query}")
    page.get_by_role("link", name="Queries", exact=True).click()
    page.get_by_role("link", name="Query sample 5").click()
    expect(page.get_by_role("heading", name="Opponents")).to_be_visible()
    page.locator("section", has=page.get_by_role("heading", name="Opponents")).get_by_role(
        "link"
    ).first.click()
    page.wait_for_url("**/samples/**")


def test_a_job_started_elsewhere_comes_and_ends_before_ones_eyes(page: Page, explored: Explored) -> None:
    expect(page.get_by_role("link", name="seen coming")).to_have_count(0)
    asked = {"type": "influence", "trajectory_id": explored.trajectory, "train_dataset_id": explored.train}
    asked |= {"query_dataset_id": explored.query, "name": "seen coming"}
    with explored.service.client() as api:
        assert api.post("/v1/jobs", json=asked).status_code == 202
    row = page.get_by_role("row").filter(has_text="seen coming")
    expect(row).to_be_visible(timeout=20_000)
    expect(row).to_contain_text("succeeded", timeout=60_000)


def test_colours_are_chosen_and_kept(page: Page, explored: Explored) -> None:
    page.goto(f"/jobs/{explored.job}/charts")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    button = page.get_by_role("button", name="Colours")
    button.click()
    button.click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark


# What scripts put into the form of a new job is there.
FILLED = "() => !document.querySelector('[data-new]') || document.querySelector('[data-option]')"


@pytest.fixture(scope="module", params=["light", "dark"])
def inspected(request: pytest.FixtureRequest, browser: Browser, explored: Explored) -> Iterator[Page]:
    """A page into which axe-core may be put, which the policy forbids to everybody else."""
    context = browser.new_context(base_url=explored.url, color_scheme=request.param, bypass_csp=True)
    page = context.new_page()
    page.goto("/sign-in")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_label("API key").fill(explored.service.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    yield page
    context.close()


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/jobs/{job}",
        "/jobs/{job}?order=suspicion&differing=1",
        "/jobs/{job}/charts",
        "/jobs/{job}/samples/5",
        "/jobs/{by_query}/queries",
        "/jobs/{by_query}/queries/3",
        "/jobs/{table}",
        "/selections/{selection}",
        "/jobs/nothing",
        "/inputs",
        "/datasets/{train}?label=3",
        "/trajectories/{trajectory}",
        "/jobs/new?train_dataset_id={train}",
        "/jobs/new?way=train&train_dataset_id={train}",
        "/jobs/{job}/decisions",
        "/jobs/{job}/selections",
        "/jobs/{job}/selections?type=deletion",
    ],
)
def test_everybody_can_use_it(inspected: Page, explored: Explored, address: str) -> None:
    inspected.goto(address.format(**vars(explored)))
    inspected.wait_for_function(FILLED)
    found = Axe().run(inspected)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/jobs/{job}",
        "/jobs/{job}/charts",
        "/jobs/{job}/samples/5",
        "/inputs",
        "/datasets/{train}",
        "/trajectories/{trajectory}",
        "/jobs/new",
        "/jobs/{job}/decisions",
        "/jobs/{job}/selections",
        "/jobs/new?way=train&train_dataset_id={train}",
    ],
)
def test_a_phone_need_not_scroll_sideways(browser: Browser, explored: Explored, address: str) -> None:
    context = browser.new_context(base_url=explored.url, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto("/sign-in")
    page.get_by_label("API key").fill(explored.service.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    page.goto(address.format(**vars(explored)))
    page.wait_for_function(FILLED)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()

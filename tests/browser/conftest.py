"""A Chromium, and pages of it that fail the test by any complaint."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESK = {"width": 1360, "height": 900}
SOON = 15_000  # milliseconds

expect.set_options(timeout=SOON)


@pytest.fixture
async def chromium():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(chromium):
    """Open a page that fails the test by what the browser complains of; with the names of those that it may."""
    complaints, contexts = [], []

    async def open_page(url, *, allowed=(), **given):
        context = await chromium.new_context(viewport=DESK, **given) if "viewport" not in given else None
        context = context or await chromium.new_context(**given)
        contexts.append(context)
        page = await context.new_page()

        def complain(words):
            if not any(each in words for each in allowed):
                complaints.append(words)

        page.on(
            "console", lambda said: complain(f"{said.type}: {said.text}") if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: complain(f"error: {error}"))
        page.on("requestfailed", lambda failed: None if was_left(failed) else complain(f"failed: {failed.url}"))
        await page.goto(url)
        return page

    async def close_all():
        while contexts:
            await contexts.pop().close()

    open_page.close_all = close_all
    yield open_page
    await close_all()
    assert complaints == []


def was_left(failed):
    """Whether a page was closed, or another one opened, while it asked."""
    return failed.failure == "net::ERR_ABORTED"


async def shot(page, name):
    if folder := os.environ.get("REACTOR_SCREENSHOTS"):
        await page.screenshot(path=Path(folder, f"{name}.png"))  # it makes the folder

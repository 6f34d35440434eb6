"""A Chromium of the system without a network, and what a page does and says in it.

Needs the Python package `playwright` and a Chromium (Debian: `apt-get install chromium`; or its path in BGE_CHROMIUM).
Playwright's own browser download is not used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("BGE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on this system; hint: apt-get install chromium, or its path in BGE_CHROMIUM")
    # Chromium's own sandbox refuses to run as root, which containers are.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=flags)
        yield started
        started.close()


class Visit:
    """A page that was opened without a network, and what it tried and complained of."""

    def __init__(self, browser: Any, path: Path, scheme: str, width: int) -> None:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("load")

    def assert_it_loads_and_runs_nothing(self, file: Path) -> None:
        """Whatever the texts in it try, which set `window.pwned` if they can."""
        assert self.asked == [file.as_uri()]
        assert self.said == []
        assert self.page.evaluate("typeof window.pwned") == "undefined"
        assert self.page.evaluate("document.scripts.length + document.images.length") == 0

    def assert_nothing_is_wider_than_the_screen(self) -> None:
        """With everything opened, but for tables and settings, which scroll in a frame of their own."""
        width = self.page.evaluate("innerWidth")
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert self.page.evaluate("document.documentElement.scrollWidth") == width
        wide = self.page.evaluate(
            """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll *, pre *'))
               .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"""
        )
        assert wide == []


@pytest.fixture(params=[("light", 1200), ("dark", 400)], ids=str)
def visit(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Visit]:
    """The module's `page_file`, wide and light, then narrow and dark."""
    scheme, width = request.param
    visit = Visit(browser, page_file, scheme, width)
    yield visit
    visit.page.context.close()

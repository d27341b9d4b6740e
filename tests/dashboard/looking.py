"""Pages in Chromium: opened as people open them, and watched for what must never happen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

from tests.gateway import ADMIN_KEY, Gateway

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / ".screenshots"
"""Kept as the run's output, for people to look at; not committed."""
AXE = (ROOT / "tests" / "dashboard" / "vendor" / "axe.min.js").read_text()
SIZES = {"wide": (1280, 900), "tablet": (768, 1024), "phone": (400, 860)}
THEMES = ("light", "dark")
SERIOUS = {"serious", "critical"}


@dataclass
class Look:
    """A page that is open. `foreign` are requests that left the gateway, `complaints` what the browser said of it."""

    page: Page
    base_url: str
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    """Dialogs that were opened: a script of somebody's ran."""

    async def another(self) -> Page:
        """One more tab of the same browser, watched as the first."""
        page = await self.page.context.new_page()
        self.watch(page)
        return page

    def watch(self, page: Page) -> None:
        """Tell here what it asks for, what is said of it, and what runs there."""

        async def opened(dialog: Any) -> None:
            self.ran.append(dialog.message)
            await dialog.dismiss()

        page.on("request", self._asked)
        page.on("dialog", opened)
        page.on("console", lambda line: self.complaints.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.base_url + "/dashboard", "data:")):
            self.foreign.append(request.url)

    async def open(self, path: str) -> None:
        """Load a page, and wait until it stands."""
        await self.page.goto(self.base_url + path)
        await self.settle()

    async def settle(self) -> None:
        """Until what is loaded by itself is there."""
        await self.page.wait_for_selector("[aria-busy=true]", state="detached")

    async def axe(self) -> list[str]:
        """What axe-core finds serious, with the element."""
        await self.page.evaluate(AXE)
        found: dict[str, Any] = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]

    async def overflows(self) -> int:
        """By how many pixels it is wider than the window."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    async def keep(self, name: str) -> None:
        """A screenshot of all of it."""
        SCREENSHOTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def sign_in(context: BrowserContext, base_url: str, key: str = ADMIN_KEY) -> None:
    """By the form."""
    page = await context.new_page()
    await page.goto(f"{base_url}/dashboard/sign-in")
    await page.fill("#key", key)
    await page.press("#key", "Enter")
    await page.wait_for_url(f"{base_url}/dashboard")
    await page.close()


@asynccontextmanager
async def looking(
    chromium: Browser, gateway: Gateway, *, theme: str = "light", size: str = "wide", key: str | None = ADMIN_KEY
) -> AsyncIterator[Look]:
    """A browser of its own, signed in with this key."""
    width, height = SIZES[size]
    context = await chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce", locale="en-GB"
    )
    if key is not None:
        await sign_in(context, gateway.base_url, key)
    page = await context.new_page()
    look = Look(page, gateway.base_url)
    look.watch(page)
    yield look
    await context.close()

"""A browser without a screen: keeps cookies, sends forms, and knows the token of the last page that it saw."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any

import aiohttp

from tests.gateway import ADMIN_KEY, Gateway

HTML = {"accept": "text/html"}
TOKEN = re.compile(r'name="token" value="([^"]*)"')


@dataclass
class Seen:
    """A page, or whatever else came back."""

    status: int
    headers: Mapping[str, str]
    cookies: list[str]
    text: str

    @property
    def words(self) -> str:
        """What stands in it, without marks."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())


@dataclass
class Visitor:
    """One browser, at a gateway."""

    gateway: Gateway
    session: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    token: str = ""

    @property
    def kept(self) -> dict[str, str]:
        """The header with its cookies."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"cookie": cookie} if cookie else {}

    async def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **how: Any) -> Seen:
        """Redirects are told, not followed."""
        sent = {**HTML, **self.kept, **(headers or {})}
        async with self.session.request(method, path, headers=sent, allow_redirects=False, **how) as answer:
            text = (await answer.read()).decode()
            told = answer.headers.getall("set-cookie", [])
        for line in told:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if not morsel.value:
                    del self.cookies[name]
        if found := TOKEN.search(text):
            self.token = found[1]
        return Seen(answer.status, {name.lower(): value for name, value in answer.headers.items()}, told, text)

    async def look(self, path: str = "/dashboard", **headers: str) -> Seen:
        """GET a page."""
        return await self.ask("GET", path, headers=headers)

    async def send(self, path: str, *, headers: Mapping[str, str] | None = None, **form: str) -> Seen:
        """Send a form, with the token of the last page unless another is given."""
        return await self.ask("POST", path, data={"token": self.token, **form}, headers=headers)

    async def sign_in(self, key: str = ADMIN_KEY) -> Seen:
        """As people do: load the form, send it."""
        await self.look("/dashboard/sign-in")
        seen = await self.send("/dashboard/sign-in", key=key)
        if seen.status == 303:
            await self.look()
        return seen


@asynccontextmanager
async def visiting(gateway: Gateway, address: str | None = None) -> AsyncIterator[Visitor]:
    """A new browser; at an address of its own if one is given."""
    connector = None if address is None else aiohttp.TCPConnector(local_addr=(address, 0))
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(gateway.base_url, cookie_jar=jar, connector=connector) as session:
        yield Visitor(gateway, session)

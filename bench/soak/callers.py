"""Those who ask, at a steady rate whatever becomes of it, and the operator who looks at everything in turn."""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import aiohttp

from bench.dashboard import PAGES
from bench.soak.mixture import FAILING, Ask, ask

PATIENCE: Final = 30.0
"""Seconds after which anybody gives up."""
FEEDBACK: Final = "/v1/feedback"
JUDGED: Final = 5
"""One in so many hits in other words is said to have been right."""
AT_ONCE_SECONDS: Final = 0.01
"""After which those leave who leave at once: their provider is being asked."""
LOOKS: Final = 1.0
"""Seconds from one look of the operator to the next."""
SCRAPED: Final = ("/metrics", "/v1/metrics", "/health", "/ready", "/costs")
ADMINISTERED: Final = (
    *("/admin/stats", "/admin/circuits", "/admin/semantic", "/admin/keys", "/admin/audit"),
    *("/api/monitoring/budgets", "/api/monitoring/health"),
)
LIVE: Final = "/dashboard/events?page=overview"
LIVE_SECONDS: Final = 20.0
MOST_TOLD: Final = 20
TOKEN: Final = re.compile(r'name="token" value="([^"]*)"')
HTML: Final = {"accept": "text/html"}


class Callers:
    """What they asked, and what came of it: `came` by kind and by status, `wrong` in words."""

    def __init__(self, base_url: str, keys: Mapping[str, str]) -> None:
        self.came: Counter[tuple[str, str]] = Counter()
        self.sources: Counter[str] = Counter()
        """Who answered, by `x-cache`."""
        self.wrong: list[str] = []
        self.latest = 0.0
        """Seconds after its moment that a request was sent, at most."""
        self._base_url = base_url
        self._keys = keys

    def __repr__(self) -> str:
        return f"<Callers {self.came.total()} answers, {len(self.wrong)} of them wrong>"

    async def run(self, rate: float, seconds: float) -> int:
        """Ask so often a second for so long, and wait for the answers; how many requests were planned."""
        planned = round(rate * seconds)
        async with self._session() as session, asyncio.TaskGroup() as asking:
            began = time.monotonic()
            for number in range(planned):
                due = began + number / rate
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self.latest = max(self.latest, time.monotonic() - due)
                asking.create_task(self._do(session, ask(number)))
        return planned

    async def _do(self, session: aiohttp.ClientSession, one: Ask) -> None:
        for _ in range(one.times):
            try:
                async with asyncio.timeout(AT_ONCE_SECONDS if one.leaves == "at once" else PATIENCE):
                    came = await self._send(session, one)
            except (aiohttp.ClientError, TimeoutError) as exc:
                came = "left" if one.leaves else type(exc).__name__
                if not one.leaves:
                    self._complain(one, repr(exc))
            self.came[one.kind, came] += 1

    async def _send(self, session: aiohttp.ClientSession, one: Ask) -> str:
        body = one.body if isinstance(one.body, bytes) else json.dumps(one.body).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._keys[one.key]}", **one.headers}
        async with session.post(one.path, data=body, headers=headers) as answer:
            if one.leaves == "midway":
                await answer.content.readany()
                answer.close()
                return "left"
            said = await answer.read()
        if answer.status not in one.allowed:
            self._complain(one, f"{answer.status} {said[:200]!r}")
        elif answer.status == HTTPStatus.OK and not _is_whole(one, said):
            self._complain(one, f"the answer to something else: {said[:300]!r}")
        source = answer.headers.get("x-cache", "")
        self.sources[source] += 1
        if source == "semantic" and self.sources[source] % JUDGED == 0:
            await self._judge(session, answer.headers["x-sentinel-id"])
        return str(answer.status)

    async def _judge(self, session: aiohttp.ClientSession, id_: str) -> None:
        verdict = Ask("feedback", FEEDBACK, {"request_id": id_, "correct": True})
        await self._do(session, verdict)

    def _complain(self, one: Ask, what: str) -> None:
        if len(self.wrong) < MOST_TOLD:
            self.wrong.append(f"{one.kind}: {what}")
        self.came["wrong", one.kind] += 1

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(self._base_url, connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield session


def _is_whole(one: Ask, said: bytes) -> bool:
    if one.allowed is FAILING:
        return True  # it may break off
    streams = isinstance(one.body, dict) and one.body.get("stream", False)
    return one.expected.encode() in said and (not streams or said.endswith(b"data: [DONE]\n\n"))


class Operator:
    """Scrapes, looks at every page of the dashboard in turn, and leaves one open."""

    def __init__(self, base_url: str, key: str) -> None:
        self.looks = 0
        self.wrong: list[str] = []
        self._base_url = base_url
        self._key = key

    def __repr__(self) -> str:
        return f"<Operator {self.looks} looks, {len(self.wrong)} of them in vain>"

    async def look(self, stopped: asyncio.Event) -> None:
        """Until told to stop."""
        async with aiohttp.ClientSession(self._base_url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            await self._sign_in(session)
            async with asyncio.TaskGroup() as looking:
                looking.create_task(self._watch(session, stopped))
                for path in itertools.cycle((*SCRAPED, *ADMINISTERED, *PAGES)):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOKS):
                            await stopped.wait()
                    if stopped.is_set():
                        break
                    await self._get(session, path)

    async def _sign_in(self, session: aiohttp.ClientSession) -> None:
        async with session.get("/dashboard/sign-in", headers=HTML) as form:
            found = TOKEN.search(await form.text())
        sent = urlencode({"token": found[1] if found else "", "key": self._key, "to": ""})
        headers = {**HTML, "content-type": "application/x-www-form-urlencoded"}
        async with session.post("/dashboard/sign-in", data=sent, headers=headers, allow_redirects=False) as answer:
            if answer.status != HTTPStatus.SEE_OTHER:
                self.wrong.append(f"signing in: {answer.status}")

    async def _get(self, session: aiohttp.ClientSession, path: str) -> None:
        headers = HTML if path.startswith("/dashboard") else {"authorization": f"Bearer {self._key}"}
        try:
            async with asyncio.timeout(PATIENCE), session.get(path, headers=headers) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            self.wrong.append(f"{path}: {exc!r}")
            return
        self.looks += 1
        if answer.status != HTTPStatus.OK:
            self.wrong.append(f"{path}: {answer.status}")

    async def _watch(self, session: aiohttp.ClientSession, stopped: asyncio.Event) -> None:
        """A page that is open, closed and opened again."""
        timeout = aiohttp.ClientTimeout(total=None)
        while not stopped.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LIVE_SECONDS), session.get(LIVE, headers=HTML, timeout=timeout) as events:
                    while not stopped.is_set() and await events.content.readline():
                        pass

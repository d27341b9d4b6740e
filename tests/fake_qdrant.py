"""A Qdrant of our own that says yes to everything, unless told otherwise: for its faults, and for what it is asked."""

import asyncio
import json
import re

from aiohttp import web

from tests.servers import free_port

CREATION = re.compile("/collections/[^/]+")


class FakeQdrant:
    """Holds three questions in every scope, and finds none. `created` is its answer to a new collection.

    While `missing` it knows no collection; while `frozen` it answers nothing. `asked`: method, path and body of each request.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.created = (200, {"result": True})
        self.missing = False
        self.frozen = False
        self.asked: list[tuple[str, str, dict]] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def bodies(self, method: str, path: str) -> list[dict]:
        return [body for asked, where, body in self.asked if (asked, where) == (method, path)]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append((request.method, request.path, json.loads(body or b"{}")))
        if self.frozen:
            await asyncio.sleep(60)
        if request.method == "PUT" and CREATION.fullmatch(request.path):
            status, answer = self.created
            self.missing = self.missing and status != 200
            return self._json(status, answer)
        if self.missing and request.path != "/collections":
            return self._json(404, {"status": {"error": "Not found: Collection doesn't exist!"}})
        if request.path.endswith("/points/count"):
            return self._json(200, {"result": {"count": 3}})
        if request.path.endswith("/points/scroll"):
            return self._json(200, {"result": {"points": []}})
        if request.path == "/collections":
            return self._json(200, {"result": {"collections": []}})
        return self._json(200, {"result": {"operation_id": 1, "status": "completed"}})

    @staticmethod
    def _json(status: int, body: dict) -> web.Response:
        return web.json_response({"time": 0.0, "status": "ok"} | body, status=status)

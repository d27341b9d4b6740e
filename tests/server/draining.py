"""A server in its own process, to send signals to. Tells what happens, one word a line: the port, `draining`, `reloaded`.

Arguments: the drain's notice and timeout, in seconds, and `held`, if the loop is to be held up within that notice: it tells that
it is, and goes on once it is given a line. An answer at `/until` ends once it is given one, too.
"""

import asyncio
import sys

import uvloop

from sentinel_gateway.api.bounds import ServerLimits
from sentinel_gateway.api.server import Drain, Hooks, build_server


class App:
    def __init__(self, held_after: float | None) -> None:
        self.status = 200
        self.held_after = held_after

    async def __call__(self, scope, receive, send) -> None:
        await receive()
        answering = asyncio.create_task(self._answer(scope, send))
        leaving = asyncio.create_task(receive())
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        leaving.cancel()

    async def _answer(self, scope, send) -> None:
        seconds = float(scope["query_string"] or 0)
        headers = [(b"content-type", b"text/plain")]
        if scope["path"] == "/late":
            tell("asked")
            await asyncio.sleep(seconds)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if scope["path"] == "/told":
            tell("asked")
        if scope["path"] in {"/stream", "/broken"}:
            for _ in range(int(seconds * 20)):
                await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
                await asyncio.sleep(0.05)
        if scope["path"] == "/until":
            await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
            await asyncio.to_thread(sys.stdin.readline)
        if scope["path"] == "/broken":
            return
        await send({"type": "http.response.body", "body": b"end\n"})

    def drain(self) -> None:
        self.status = 503
        tell("draining")
        if self.held_after is not None:
            asyncio.get_running_loop().call_later(self.held_after, hold)

    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def refused(self, record: object) -> None: ...


def tell(word: object) -> None:
    print(word, flush=True)


def hold() -> None:
    """Nothing else runs meanwhile."""
    tell("held")
    sys.stdin.readline()


async def main() -> None:
    notice, timeout, *held = sys.argv[1:]
    app = App(float(notice) / 2 if held else None)
    hooks = Hooks(app, drain=app.drain, reload=lambda: tell("reloaded"))
    drain = Drain(float(notice), float(timeout))
    server = build_server(app, host="127.0.0.1", port=0, limits=ServerLimits(), drain=drain, hooks=hooks)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
        await asyncio.sleep(0.005)
    tell(server.port)
    await serving
    tell("closed")


if __name__ == "__main__":
    uvloop.run(main())

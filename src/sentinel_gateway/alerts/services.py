"""Chats, mail and pagers by Apprise: Slack, Discord, PagerDuty, Telegram, SMTP and a hundred more, each by one URL.

The library blocks, and logs URLs that hold tokens: so it has a thread of its own for each message, which nobody waits for beyond
a deadline, and its log is shut. What it says of a failure is not passed on for the same reason.
"""

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import Final

import apprise

from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.errors import ChannelDown
from sentinel_gateway.ports.alerts import Letter

DEADLINE: Final = 20.0
"""Seconds for one message. The library itself gives a socket 4."""
SILENT: Final = logging.CRITICAL + 1


class Service:
    """Behind `Channel`. Raises ValueError for a URL that is none of Apprise's."""

    def __init__(self, name: str, url: str, *, deadline: float = DEADLINE) -> None:
        logging.getLogger("apprise").setLevel(SILENT)
        # Without a deadline of its own it has no pool of its own either, whose threads would outlive a service that hangs.
        asset = apprise.AppriseAsset(app_id="Sentinel", app_desc="Sentinel", app_url="", async_mode=False, service_timeout=0)
        self._service = apprise.Apprise(asset=asset)
        found = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if found is None:
            raise ValueError("is no URL of Apprise's, or lacks a part: https://appriseit.com/services/ lists them")
        found.overflow_mode = apprise.OverflowMode.TRUNCATE  # one message stays one
        self._service.add(found)
        self.name = name
        self.kind = url.partition(":")[0].lower()
        self._deadline = deadline
        self._sending: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Service {self.name} {self.kind}>"

    async def send(self, letter: Letter) -> None:
        if self._sending is not None and self._sending.is_alive():
            raise ChannelDown(f"{self.kind} has not yet come to an end with the message before")
        answer: Future[bool] = Future()
        self._sending = threading.Thread(target=self._send, args=(letter.message, answer), name="sentinel-alert", daemon=True)
        self._sending.start()
        try:
            arrived = await asyncio.wait_for(asyncio.wrap_future(answer), self._deadline)
        except TimeoutError as exc:
            raise ChannelDown(f"{self.kind} did not take it within {self._deadline:g} s") from exc
        if not arrived:
            raise ChannelDown(f"{self.kind} did not take it: is its URL right, and can it be reached?")

    # On the thread.

    def _send(self, message: Message, answer: Future[bool]) -> None:
        try:
            arrived = bool(
                self._service.notify(
                    title=message.title,
                    body=message.text,
                    notify_type=_type(message),
                    body_format=apprise.NotifyFormat.TEXT,
                )
            )
        except Exception:  # noqa: BLE001 - broad: a plugin may raise anything, and its words may hold the URL
            arrived = False
        if answer.set_running_or_notify_cancel():
            answer.set_result(arrived)


def _type(message: Message) -> apprise.NotifyType:
    if message.good:
        return apprise.NotifyType.SUCCESS
    return apprise.NotifyType.FAILURE if message.severity == "page" else apprise.NotifyType.WARNING

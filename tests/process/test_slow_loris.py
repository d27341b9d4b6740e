"""D3: each of thousands of callers that take their time is cut at its deadline, and honest ones notice nothing."""

import asyncio
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process.slow_loris import Honest, Swarm, lives
from tests.server.nginx import is_installed, running_nginx

EARLY = 0.1
"""Seconds that a clock may be off."""


class Siege(NamedTuple):
    """Callers of each attack; seconds of the attack, of the three deadlines, and by how many they may be missed."""

    each: int
    seconds: float
    head: float
    body: float
    reader: float
    late: float


SOME = Siege(each=40, seconds=4, head=1, body=1.5, reader=1.5, late=5)
ALL = Siege(each=2000, seconds=60, head=10, body=30, reader=30, late=1)
SIEGES = [pytest.param(SOME, id="some"), pytest.param(ALL, id="all", marks=pytest.mark.long)]
RATE = 8
"""Honest requests a second."""


@contextmanager
def files_for(siege: Siege, absent) -> Iterator[None]:
    """Room for two ends of every connection in a proxy, which inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 8 * siege.each + 1000
    if hard != resource.RLIM_INFINITY and hard < needed:
        absent(f"room for {needed} open files (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def settings(siege: Siege) -> Mapping[str, str]:
    """Half as many requests may be under way as there are callers of each attack: who only pretends to ask takes no place."""
    return {
        "SENTINEL_SERVER__HEADER_TIMEOUT": str(siege.head),
        "SENTINEL_SERVER__BODY_TIMEOUT": str(siege.body),
        "SENTINEL_SERVER__WRITE_TIMEOUT": str(siege.reader),
        "SENTINEL_SERVER__MAX_IN_FLIGHT": str(siege.each // 2),
        "SENTINEL_SERVER__QUEUE": str(siege.each // 10),
        "LOG_LEVEL": "warn",
    }


def proxied(folder: Path, port: int, siege: Siege):
    """nginx as it should be set up before a gateway: it passes on a body as it comes, or would wait for it for ever."""
    server = f"""
        client_header_timeout {round(siege.head * 1000)}ms;
        client_body_timeout {round(siege.body * 1000)}ms;
        send_timeout {round(siege.reader * 1000)}ms;
        reset_timedout_connection on;
    """
    return running_nginx(folder, port, server=server, location="proxy_request_buffering off; proxy_set_header Host $host;")


@pytest.mark.anyio
@pytest.mark.parametrize("siege", SIEGES)
@pytest.mark.parametrize("behind_nginx", [False, True], ids=["direct", "behind nginx"])
async def test_slow_callers_are_cut_and_honest_ones_served(serve, tmp_path, absent, siege: Siege, behind_nginx: bool):
    if behind_nginx and not is_installed():
        absent("nginx (make test-deps installs it)")
    with ExitStack() as around:
        around.enter_context(files_for(siege, absent))
        program = serve(**settings(siege))
        port = around.enter_context(proxied(tmp_path, program.port, siege)).port if behind_nginx else program.port
        swarm, honest = Swarm(port, siege.each), Honest(port, RATE)
        longest = max(siege.head, siege.body, siege.reader)
        await honest.ask_while(asyncio.create_task(swarm.attack(siege.seconds, patience=longest + siege.late)))

        found = lives(swarm.callers)
        figures = {attack: f"{len(times)} lived {times[0]:.2f} to {times[-1]:.2f} s" for attack, times in found.items()}
        print(siege, "behind nginx" if behind_nginx else "direct", figures, f"{honest.asked} honest requests")
        assert honest.failures == [], f"{len(honest.failures)} of {honest.asked} failed"
        for attack, times in found.items():
            assert len(times) >= siege.each
            assert getattr(siege, attack) - EARLY <= times[0], figures
            assert times[-1] <= getattr(siege, attack) + siege.late, figures
        if not behind_nginx:
            answers = {caller.answer[:12] for caller in swarm.callers if caller.attack != "reader"}
            assert answers == {b"HTTP/1.1 408"}
        metrics = program.request("GET", "/metrics").body.decode()
        assert re.search(r"^sentinel_in_flight 0.0$", metrics, re.MULTILINE)
        assert program.process.poll() is None
    program.stop()
    assert program.lines.read_text() == "", "nothing was worth a warning"

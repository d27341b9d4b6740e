"""Machines for a run: network namespaces joined by a bridge, or, where those may not be made, addresses of the loopback device.

A program that calls `own_network()` first goes on in a namespace of its own, which ends with it: nothing is left on the host.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from tests.servers import Machine

INSIDE = "SENTINEL_SCALE_OUT_NETWORK"
LONGEST = 3600
"""Seconds after which the namespaces of a run that was killed are gone."""


class Network(Protocol):
    """Machines by number; 1 is the one that this program runs on."""

    kind: str

    def machine(self, number: int) -> Machine: ...


class Loopback:
    """Many addresses of one machine."""

    kind = "addresses of the loopback device"

    def machine(self, number: int) -> Machine:
        return Machine(f"127.66.0.{number}")


class Namespaces:
    """Each machine is a network namespace with one device, on a bridge here."""

    kind = "network namespaces, joined by a bridge"

    def __init__(self, holders: ExitStack) -> None:
        self._holders = holders
        for command in ("link set lo up", "link add hub type bridge", "addr add 10.66.0.1/24 dev hub", "link set hub up"):
            _ip(command)

    def machine(self, number: int) -> Machine:
        if number == 1:
            return Machine("10.66.0.1")
        command = ["unshare", "--net", "--", "sleep", str(LONGEST)]
        holder = self._holders.enter_context(subprocess.Popen(command))
        self._holders.callback(holder.kill)
        within = ("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--")
        _until_apart(holder.pid)
        _ip(f"link add port{number} type veth peer name eth0 netns {holder.pid}")
        _ip(f"link set port{number} master hub up")
        for command in ("link set lo up", f"addr add 10.66.0.{number}/24 dev eth0", "link set eth0 up"):
            _ip(command, within)
        return Machine(f"10.66.0.{number}", within)


def own_network() -> None:
    """Start this program again, in a network namespace of its own, where that may be made. Does nothing there."""
    if INSIDE in os.environ:
        return
    bridge = ["unshare", "--net", "--", "ip", "link", "add", "hub", "type", "bridge"]
    may = subprocess.run(bridge, capture_output=True, check=False).returncode == 0
    environ = os.environ | {INSIDE: "namespaces" if may else "loopback"}
    before = ["unshare", "--net", "--"] if may else []
    command = [*before, sys.executable, "-m", "tests.scale_out.run", *sys.argv[1:]]
    os.execvpe(command[0], command, environ)


@contextmanager
def network() -> Iterator[Network]:
    """The one that this program was started in; its machines end with it."""
    if os.environ.get(INSIDE) != "namespaces":
        yield Loopback()
        return
    with ExitStack() as holders:
        yield Namespaces(holders)


def _ip(command: str, within: Sequence[str] = ()) -> None:
    subprocess.run([*within, "ip", *command.split()], check=True)


def _until_apart(pid: int) -> None:
    """Until the process has left this namespace for its own."""
    here = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{pid}/ns/net").readlink() == here:
        time.sleep(0.001)

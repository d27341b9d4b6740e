"""`python -m bench.chaos`: the mock upstream as a process. Prints its base URL, serves until it is told to stop."""

import argparse
import asyncio
import gc
import signal
from typing import Final

import uvloop

from bench.chaos import ChaosUpstream
from bench.chaos.fault import table

COLLECT_AFTER: Final = (50_000, 1, 1000)
"""Seldom, or whoever is measured would be thought to pause: a log of 10,000 calls takes a tenth of a second to look through."""


async def serve(port: int, seed: int, keep_calls: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ChaosUpstream(port=port, seed=seed, keep_calls=keep_calls) as upstream:
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        print(upstream.base_url, flush=True)
        await stop.wait()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos", description="An OpenAI-compatible upstream that fails on demand."
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--seed", type=int, default=0, help="of the chance behind err_rate")
    parser.add_argument("--keep-calls", type=int, default=10_000, help="length of the call log")
    parser.add_argument("--faults", action="store_true", help="print the table of settings and leave")
    arguments = parser.parse_args()
    if arguments.faults:
        print(table())
        return
    uvloop.run(serve(arguments.port, arguments.seed, arguments.keep_calls))


if __name__ == "__main__":
    main()

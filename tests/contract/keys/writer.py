"""A process that makes keys and says on stdout which are on the disk, until it is killed or has made enough."""

import asyncio
import sys
from pathlib import Path

from tests.contract.keys.conftest import open_state


async def write(folder: Path, first: int, count: int) -> None:
    state = await open_state(folder)
    for number in range(first, first + count):
        await state.create(number)
        print(number, flush=True)
    await state.file.close()


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))

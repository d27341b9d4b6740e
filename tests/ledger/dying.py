"""A process that writes rows and dies: `python -m tests.ledger.dying FOLDER HOW`.

HOW is `calls`: it writes ten calls, and ends itself by SIGKILL where the outcomes of the third and the last are not known yet.
Or it is `steps`: it makes a database at the URL FOLDER, and does so as soon as its second table is made.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.journal import Journal, JournalLimits
from tests.ledger.rows import asked, handled, spent

UNKNOWN = (3, 10)


async def calls(folder: str) -> None:
    journal = Journal(Path(folder), limits=JournalLimits(segment=1500), on_event=print)
    for number in range(1, 11):
        journal.intend(asked(number))
        if number not in UNKNOWN:
            journal.settle(spent(number))
            journal.handled(handled(number))
    os.kill(os.getpid(), signal.SIGKILL)


async def steps(url: str) -> None:
    def die(_connection, _cursor, statement, *_):
        if "TABLE attempts" in statement:
            print("dying", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "after_cursor_execute", die)
    make_database(Path(url), url if url.startswith("postgresql") else None).open()


if __name__ == "__main__":
    asyncio.run({"calls": calls, "steps": steps}[sys.argv[2]](sys.argv[1]))

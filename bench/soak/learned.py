"""A gateway that has learned for hours before anybody asks it anything: its learner is as large as it may become.

It learns from one request a second, however many come. So half an hour would see a learner grow all the time, which takes 83
minutes to be full, and would not be told from a leak.
"""

import time
from pathlib import Path

from msgspec.structs import replace

from sentinel_gateway.core.calibration import DIGITS, PACE
from sentinel_gateway.core.confidence.features import NEIGHBOURS
from sentinel_gateway.core.confidence.learner import Learner, Observation
from sentinel_gateway.pipeline.learned import written
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.learners import SqlLearners
from sentinel_gateway.stores.secret import gateway_secret


def full() -> bytes:
    """A learner, as it is kept: full, of requests that stand for none, about entries that nobody has. It decides as a new one."""
    learner = Learner(pace=PACE)
    for number in range(PACE.window):
        others = {_name(max(0, number - back)): True for back in range(1, NEIGHBOURS + 1)}
        learner.learn(Observation(weight=0.0, asked=_name(number), compared=others))
    unsurprising = dict.fromkeys(map(_name, range(PACE.entries)), (0.0, 0.0))
    return written(replace(learner.state(), standings=unsurprising))


async def fill(folder: Path, realm: str) -> None:
    """Keep it for this realm in a data folder, of which a gateway is started later."""
    file = await StateFile.open(folder, secret=gateway_secret(folder, None))
    try:
        await SqlLearners(file).keep(realm, full(), time.time(), 0)
    finally:
        await file.close()


def _name(number: int) -> str:
    return f"{number:0{DIGITS}x}"

"""A fast OpenAI-compatible upstream that fails on demand and logs every call.

In a test: `async with ChaosUpstream() as upstream:`. As a process: `python -m bench.chaos --port 9001`.
"""

from bench.chaos.call import Call
from bench.chaos.fault import Fault, FaultError
from bench.chaos.upstream import ChaosUpstream

__all__ = ["Call", "ChaosUpstream", "Fault", "FaultError"]

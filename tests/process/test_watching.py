"""The bench's look at a gateway among the requests of others: at everything that is read without naming anything."""

import json
import re

from bench.load import Message
from bench.watching import PROBES, TIMES, is_looked_at, watch

KNEE = 40.0
SECONDS = 2.0
CHAT = "/v1/chat/completions"


def chat(number: int) -> Message:
    return Message(json.dumps({"model": "demo", "messages": [{"role": "user", "content": f"number {number}"}]}).encode())


def test_all_that_needs_no_name_is_looked_at_among_the_requests_of_others(serve):
    program = serve(LOG_LEVEL="error", SENTINEL_CACHE__SEMANTIC__ENABLED="false")
    paths = program.request("GET", "/openapi.json").json["paths"]
    found = watch(f"{program.base_url}{CHAT}", program.port, chat, KNEE, seconds=SECONDS)
    assert found.paths == [*PROBES, *(path for path, item in paths.items() if is_looked_at(path, item))]
    assert "/api/monitoring/stats/realtime" in found.paths
    seen = (found.calm, found.high)
    assert [one.problems for one in seen] == [{}, {}]
    assert min(one.looks for one in seen) >= len(found.paths)
    metrics = program.request("GET", "/metrics").body.decode()
    asked = re.search(rf'^requests_total{{method="POST",route="{CHAT}",status="200"}} (\S+)', metrics, re.MULTILINE)
    assert float(asked[1]) == sum(KNEE * times * SECONDS for times in TIMES) - sum(one.looks for one in seen)

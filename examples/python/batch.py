"""Many questions in one request: what is asked twice, or in other words, is asked of the provider once. No packages needed."""

import json
import os
import urllib.request

QUESTIONS = [
    "What is the capital of France?",
    "What is the capital of Germany?",
    "What is the capital of France?",
    "Please tell me: what is the capital of France?",
]

request = urllib.request.Request(  # noqa: S310 - the address is whoever runs this program's own
    os.environ.get("GATEWAY", "http://127.0.0.1:8080") + "/v1/query/batch",
    json.dumps({"queries": QUESTIONS, "model": os.environ.get("MODEL", "demo")}).encode(),
    {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('KEY', 'unused')}"},
)
with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - as above
    told = json.load(answer)

for result in told["results"]:
    if result["status"] == 200:  # noqa: PLR2004 - HTTP's own
        print(f"{'cache' if result['answer']['cache_hit'] else 'provider':<8} {QUESTIONS[result['index']]}")
    else:
        print(f"{result['status']}      {result['problem']['detail']}")
print(f"{told['summary']['queries']} questions, {told['summary']['upstream_calls']} calls of a provider")

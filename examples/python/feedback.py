"""Say that a reworded question was answered wrongly: nobody is given that answer again. No packages needed."""

import json
import os
import urllib.request
from typing import Any

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8080")


def post(path: str, body: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """What is answered, and its headers."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('KEY', 'unused')}"}
    request = urllib.request.Request(GATEWAY + path, json.dumps(body).encode(), headers)  # noqa: S310 - the user's own address
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - as above
        return json.load(answer), answer.headers


def ask(question: str) -> Any:
    """The headers of its answer."""
    chat = {"model": os.environ.get("MODEL", "demo"), "messages": [{"role": "user", "content": question}]}
    _, headers = post("/v1/chat/completions", chat)
    print(f"{headers['x-cache']:<9} {question}")
    return headers


ask("How do I reset my password?")
reworded = ask("How can I reset my password?")
if reworded["x-cache"] == "semantic":
    told, _ = post("/v1/feedback", {"request_id": reworded["x-sentinel-id"], "correct": False})
    print(f"said that it was wrong; taken away for all: {told['evicted']}")
    ask("How can I reset my password?")

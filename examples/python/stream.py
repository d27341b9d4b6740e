"""Print an answer as it comes. `x-recovery: buffered` has the gateway begin a stream anew that breaks off, instead of telling."""

import os
import sys

from openai import APIError, OpenAI

client = OpenAI(base_url=os.environ.get("GATEWAY", "http://127.0.0.1:8080") + "/v1", api_key=os.environ.get("KEY", "unused"))

chunks = client.chat.completions.create(
    model=os.environ.get("MODEL", "demo"),
    messages=[{"role": "user", "content": "Tell me of the Danube."}],
    stream=True,
    stream_options={"include_usage": True},
    extra_headers={"x-recovery": "buffered"} if "--wait" in sys.argv else {},
)
try:
    for chunk in chunks:
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            print(piece, end="", flush=True)
        if chunk.usage:
            print(f"\n{chunk.usage.total_tokens} tokens")
except APIError as error:
    sys.exit(f"\nIt broke off: {error.message}")

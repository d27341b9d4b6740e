"""Ask a question, ask it again, ask it in other words; print where each answer came from."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("GATEWAY", "http://127.0.0.1:8080") + "/v1", api_key=os.environ.get("KEY", "unused"))
model = os.environ.get("MODEL", "demo")

for question in ("How do I reset my password?", "How do I reset my password?", "How can I reset my password?"):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=[{"role": "user", "content": question}])
    answer = raw.parse()
    print(f"{raw.headers['x-cache']:<9} {question}  ->  {len(answer.choices[0].message.content)} letters")

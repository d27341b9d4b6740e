"""Google's Python client against recordings of its own API: what it reads, and what it writes. It has no place at a gateway."""

from functools import cache

from google import genai
from google.genai import types

MODEL = "gemini-2.5-flash"
RIVER = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]}
TOWN = {"type": "object", "properties": {"town": {"type": "string"}}}


@cache  # a client that nobody holds is closed
def client(base_url):
    return genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=base_url))


def told(parts, usage):
    return {
        "text": "".join(part.text for part in parts if part.text and not part.thought),
        "thoughts": "".join(part.text for part in parts if part.text and part.thought),
        "calls": [[part.function_call.name, part.function_call.args] for part in parts if part.function_call],
        "prompt": usage.prompt_token_count,
        "answer": usage.candidates_token_count,
        "thinking": usage.thoughts_token_count or 0,
        "cached": usage.cached_content_token_count or 0,
    }


def whole(base_url):
    answer = client(base_url).models.generate_content(model=MODEL, contents="Hello")
    return {**told(answer.candidates[0].content.parts, answer.usage_metadata), "reason": answer.candidates[0].finish_reason.value}


def stream(base_url):
    parts, usage, reason = [], None, None
    for chunk in client(base_url).models.generate_content_stream(model=MODEL, contents="Hello"):
        candidate = chunk.candidates[0] if chunk.candidates else None
        parts += (candidate.content.parts or []) if candidate and candidate.content else []
        reason = candidate.finish_reason if candidate and candidate.finish_reason else reason
        usage = chunk.usage_metadata or usage
    return {**told(parts, usage), "reason": reason.value}


def blocked(base_url):
    answer = client(base_url).models.generate_content(model=MODEL, contents="Hello")
    return answer.prompt_feedback.block_reason.value


def write(base_url):
    """A conversation with everything in it that is translated."""
    called = types.Part(
        function_call=types.FunctionCall(id="t1", name="look_up", args={"river": "Danube"}), thought_signature=b"sig"
    )
    result = types.FunctionResponse(id="t1", name="look_up", response={"output": "2,850 km"})
    contents = [
        types.Content(
            role="user",
            parts=[types.Part(text="Look:"), types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")],
        ),
        types.Content(role="model", parts=[types.Part(text="I look it up."), called]),
        types.Content(role="user", parts=[types.Part(function_response=result)]),
    ]
    look_up = types.FunctionDeclaration(name="look_up", description="How long?", parameters_json_schema=RIVER)
    config = types.GenerateContentConfig(
        system_instruction=[types.Part(text="Be brief.")],
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        seed=7,
        max_output_tokens=4000,
        stop_sequences=["END"],
        presence_penalty=0.5,
        response_mime_type="application/json",
        response_json_schema=TOWN,
        tools=[types.Tool(function_declarations=[look_up])],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["look_up"])
        ),
        thinking_config=types.ThinkingConfig(thinking_budget=1024, include_thoughts=True),
    )
    client(base_url).models.generate_content(model=MODEL, contents=contents, config=config)

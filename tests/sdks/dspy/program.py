"""DSPy."""

import dspy

lm = dspy.LM("openai/demo", api_base="http://127.0.0.1:8080/v1", api_key="unused", cache=False)


class Describe(dspy.Signature):
    """Describe the town."""

    question: str = dspy.InputField()
    name: str = dspy.OutputField()
    people: int = dspy.OutputField()


class Ask(dspy.Signature):
    """Call what helps to answer."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def whole(text):
    (answer,) = lm(text)
    return {"text": answer, "tokens": lm.history[-1]["usage"]["total_tokens"]}


async def stream(text):
    listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]
    program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=listeners)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        *pieces, answer = [piece async for piece in program(question=text)]
    return {"pieces": [piece.chunk for piece in pieces], "text": answer.answer}


def tools(text):
    called = []

    def look_up(river: str) -> str:
        """The length of a river."""
        called.append({"river": river})
        return "2,850 km"

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        answer = dspy.Predict(Ask)(question=text, tools=[dspy.Tool(look_up)])
    for call in answer.calls.tool_calls:
        call.execute(functions={"look_up": look_up})
    return {"called": called, "text": None}


def structured(text):
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        answer = dspy.Predict(Describe)(question=text)
    return {"name": answer.name, "people": answer.people}


def hurry(text):
    lm.copy(timeout=1, num_retries=0)(text)

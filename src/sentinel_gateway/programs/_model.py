"""The gateway as DSPy's language model: DSPy's own writer of OpenAI's dialect, over a transport that goes down our path.

No HTTP and no other client between them. DSPy retries nothing and caches nothing: the path does both.
"""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from sentinel_gateway.errors import RequestError
from sentinel_gateway.programs._threads import Bridge

NAME: Final = "sentinel"
"""What DSPy takes the model's name for. Of real ones it believes to know what they allow; that is the provider's to say."""
NOWHERE: Final = "http://sentinel.invalid/v1"
"""Where questions would go by HTTP."""

_encode = msgspec.json.Encoder().encode


class Answered(AbstractContextManager["Answered"]):
    """What DSPy reads of an HTTP answer."""

    reason = ""
    http_version = "HTTP/1.1"

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: list[tuple[str, str]] = []
        self._body = body

    def read(self) -> bytes:
        return self._body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class Transport:
    """What DSPy sends a request by."""

    def __init__(self, bridge: Bridge, *, fresh: bool) -> None:
        self._bridge = bridge
        self._fresh = fresh

    def stream(self, request: Any) -> Answered:
        """The answer to a request; errors as the dialect tells them, so that programs meet those that they know."""
        try:
            return Answered(200, self._bridge.ask(request.body, fresh=self._fresh))
        except RequestError as error:
            told = {"message": error.message, "type": error.type, "param": error.param, "code": error.shown_code}
            return Answered(error.http_status, _encode({"error": told}))


class Engine:
    """What DSPy asks for one completion."""

    def __init__(self, dspy: Any, bridge: Bridge, *, fresh: bool = False) -> None:
        self._dspy = dspy
        self._bridge = bridge
        words = dspy.lm15.OpenAIChatCompat(instruction_role="system", max_tokens_field="max_tokens")
        transport = Transport(bridge, fresh=fresh)
        self._dialect = dspy.lm15.OpenAIChatLM(api_key="unused", base_url=NOWHERE, compat=words, transport=transport)

    def complete(self, request: Any) -> Any:
        """A `dspy.lm15.Response` to a `Request`."""
        return self._dialect.complete(request)

    def anew(self) -> "Engine":
        """One that takes nothing from the cache: DSPy asks the same several times to choose among the answers."""
        return Engine(self._dspy, self._bridge, fresh=True)

    def close(self) -> None:
        """Nothing is held."""


def model_class(dspy: Any) -> Any:
    """`dspy.LM` whose copies for another rollout get another answer."""

    class GatewayLM(dspy.LM):  # type: ignore[misc]
        def copy(self, **kwargs: Any) -> Any:
            if kwargs.get("rollout_id") is not None:
                kwargs["engine"] = self.engine.anew()
            return super().copy(**kwargs)

    return GatewayLM

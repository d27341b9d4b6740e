"""Errors of a provider's, and what each allows: the same again, another target, or neither."""

import re
from typing import Final, Literal, Self

from sentinel_gateway.errors.base import RequestError

Failure = Literal["upstream_error", "io_error", "tls_error", "json_error"]
"""What failed: the provider itself, the connection to it, the trust in it, or the JSON that it sent (seed 002's names)."""

SANE_CODE: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""A provider's code is passed on only if it looks like one: it reaches logs."""


class UpstreamError(RequestError):
    """`failure` tells operators more than the code tells callers."""

    status = 502
    code = "upstream_error"
    next_target = True
    untouched: bool = False
    """The provider has certainly not begun with the request: asking another does no work twice. May be an instance's own."""
    paid = False
    """It has answered, and takes its money for that, though nobody is given the answer."""
    size: int | None = None
    """Bytes of such an answer, where all of it came."""

    def __init__(
        self, message: str, *, failure: Failure | None = None, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self._failure = failure

    def before_any_work(self) -> Self:
        """The same, of a provider that has certainly not begun."""
        self.untouched = True
        return self

    @property
    def kind(self) -> str:
        return self._failure or super().kind


class UpstreamUnreachable(UpstreamError):
    retry = True
    untouched = True

    def __init__(self, message: str, *, failure: Failure = "io_error") -> None:
        super().__init__(message, failure=failure)


class UpstreamUnauthorized(UpstreamError):
    """The caller's key is fine, ours is not: never a 401, and no retry mends it."""

    code = "upstream_unauthorized"
    untouched = True


class UpstreamBroken(UpstreamError):
    retry = True


class AnswerUnfit(UpstreamError):
    """The model has answered, and a program can't read it: another answer, or another model's, may fit."""

    code = "answer_unfit"
    retry = True


class LeftAlone(UpstreamBroken):
    """Nobody was asked: all who could be have failed again and again. Told apart where seed 001's clients look for it."""

    status = 503
    code = "circuit_open"


class UpstreamOverloaded(UpstreamBroken):
    """The provider says that it has too much to do: Anthropic's 529, by which its clients know what to do."""


class UpstreamTimeout(UpstreamError):
    status = 504
    type = "timeout_error"
    code = "upstream_timeout"
    retry = True


class UpstreamLimited(UpstreamError):
    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    retry = True
    untouched = True


class UpstreamRefused(UpstreamError):
    """The provider's own 4xx, passed on with its status, code and message."""

    status = 400
    type = "invalid_request_error"
    code = "upstream_refused"
    next_target = False
    untouched = True

    def __init__(self, message: str, *, upstream_status: int, upstream_code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.upstream_status = upstream_status
        self.upstream_code = upstream_code

    @property
    def http_status(self) -> int:
        return self.upstream_status

    @property
    def shown_code(self) -> str | None:
        return self.upstream_code if self.upstream_code and SANE_CODE.fullmatch(self.upstream_code) else self.code


class UpstreamLooped(UpstreamRefused):
    """It leads back to a gateway that the request has come through. Another target may not."""

    status = 508
    type = "api_error"
    code = "loop_detected"
    next_target = True

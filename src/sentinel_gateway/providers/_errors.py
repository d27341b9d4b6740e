"""How the failures of an upstream become our errors: what its connection did, and what it answered.

`read_failure` maps the first, `read_error` the second, and nothing else in `providers` knows a status. Of a provider's
own words only those about the request itself are passed on, cleaned and cut (`UpstreamRefused`): the others speak of its
inside or of the operator's account, and a caller can do nothing about either.
"""

import math
import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from http import HTTPStatus
from typing import Any, Final, Self

import msgspec

from sentinel_gateway.errors import (
    Failure,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamLooped,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.providers._connection import (
    BrokenOff,
    CertificateRefused,
    ConnectFailed,
    ConnectTimeout,
    Disconnected,
    HandshakeFailed,
    Headers,
    NoAddress,
    NotHttp,
    TransportError,
)
from sentinel_gateway.providers._deadlines import Timeouts

MAX_MESSAGE: Final = 500
MAX_READ: Final = 64 * 1024
"""An error body beyond this many bytes isn't read, and so not for its reason either."""
MAX_WAIT: Final = 30.0
"""Seconds that a provider's Retry-After may ask for; some ask for hours."""

_NOT_OUR_KEY: Final = frozenset({401, 403})
_NO_FAULT_OF_THE_REQUEST: Final = frozenset({424, 498})
"""Bedrock's model has failed; Groq has no room for its flex tier."""
_REDIRECTS: Final = range(300, 400)
_REFUSALS: Final = range(400, 500)
_FAILURES: Final = range(400, 600)
OVERLOADED: Final = 529
"""No status of HTTP's: Anthropic's, and that of some who took it from there."""
_NO_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes of a 429 that no waiting mends."""

_FLAGGED: Final = frozenset({"flagged_input", "reasons"})
"""What OpenRouter's 403 tells of a request that was found unfit, and of no other."""
_BAD_KEY: Final = "API_KEY_INVALID"
"""What Google says in a 400."""

_KEY_LIKE: Final = re.compile(
    r"\bBearer\s+\S+|\b(?:sk|pk|gsk|xai|csk|hf|fw|tgp|pplx|nvapi)[-_][\w*-]{8,}|\bAIza[\w-]{16,}", re.IGNORECASE
)
_STATUS: Final = re.compile(r"[45]\d\d", re.ASCII)
_TOO_LONG: Final = re.compile(
    r"prompt is too long|input is too long|too many input tokens|maximum context length"
    r"|exceeds? (?:the maximum number of tokens|(?:the )?context (?:limit|length|window))",
    re.IGNORECASE,
)
"""How those providers say that a request is too long which have no code for it."""
_LONG_QUOTE: Final = re.compile(r"""(["'`])[^"'`]{80,}\1""")
"""What is quoted at such a length is the prompt."""


class UpstreamUnstreamed(UpstreamError):
    """A whole answer where a stream was asked for. It is paid for, and asked again the provider would do the same."""

    paid = True

    def of_size(self, size: int) -> Self:
        """The same, of so many bytes."""
        self.size = size
        return self


class UpstreamTooLong(UpstreamError):
    """An answer of too many bytes, or keys and values. It is paid for, and another one would be as long, whoever is asked."""

    next_target = False
    paid = True


class Source(msgspec.Struct, frozen=True):
    """Who answered, as messages speak of it. `key_name` is where its key is configured, such as GROQ_API_KEY."""

    name: str
    key_name: str = ""
    secrets: tuple[str, ...] = ()
    """Never shown, should the provider repeat them."""


class _Problem(msgspec.Struct, frozen=True):
    """What an error body says; the dialects differ, and some servers send a page of HTML."""

    message: str = ""
    param: str = ""
    code: str = ""
    bad_key: bool = False
    flagged: bool = False
    wait: str = ""
    """Seconds, as Google writes them: `37s`."""


def read_error(status: int, headers: Headers, body: bytes, *, source: Source, now: float) -> UpstreamError:
    """The meaning of an answer that isn't a 200; `now` in Unix seconds, for dates."""
    problem, name = _read_problem(body), source.name
    wait = read_retry_after({b"retry-after": problem.wait.removesuffix("s").encode(), **headers}, now)
    if problem.bad_key:
        status = HTTPStatus.UNAUTHORIZED
    if status in _NOT_OUR_KEY and not problem.flagged:
        return UpstreamUnauthorized(f"{name} refused our key ({status}): check {source.key_name or 'its API key'}.")
    if status == HTTPStatus.PAYMENT_REQUIRED or (status == HTTPStatus.TOO_MANY_REQUESTS and problem.code in _NO_CREDIT):
        return UpstreamUnauthorized(
            f"{name} says that our account has no credit left ({status}): top it up, or use another provider."
        )
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return UpstreamTimeout(f"{name} gave up waiting for the request ({status}).", retry_after=wait)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return UpstreamLimited(f"{name}'s rate limit is reached ({status}).", retry_after=wait)
    if status in _REFUSALS and status not in _NO_FAULT_OF_THE_REQUEST:
        return _refused(problem, status, source)
    if status in _REDIRECTS:
        return UpstreamBroken(f"{name} redirects ({status}), which is never followed: check base_url.")
    if status == HTTPStatus.LOOP_DETECTED:
        sentence = (
            f"{name} leads back to a gateway that this request has come through ({status}): check base_url, here and there."
        )
        return UpstreamLooped(sentence, upstream_status=status)
    kind = UpstreamOverloaded if status == OVERLOADED else UpstreamBroken
    failed = kind(f"{name} failed ({status}).", retry_after=wait)
    return failed.before_any_work() if status == HTTPStatus.SERVICE_UNAVAILABLE else failed


def _refused(problem: _Problem, status: int, source: Source) -> UpstreamRefused:
    said = clean(problem.message, source.secrets) or f"{source.name} refused the request ({status}) and did not say why."
    param, code = clean(problem.param, source.secrets), clean(problem.code, source.secrets)
    if not code and _TOO_LONG.search(problem.message):
        param, code = "messages", "context_length_exceeded"
    return UpstreamRefused(said, upstream_status=status, upstream_code=code or None, param=param or None)


def read_reported_error(error: Any, *, source: Source, now: float) -> UpstreamError:
    """The meaning of an `error` member in a 200 or in the middle of a stream. A code that looks like a status is one."""
    if isinstance(error, dict):
        for name in ("code", "status", "status_code"):
            value = error.get(name)
            status = int(value) if isinstance(value, str) and _STATUS.fullmatch(value) else value
            if type(status) is int and status in _FAILURES:
                return read_error(status, {}, msgspec.json.encode({"error": error}), source=source, now=now)
    return UpstreamBroken(f"{source.name} reported an error in place of an answer.")


def read_retry_after(headers: Headers, now: float) -> float | None:
    """Seconds to wait, 0 to `MAX_WAIT`; None if the provider doesn't say. Read as the OpenAI SDKs read it."""
    milliseconds, text = _number(headers.get(b"retry-after-ms")), headers.get(b"retry-after")
    seconds = _number(text) if milliseconds is None else milliseconds / 1000
    if seconds is None and text is not None and (date := parsedate_tz(text.decode("latin-1"))) is not None:
        try:
            seconds = mktime_tz(date) - now
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(max(seconds, 0.0), MAX_WAIT)


def _number(text: bytes | None) -> float | None:
    try:
        number = float(text or b"")
    except ValueError:
        return None
    return None if math.isnan(number) else number


def clean(text: str, secrets: tuple[str, ...]) -> str:
    """Somebody else's words, fit to be shown: one line, no key, no prompt, not too long."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    text = _LONG_QUOTE.sub(r"\1[...]\1", _KEY_LIKE.sub("[key]", text))
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 3]}..."


def _read_problem(body: bytes) -> _Problem:
    try:
        value = msgspec.json.decode(body) if len(body) <= MAX_READ else None
    except (ValueError, RecursionError):
        return _Problem()
    value = value[0] if isinstance(value, list) and value else value
    error = value.get("error") or value if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return _Problem(_words(error))
    param, code = (word if isinstance(word := error.get(name), str) else "" for name in ("param", "code"))
    details = error.get("details")
    found = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    wait = next((delay for detail in found if isinstance(delay := detail.get("retryDelay"), str)), "")
    bad_key = any(detail.get("reason") == _BAD_KEY for detail in found)
    metadata = error.get("metadata")
    flagged = isinstance(metadata, dict) and not _FLAGGED.isdisjoint(metadata)
    return _Problem(_words(error), param, code, bad_key, flagged, wait)


def _words(value: Any, depth: int = 4) -> str:
    """The sentences in an error object: OpenAI's `message`, FastAPI's `detail`, pydantic's list of `msg`."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "; ".join(filter(None, (_words(item, depth - 1) for item in value)))
    if depth and isinstance(value, dict):
        return next(filter(None, (_words(value.get(name), depth - 1) for name in ("message", "msg", "detail"))), "")
    return ""


_MEANINGS: Final[Mapping[type[TransportError], tuple[type[UpstreamUnreachable | UpstreamBroken], Failure, str]]] = {
    NoAddress: (UpstreamUnreachable, "io_error", "can't be reached: no address for its host. Check base_url."),
    ConnectFailed: (UpstreamUnreachable, "io_error", "can't be reached: no connection. Check base_url and the network."),
    CertificateRefused: (
        UpstreamUnreachable,
        "tls_error",
        "can't be reached: its TLS certificate isn't valid here. Check its date, or name its authority in SSL_CERT_FILE.",
    ),
    HandshakeFailed: (
        UpstreamUnreachable,
        "tls_error",
        "can't be reached: the TLS handshake failed. Check that base_url is https only where the provider speaks TLS.",
    ),
    Disconnected: (UpstreamBroken, "io_error", "closed the connection before it answered."),
    BrokenOff: (UpstreamBroken, "io_error", "broke off in the middle of its answer."),
    NotHttp: (UpstreamBroken, "upstream_error", "didn't answer in valid HTTP."),
}
"""What a failure of the connection means.

`UpstreamUnreachable` is kept for failures before anything was sent: such a request was certainly not processed.
"""


def read_failure(error: TransportError, provider: str, timeouts: Timeouts) -> UpstreamError:
    """The meaning of a failure of a connection to this provider, on which a call had these limits."""
    if isinstance(error, ConnectTimeout):
        limit, seconds = timeouts.answer
        limit = "connect" if timeouts.connect <= seconds else limit
        return timeouts.exceeded(provider, limit).before_any_work()
    ours, failure, sentence = _MEANINGS[type(error)]
    return ours(f"{provider} {sentence}", failure=failure)

"""What goes wrong in an answer: one frozen value, one text form (`err=503;retry_after=2;no_done`), one parser.

A base URL, the `x-chaos` header and a test's queue all end in this value. The documentation of a fault stands on its
field, and the table in the README is made of it.
"""

import typing
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta

DAY_MS: Final = 86_400_000

Status = Annotated[int, Meta(ge=400, le=599)]
Rate = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=DAY_MS)]
Seconds = Annotated[float, Meta(ge=0, le=1e15)]
Count = Annotated[int, Meta(ge=1)]
After = Annotated[int, Meta(ge=0)]
AfterOrBefore = Annotated[int, Meta(ge=-1)]
Word = Annotated[str, Meta(pattern="^[A-Za-z_-]+$")]
Ending = Literal["keep", "fin", "rst", "stall"]
"""How the connection is left: kept alive, closed, reset, or held open in silence."""


class FaultError(ValueError):
    """The text is no fault; the message says which setting is wrong."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one answer. The default is a well-behaved upstream."""

    err: Annotated[Status | None, "answer with this status instead"] = None
    err_body: Annotated[
        Literal["openai", "text", "empty", "html"],
        "what an `err` answer holds: OpenAI's error object, plain text, nothing, a page",
    ] = "openai"
    err_rate: Annotated[Rate, "share of the calls that `err` befalls, by seeded chance"] = 1.0
    retry_after: Annotated[Seconds | None, "`Retry-After` of an `err` answer, seconds; may be absurdly long"] = None
    latency_ms: Annotated[Milliseconds, "silence before the head"] = 0.0
    first_token_ms: Annotated[Milliseconds, "streams: silence between the head and the first event"] = 0.0
    chunk_ms: Annotated[Milliseconds, "streams: time from one content chunk to the next"] = 0.0
    chunks: Annotated[Count | None, "streams: number of content chunks; by default one a token"] = None
    tokens: Annotated[Count | None, "length of each choice, tokens of four characters; by default what the text needs"] = None
    stall_after: Annotated[AfterOrBefore | None, "after so many content chunks: silence, connection held open"] = None
    cut_after: Annotated[AfterOrBefore | None, "after so many content chunks: the connection is closed (FIN)"] = None
    rst_after: Annotated[AfterOrBefore | None, "after so many content chunks: the connection is reset (RST)"] = None
    sse_error_after: Annotated[
        After | None, "streams: after so many content chunks an `error` event, then a clean end without `[DONE]`"
    ] = None
    no_done: Annotated[bool, "streams: a clean end without `[DONE]`"] = False
    no_finish: Annotated[bool, "no `finish_reason`"] = False
    finish: Annotated[Word | None, "this `finish_reason`"] = None
    bad_json: Annotated[bool, "200 and `application/json`, but the body is not JSON"] = False
    html: Annotated[bool, "200 and an HTML page, as a captive proxy sends"] = False
    wrong_type: Annotated[bool, "the right body under `content-type: text/html`"] = False
    bad_sse: Annotated[bool, "streams: a data line that is not JSON after the first content chunk"] = False
    usage: Annotated[
        Literal["normal", "absent", "zero", "wrong", "late", "content"],
        "counts that are negative and contradict each other (`wrong`); streams: an own chunk after the finish even if not "
        "asked for (`late`), or in the last content chunk (`content`)",
    ] = "normal"
    service_tier: Annotated[Word | None, "the tier that the answer, and each chunk of a stream, says to be served at"] = None
    empty: Annotated[bool, "an answer that says nothing"] = False
    no_role: Annotated[bool, "no `role` anywhere"] = False
    reasoning: Annotated[bool, "a `reasoning_content` before the content, as vLLM and DeepSeek send"] = False
    use_tools: Annotated[bool, "the first tool is called where the choice is free, until a result is the last message"] = False
    split_utf8: Annotated[bool, "multi-byte text in writes of 1 to 7 bytes; streams also with CRLF and comment lines"] = False
    trickle: Annotated[bool, "the body a byte at a time"] = False
    huge: Annotated[Count | None, "so many bytes more in each choice's text, sent as they are made"] = None
    gzip_bomb: Annotated[
        Count | None,
        "so many MiB more in each choice's text, sent with `content-encoding: gzip` to a client that did not ask for it",
    ] = None

    def __post_init__(self) -> None:
        if self.err is None and (self.err_rate != 1.0 or self.retry_after is not None):
            raise FaultError("err_rate and retry_after need err")
        if sum(after is not None for after in (self.stall_after, self.cut_after, self.rst_after, self.sse_error_after)) > 1:
            raise FaultError("only one of stall_after, cut_after, rst_after, sse_error_after")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`key=value;key=value`; a switch may stand alone. Raises FaultError."""
        settings: dict[str, str] = {}
        for setting in filter(None, text.split(";")):
            name, _, value = setting.partition("=")
            if name in settings:
                raise FaultError(f"{name} stands twice")
            settings[name] = value or "1"
        try:
            # Strings become what the fields are.
            return msgspec.convert(settings, cls, strict=False)
        except msgspec.ValidationError as exc:
            raise FaultError(f"{exc} (in '{text}')") from exc

    def __str__(self) -> str:
        return ";".join(_setting(name, value) for name, value in msgspec.structs.asdict(self).items() if value != DEFAULTS[name])

    @property
    def ending(self) -> tuple[int, Ending] | None:
        """After how many content chunks the connection is left, and how; -1 is before the head. None: it is not."""
        if self.stall_after is not None:
            return self.stall_after, "stall"
        if self.cut_after is not None:
            return self.cut_after, "fin"
        if self.rst_after is not None:
            return self.rst_after, "rst"
        return None

    @property
    def filler(self) -> int:
        """Bytes that are added to the text of each choice."""
        return (self.huge or 0) + (self.gzip_bomb or 0) * 2**20


PLAIN: Final = Fault()
DEFAULTS: Final[dict[str, Any]] = msgspec.structs.asdict(PLAIN)
SWITCHES: Final = frozenset(name for name, value in DEFAULTS.items() if value is False)


def _setting(name: str, value: Any) -> str:
    if value is True:
        return name
    return f"{name}={plain_number(value) if isinstance(value, float) else value}"


def plain_number(value: float) -> str:
    """A number as people write it, whole ones without a point or an exponent."""
    return str(int(value)) if value.is_integer() else repr(value)


def table() -> str:
    """All settings as a Markdown table."""
    lines = ["| Setting | Meaning |", "|---|---|"]
    for name, hint in typing.get_type_hints(Fault, include_extras=True).items():
        lines.append(f"| `{name}{_values(name, hint)}` | {hint.__metadata__[-1]} |")
    return "\n".join(lines)


def _values(name: str, hint: Any) -> str:
    inner = hint.__origin__
    if name in SWITCHES:
        return ""
    if typing.get_origin(inner) is Literal:
        return "=" + "/".join(value for value in typing.get_args(inner) if value != DEFAULTS[name])
    return "=word" if name in {"finish", "service_tier"} else "=n"

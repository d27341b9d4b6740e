"""What both adapters agree on: how long things are kept, how many, and how they are named. Seed 004's figures."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from sentinel_gateway.core.health import Sample
from sentinel_gateway.core.percentiles import percentile, percentile_name
from sentinel_gateway.ports.recent import HOUR, RequestMetrics, Series, hour_of

KEPT: Final = 2 * HOUR
"""Seconds: hours and latencies."""
ERRORS_KEPT: Final = HOUR
CIRCUITS_KEPT: Final = 300
MOST_ERRORS: Final = 100
MOST_MEASURED: Final = 10_000
"""Calls of a provider's model whose times are kept, the newest."""
MOST_SAMPLES: Final = 60
"""Of a provider's health, one a minute."""
MINUTE: Final = 60
LONGEST_ERROR: Final = 500
LONGEST_NAME: Final = 200
SERIES: Final[tuple[Series, ...]] = get_args(Series)

_CREDENTIAL: Final = re.compile(
    r"\b(?:Bearer|Basic)\s+\S+"
    r"|\b(?:sk|pk|rk|gsk|xai|csk|hf|fw|tgp|pplx|nvapi|ghp|AKIA|ASIA|AIza)[-_]?[\w*-]{8,}"
    r"|(?<=://)[^/\s@]+@"
    r"|\b(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[\w-]{32,}",
    re.ASCII,
)
"""What begins as keys do, who stands before the host of an address, and long words of letters and digits."""
_QUOTE: Final = re.compile(r"""(?<!\w)(["'`]).*?(?:(?<!\\)\1(?!\w)|$)""", re.DOTALL)
"""An apostrophe within a word is none. What is not closed is taken to the end."""
_NAME: Final = re.compile(r"[\w.\[\]/:-]{0,64}")
"""What may stand in quotes: the name of a field or of a model."""


def hours_until(now: float, count: int) -> list[str]:
    """The last hours, oldest first; the one under way is the last."""
    return [hour_of(now - ago * HOUR) for ago in reversed(range(count))]


def harmless(message: str) -> str:
    """An error's words without credentials, without what it quotes of a request, on one line, of at most 500 characters."""
    bare = _QUOTE.sub(_unquoted, _CREDENTIAL.sub("[removed]", message))
    line = " ".join("".join(char if char.isprintable() else " " for char in bare).split())
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 3]}..."


def _unquoted(found: re.Match[str]) -> str:
    quote, whole = found[1], found[0]
    closed = len(whole) > 1 and whole.endswith(quote)
    return whole if closed and _NAME.fullmatch(whole[1:-1]) else f"{quote}[removed]{quote}"


def verdicts(requests: Iterable[RequestMetrics]) -> dict[str, tuple[int, int]]:
    """How many calls each provider answered, and how many it failed."""
    found: dict[str, tuple[int, int]] = {}
    for request in requests:
        if request.success is not None:
            answered, failed = found.get(request.provider, (0, 0))
            found[request.provider] = answered + request.success, failed + (not request.success)
    return found


def has_failed(request: RequestMetrics) -> bool:
    """Is it told of among the errors?"""
    return request.success is False or (request.success is None and request.error_message != "")


def measured(request: RequestMetrics) -> list[tuple[Series, float]]:
    """What was measured of a call that succeeded."""
    if not request.success:
        return []
    found: list[tuple[Series, float]] = [("latency", request.latency_ms)]
    if request.first_token_ms:
        found.append(("first_token", request.first_token_ms))
    if request.tokens_per_second:
        found.append(("speed", request.tokens_per_second))
    return found


def summary(values: Sequence[float], percentiles: Sequence[float]) -> dict[str, float]:
    """`count`, `avg` and the percentiles by name; nothing of nothing."""
    if not values:
        return {}
    ordered = sorted(values)
    ranks = {percentile_name(rank): round(percentile(ordered, rank), 3) for rank in percentiles}
    return {"count": len(ordered), "avg": round(sum(ordered) / len(ordered), 3)} | ranks


def ring_place(at: float) -> int:
    """Where the sample of a minute stands among 60: it takes the place of the one an hour before."""
    return int(at // MINUTE) % MOST_SAMPLES


def in_order(samples: Sequence[Sample]) -> list[Sample]:
    """Samples of a ring as a history: nothing older than the ring is long."""
    newest = max((at for at, _ in samples), default=0.0)
    return sorted(sample for sample in samples if sample[0] > newest - MINUTE * MOST_SAMPLES)

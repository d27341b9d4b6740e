"""How figures of alerts are told: by names, in units, and without what chats take for commands. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from sentinel_gateway.core.alerting.rules import DAY, HOUR, UNITS, Rule
from sentinel_gateway.core.pricing import NANO_PER_USD, about_usd

LONGEST_SUBJECT: Final = 120
LONGEST_TEXT: Final = 400
_ODD: Final = re.compile(r"[^\w.,:;/+%()=' -]", re.ASCII)
_NAMES: Final[Mapping[str, str]] = {
    "total_cost": "what providers took",
    "cost_per_request": "the cost of a call",
    "total_requests": "the number of calls",
    "error_rate": "the share of failed calls",
    "first_token_avg_ms": "the time to the first token",
    "request_error_rate": "the share of requests answered with 5xx",
    "hit_rate": "the hit rate",
}
_STATES: Final[Mapping[str, str]] = {
    "provider_health": "a provider's health",
    "budget_used": "what is spent of a budget",
    "wrong_hit_rate": "the share of wrong answers",
}


def clean(text: str, most: int = LONGEST_SUBJECT) -> str:
    """Names that callers may have chosen, as chats show them harmlessly: nobody is mentioned, and nothing is marked up."""
    return _ODD.sub("_", text)[:most]


def named(rule: Rule, subject: str) -> str:
    """The rule's metric, and what it is of."""
    name = _NAMES.get(rule.metric) or f"the {rule.metric.split('_')[1]} latency"
    said = f"{name} of {clean(subject)}" if subject else name
    return said[0].upper() + said[1:]


def condition(rule: Rule) -> str:
    """When there is something to tell, in one line. Names stand there as they were written: it is for the operator's eyes."""
    match rule.kind:
        case "anomaly":
            said = f"something out of the ordinary lasts, {rule.anomalies if rule.anomalies == 'critical' else 'warnings too'}"
        case "burn_rate":
            said = f"{_named(rule)} uses its allowance of {rule.limit:.2%} up too fast"
        case "forecast":
            said = f"{_named(rule)} will end above {amount(rule, rule.limit)} at this pace"
        case "change":
            before = (
                f"what it was {span(rule.against)} before" if rule.against else f"what it was in the {span(rule.window)} before"
            )
            said = f"{_named(rule)} is {_beyond(rule)} {rule.limit:g} times {before}"
        case _ if rule.metric == "circuit_open":
            said = "a circuit is open"
        case _:
            said = f"{_named(rule)} is {_beyond(rule)} {amount(rule, rule.limit)}"
    whose = "/".join(filter(None, (rule.provider, rule.model)))
    each = f", for each {rule.by}" if rule.by != "all" else ""
    return f"{said}{f', of {whose}' if whose else ''}{each}{f', for {span(int(rule.after))}' if rule.after else ''}"


def _named(rule: Rule) -> str:
    return _NAMES.get(rule.metric) or _STATES.get(rule.metric) or f"the {rule.metric.split('_')[1]} latency"


def _beyond(rule: Rule) -> str:
    return "below" if rule.below else "above"


def amount(rule: Rule, value: float) -> str:
    """In the unit of the rule's metric."""
    match UNITS[rule.metric]:
        case "share":
            return f"{value:.2%}"
        case "usd":
            return usd(value * NANO_PER_USD)
        case "ms":
            return f"{value:,.0f} ms"
        case _:
            return f"{value:g}"


def usd(nano: float) -> str:
    """To four digits."""
    return f"{about_usd(nano, 4)} USD"


def over(seconds: int) -> str:
    return f"over the last {span(seconds)}"


def span(seconds: int) -> str:
    for unit, length in (("day", DAY), ("hour", HOUR), ("minute", 60)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"

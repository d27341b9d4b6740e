"""In which form a caller wants the metrics, as RFC 9110 has Accept. Pure."""

from typing import Literal

Exposition = Literal["text", "openmetrics"]
Form = Exposition | Literal["json"]


def preferred(accept: str) -> Form:
    """Prometheus' text, unless this Accept header puts OpenMetrics before it, or JSON before both."""
    weights = _weights(accept)
    general = weights.get("*/*", 0.0)
    openmetrics = weights.get("application/openmetrics-text", 0.0)
    text = max(weights.get(kind, general) for kind in ("text/plain", "text/*"))
    if weights.get("application/json", weights.get("application/*", general)) > max(text, openmetrics):
        return "json"
    return "openmetrics" if openmetrics and openmetrics >= text else "text"


def _weights(accept: str) -> dict[str, float]:
    """What is asked for, with the most that is said for it: a kind may come more than once, with other parameters."""
    found: dict[str, float] = {}
    for part in accept.split(","):
        kind, *params = (piece.strip().lower() for piece in part.split(";"))
        told = next((param.removeprefix("q=") for param in params if param.startswith("q=")), "1")
        try:
            weight = float(told)
        except ValueError:
            weight = 0.0
        found[kind] = max(weight, found.get(kind, 0.0))
    return found

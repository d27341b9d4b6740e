"""What a provider takes for tokens, by the price library's offline data."""

from decimal import Decimal

from sentinel_gateway.providers.catalogue import SHELVES
from sentinel_gateway.providers.demo import NAME as DEMO


def price_of(target: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
    """Of a target (`provider/model`), in USD; None where that is unknown. The first call takes a quarter of a second."""
    provider, _, model = target.partition("/")
    if provider == DEMO:
        return Decimal(0)
    shelf = SHELVES.get(provider)
    if shelf is None:
        return None
    from genai_prices import Usage, calc_price  # noqa: PLC0415  # 12 MB and 0.25 s that a gateway without need saves

    usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
    try:
        return calc_price(usage, model_ref=model, provider_id=shelf.library_id).total_price
    except LookupError:
        return None

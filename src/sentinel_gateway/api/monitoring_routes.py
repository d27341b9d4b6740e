"""What the endpoints below `/api/monitoring` share: who may ask them, how things are named there, and how moments are told."""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path

from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ
from sentinel_gateway.errors import ProviderNotFound

HOUR: Final = 3600
LONGEST_NAME: Final = 1024

Provider = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, description="A provider's name.")]
Model = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, description="A provider's name of a model; it may hold '/'.")]


def reading(guard: Guard, endpoints: Iterable[tuple[str, Callable[..., Any]]]) -> APIRouter:
    """A router of these endpoints, by their paths below `/api/monitoring`: for readers."""
    router = APIRouter(prefix="/api/monitoring", tags=["monitoring"], dependencies=[Depends(guard.needs("read"))])
    for path, endpoint in endpoints:
        router.add_api_route(path, endpoint, methods=READ, operation_id=f"monitoring_{endpoint.__name__}")
    return router


def not_found(provider: str, configured: Collection[str]) -> ProviderNotFound:
    """Nobody knows it: it is not configured, and was never called."""
    known = ", ".join(configured) or "none is configured"
    return ProviderNotFound(f"There is no provider '{provider[:100]}'. Those that are configured: {known}.")


def stamp(at: float) -> str:
    """A moment in Unix seconds, as it is told."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"

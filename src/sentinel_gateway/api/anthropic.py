"""The Anthropic face: which paths it has, with and without `/v1`; every error in Anthropic's shape.

The models are on the paths of both faces: clients of Anthropic's name the version of its API in a header.
"""

from typing import Final

from sentinel_gateway.api.asgi import Lines, Scope
from sentinel_gateway.api.exchange import JSON, ErrorForm
from sentinel_gateway.api.models import VERSION
from sentinel_gateway.api.paths import is_models, spellings
from sentinel_gateway.api.wire import anthropic_errors
from sentinel_gateway.errors import RequestError
from sentinel_gateway.pipeline.journey import Journey

MESSAGES: Final = frozenset(spellings("/v1/messages"))
PREFIXES: Final = ("/v1/messages/", "/messages/")


class AnthropicForm(ErrorForm):
    """Anthropic's, of errors and of what every answer says."""

    def status(self, error: RequestError) -> int:
        return anthropic_errors.status_of(error)

    def event(self, error: RequestError, request_id: str) -> bytes:
        return anthropic_errors.error_event(error, request_id)

    def ids(self, journey: Journey) -> Lines:
        """As others have them, and once more under Anthropic's names."""
        lines, grant = super().ids(journey) + anthropic_errors.id_header(journey.request_id), journey.grant
        return lines if grant is None else lines + anthropic_errors.limit_headers(*grant.standings(), now=journey.at)


ANTHROPIC_ERRORS: Final = AnthropicForm(JSON, anthropic_errors.error_body)


def is_anthropic(scope: Scope) -> bool:
    """Does this request belong to the Anthropic face?"""
    path = scope["path"]
    return (
        path in MESSAGES
        or path.startswith(PREFIXES)
        or (is_models(path) and any(name == VERSION for name, _ in scope["headers"]))
    )

"""Errors whose fault is the request's."""

from sentinel_gateway.errors.base import CallerError


class BadRequest(CallerError):
    status = 400


class InvalidBody(BadRequest):
    code = "invalid_body"


class InvalidField(BadRequest):
    code = "invalid_value"


class InvalidHeader(BadRequest):
    code = "invalid_header"


class Unprocessable(BadRequest):
    """`faults` are (place, sentence) pairs, a place as FastAPI writes it: ("body", "prompt"). The message tells the first."""

    status = 422
    code = "invalid_value"

    def __init__(self, *faults: tuple[tuple[str, ...], str]) -> None:
        (place, sentence), *others = faults
        more = f" ({len(others)} more in 'errors'.)" if others else ""
        param = ".".join(place[1:]) or None
        super().__init__(f"Invalid value for '{param or place[0]}': {sentence.rstrip('.')}.{more}", param=param)
        self.faults = faults


class HeadTooLarge(BadRequest):
    status = 431
    code = "request_header_fields_too_large"


class ReloadRejected(BadRequest):
    code = "invalid_configuration"


class ConfigurationMoved(CallerError):
    status = 409
    code = "configuration_moved"


class InvalidKey(CallerError):
    status = 401
    code = "invalid_api_key"


class TooManyBadKeys(CallerError):
    status = 429
    code = "too_many_invalid_keys"


class InsufficientScope(CallerError):
    status = 403
    code = "insufficient_scope"


class ModelNotAllowed(CallerError):
    status = 403
    code = "model_not_allowed"


class PageRefused(CallerError):
    status = 403
    code = "origin_not_allowed"


class ModelNotFound(CallerError):
    """`name` is the model that was asked for. The message may name others."""

    status = 404
    code = "model_not_found"

    def __init__(self, message: str, *, name: str, param: str | None = "model") -> None:
        super().__init__(message, param=param)
        self.name = name


class RouteNotFound(CallerError):
    status = 404
    code = "unknown_url"


class KeyNotFound(CallerError):
    status = 404
    code = "key_not_found"


class AnswerNotFound(CallerError):
    status = 404
    code = "answer_not_found"


class ProviderNotFound(CallerError):
    status = 404
    code = "provider_not_found"


class AlertNotFound(CallerError):
    status = 404
    code = "alert_not_found"


class ExperimentNotFound(CallerError):
    status = 404
    code = "experiment_not_found"


class CannotPin(CallerError):
    status = 409
    code = "cannot_pin"


class KeyEnded(CallerError):
    status = 409
    code = "key_ended"


class MethodNotAllowed(CallerError):
    """`allowed` are the methods that the same path does serve, as `Allow` names them."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestUnderway(CallerError):
    status = 409
    code = "idempotency_request_in_progress"
    retry = True


class RequestInterrupted(CallerError):
    status = 409
    code = "idempotency_request_interrupted"


class BodyTooLarge(CallerError):
    status = 413
    code = "request_too_large"


class HostRefused(CallerError):
    status = 421
    code = "host_not_allowed"


class KeyReused(CallerError):
    status = 422
    code = "idempotency_key_reused"

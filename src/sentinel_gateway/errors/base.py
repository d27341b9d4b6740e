"""What all errors have in common. The tree is drawn in `errors/__init__.py`."""

import traceback
from typing import ClassVar


class SentinelError(Exception):
    """Root of the tree."""


def place_of(exc: BaseException) -> str:
    """Where in our code it was raised, as `file.py:12`: what an operator may be told of any fault, for it quotes nothing."""
    frames = traceback.extract_tb(exc.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""


def let_go(error: BaseException | None) -> None:
    """Forget where an error was raised, and those before it: it has been told, and the frames there hold whatever holds it.

    What is held so waits for the garbage collector, which comes seldom and holds the event loop up for all that has gathered.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class ConfigurationError(SentinelError):
    """All faults of a configuration together.

    `faults` are (place, sentence) pairs: where it stands (`sentinel.yaml:7 server.port`, `env PORT`) and what would be right.
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{place}: {sentence}" for place, sentence in faults))


class StoreDown(SentinelError):
    """A store did not answer in time or failed; the caller treats it as a miss."""


class EmbedderDown(SentinelError):
    """No vector in time: the model is absent, failed, or has too much to do. The semantic tier is then passed over."""


class CounterBusy(SentinelError):
    """More texts wait to be counted than may. A count is then estimated; what must be exact is asked for again later."""


class ChannelDown(SentinelError):
    """A channel did not take an alert; never shown to who asks for answers. `gone`: it never will. Holds no secret."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class RequestError(SentinelError):
    """Answered to the caller. `param` is the dotted path of the field, or the header's name; `retry_after` is in seconds."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str | None] = None
    retry: ClassVar[bool] = False
    next_target: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def http_status(self) -> int:
        """The status to answer with; the class's, unless an instance knows better."""
        return self.status

    @property
    def shown_code(self) -> str | None:
        """The code to answer with; the class's, unless an instance knows better."""
        return self.code

    @property
    def kind(self) -> str:
        """What metrics and the log call it: the code, unless an instance knows better."""
        return self.shown_code or self.type


class CallerError(RequestError):
    """The fault is the request's, not the gateway's nor a provider's."""

    type = "invalid_request_error"

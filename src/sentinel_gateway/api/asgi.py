"""The shapes of ASGI, as far as they are used here."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

Header = tuple[bytes, bytes]
"""Name in lower case, value."""
Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
WHEN_GONE: Final = "sentinel.when_gone"
"""Our server's extension: called with a callback, it calls that once the caller has left without its answer."""

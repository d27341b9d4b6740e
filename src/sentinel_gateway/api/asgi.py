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
REFUSED: Final = "sentinel.refused"
"""In our server's `http.disconnect` before the end of a body: the error to answer, if it was the server that gave up on it."""

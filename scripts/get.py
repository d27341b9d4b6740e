"""Print what a URL answers, to a JSON body if there is one, or say in one sentence why it doesn't.

Standard library only: it runs without any installation.
"""

import sys
import urllib.error
import urllib.request

PATIENCE = 10.0
"""Seconds to wait for the answer."""


def main(url: str, body: str | None = None) -> None:
    """GET `url`, or POST a `body` to it; exits with 1 and a sentence unless the answer is a 2xx."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, {} if data is None else {"Content-Type": "application/json"})  # noqa: S310
    try:
        with direct.open(request, timeout=PATIENCE) as answer:
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as exc:
        sys.exit(f"{url} answered {exc.code}: {exc.read().decode(errors='replace')}")
    except OSError as exc:
        sys.exit(f"No gateway answers at {url} ({exc}). Start one with 'make run', or name its port with PORT=...")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Print what a URL answers, or say in one sentence why it doesn't. Standard library only: it runs without any installation."""

import sys
import urllib.error
import urllib.request

PATIENCE = 10.0
"""Seconds to wait for the answer."""


def main(url: str) -> None:
    """GET `url`; exits with 1 and a sentence unless the answer is a 2xx."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=PATIENCE) as answer:
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as exc:
        sys.exit(f"{url} answered {exc.code}: {exc.read().decode(errors='replace')}")
    except OSError as exc:
        sys.exit(f"No gateway answers at {url} ({exc}). Start one with 'make run', or name its port with PORT=...")


if __name__ == "__main__":
    main(sys.argv[1])

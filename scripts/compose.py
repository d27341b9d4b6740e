"""What docker-compose.yml needs of this machine, and what to try once it runs.

Usage, in the checkout:

python3 scripts/compose.py prepare   `.env` gets secrets that nobody has guessed, unless they are there; and the log its folder
python3 scripts/compose.py greet
"""

import os
import re
import secrets
import sys
from pathlib import Path

IMAGE_USER = 10001
ENV, EXAMPLE, LOGS = Path(".env"), Path(".env.example"), Path("logs")
GREETING = """
Sentinel answers on http://127.0.0.1:8080. Make a key for whoever asks it, put it into SENTINEL_KEY, and ask:

  docker compose exec sentinel sentinel keys create --name 'mobile app'
  curl -i http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -H "Authorization: Bearer $SENTINEL_KEY" \\
    -d '{"model": "demo", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'

Dashboard   http://127.0.0.1:8080/dashboard   sign in with SENTINEL_ADMIN_KEY of .env
Prometheus  http://127.0.0.1:9090
Grafana     http://127.0.0.1:3000             admin, and GRAFANA_PASSWORD of .env
"""


def prepare() -> None:
    """The containers run as whoever calls this, whose the log then is; for root as the image's own user."""
    text = ENV.read_text() if ENV.exists() else EXAMPLE.read_text()
    wanted = {
        "SENTINEL_ADMIN_KEY": secrets.token_hex(32),
        "GRAFANA_PASSWORD": secrets.token_hex(16),
        "CONTAINER_USER": str(os.getuid() or IMAGE_USER),
    }
    missing = {name: value for name, value in wanted.items() if not re.search(rf"^{name}=.", text, re.MULTILINE)}
    if missing:
        ENV.touch(mode=0o600)
        ENV.chmod(0o600)  # one that was there may be open to others, and now it holds secrets
        lines = "".join(f"{name}={value}\n" for name, value in missing.items())
        ENV.write_text(f"{text.rstrip()}\n\n# Made by 'make docker-compose-up'.\n{lines}")
        print(f"Wrote {', '.join(missing)} into .env.")
    LOGS.mkdir(exist_ok=True)
    if os.getuid() == 0:
        os.chown(LOGS, IMAGE_USER, IMAGE_USER)


def greet() -> None:
    """With the port that `.env` gives the gateway here."""
    given = re.search(r"^GATEWAY_PORT=(\d+)", ENV.read_text(), re.MULTILINE)
    print(GREETING.replace("8080", given[1]) if given else GREETING)


if __name__ == "__main__":
    {"prepare": prepare, "greet": greet}[sys.argv[1]]()

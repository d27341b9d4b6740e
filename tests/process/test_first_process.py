"""`sentinel serve` as the first process of a container, which the kernel keeps from signals that it does not ask for."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.process.conftest import DEADLINE


def test_it_can_be_stopped_while_it_starts(tmp_path, absent):
    if subprocess.run(["unshare", "--pid", "--fork", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        absent("the right to make a namespace of processes")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(DEADLINE)
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        database = f"postgresql://sentinel@127.0.0.1:{silent.getsockname()[1]}/sentinel"
        environ = kept | {"HOME": str(tmp_path), "PORT": "0", "SENTINEL_DATABASE_URL": database}
        command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "sentinel_gateway", "serve"]
        with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as outer:
            try:
                with silent.accept()[0]:  # it starts, and waits for a database that says nothing
                    [first] = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
                    os.kill(int(first), signal.SIGTERM)
                    assert outer.wait(DEADLINE) == 128 + signal.SIGTERM
            finally:
                outer.kill()

"""What OpenTelemetry's SDK reads from the environment holds for `sentinel serve`, and an endpoint that is away is one line."""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.listeners import _open_exports
from sentinel_gateway.settings.model import Settings


class Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, self.headers["x-team"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_): ...


@pytest.fixture
def sink():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("environ", "paths"),
    [
        ({}, {"/v1/traces", "/v1/metrics"}),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, {"/v1/metrics"}),
        ({"OTEL_SDK_DISABLED": "true"}, set()),
    ],
)
def test_the_environment_of_the_sdk_is_honoured(serve, sink, environ, paths):
    url = f"http://127.0.0.1:{sink.server_port}"
    program = serve(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_HEADERS="x-team=a", **environ)
    assert program.ask("Hello").status == 200
    program.stop()
    assert set(sink.asked) == {(path, "a") for path in paths}
    [line] = [line for line in map(json.loads, program.lines.read_text().splitlines()) if line.get("status") == 200]
    assert ("trace_id" in line) == bool(paths), "an id that is none names no trace"


def test_an_endpoint_that_is_away_is_told_of_in_the_log_and_holds_up_no_stop(serve):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        program = serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{nobody.getsockname()[1]}", OTEL_BSP_SCHEDULE_DELAY="100")
        assert program.ask("Hello").status == 200
        program.stop()
    assert program.process.returncode == 0
    lines = [json.loads(line) for line in program.lines.read_text().splitlines()]
    assert [line["logger"] for line in lines if line["event"] == "library"][:1] == [
        "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    ]
    assert "Traceback" not in program.errors.read_text()


def test_who_lacks_the_extra_is_told_its_name():
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("sentinel_gateway.telemetry.tracing")}
    sys.modules["sentinel_gateway.telemetry.tracing.export"] = None
    try:
        with pytest.raises(ConfigurationError, match=r"pip install 'sentinel-gateway\[otel\]'"):
            _open_exports(Settings(tracing={"endpoint": "http://localhost:4318"}))
    finally:
        del sys.modules["sentinel_gateway.telemetry.tracing.export"]
        sys.modules.update(hidden)

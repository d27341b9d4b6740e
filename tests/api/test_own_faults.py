"""A fault of ours, in every dialect, while Sentinel is debugged: its caller is told where the log says more, and no more."""

import pytest

from sentinel_gateway.api.anthropic import ANTHROPIC_ERRORS
from sentinel_gateway.api.browsers import Browsers, Hosts, Pages
from sentinel_gateway.api.entrance import Entrance
from sentinel_gateway.api.exchange import Exchange, Intake
from sentinel_gateway.api.face import Face
from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.api.management import Observed, build_management
from sentinel_gateway.api.openai import ERRORS
from sentinel_gateway.api.operations import Identity, Operations, Reports
from sentinel_gateway.api.problems import PROBLEMS
from tests.api.test_scrapes import Noted, get
from tests.gateway import running_gateway

pytestmark = pytest.mark.anyio

WORDS = "the fault's own words"
INNER = (WORDS, "Traceback", "KeyError", ".py", 'File "')
"""What a stack trace would have."""


async def trip(exchange: Exchange) -> None:
    raise KeyError(WORDS)


async def gather(exposition: str) -> tuple[bytes, str]:
    raise KeyError(WORDS)


async def test_debug_never_gives_a_client_a_stack_trace(tmp_path):
    environ = {"DEBUG": "true", "LOG_LEVEL": None}
    async with running_gateway(tmp_path, environ=environ, alone=False) as gateway:  # pytest opens a file at the first line logged
        assert (await gateway.get("/config")).json["logging"]["level"] == "debug"
        process, noted = gateway.process, Noted()
        guard = Guard(process.authenticator, process.stores.state.ring, Policy(required=False))
        browsers = Browsers(Pages((), False), Hosts(()))
        entrance, intake = Entrance(browsers, guard, groups={}), Intake(max_body=1000)
        apps = [
            Face(trip, form, entrance=entrance, intake=intake, clock=process.clock, events=noted)
            for form in (ERRORS, ANTHROPIC_ERRORS, PROBLEMS)
        ]
        nothing = dict.fromkeys(("ready", "counters", "services", "costs", "priced", "circuits", "tiers", "config"))
        reports = Reports(metrics=gather, **nothing)
        operations = Operations(process.tiers, Identity("s", "1", 0.0), reports, guard=guard, clock=process.clock)
        management = build_management([operations.routes()], guard)
        apps.append(Observed(management, browsers=browsers, clock=process.clock, events=noted))
        for app in apps:
            answer = await get(app, "/metrics")
            told = answer.body.decode() + str(answer.headers)
            assert answer.status == 500
            assert answer.headers["x-sentinel-id"] in answer.body.decode(), "where to look"
            assert [word for word in INNER if word in told] == []
    assert [fields["error"] for event, fields in noted.notes] == ["KeyError"] * 4, "the operator is told"

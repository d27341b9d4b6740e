"""Apprise's services against sinks of their own: mail by SMTP, and those HTTP services whose URLs name a host.

Slack, Discord, PagerDuty and Telegram have their makers' hosts built in: what is shown of them is that their URLs are understood,
and that nothing secret of them is told. Mattermost takes Slack's messages, and stands for it here.
"""

import asyncio
import json
import logging
import threading
from contextlib import suppress
from urllib.parse import parse_qs

import pytest

from sentinel_gateway.alerts.services import Service
from sentinel_gateway.core.alerting.board import Alert, Notice
from sentinel_gateway.core.alerting.notices import message, trial
from sentinel_gateway.errors import ChannelDown
from sentinel_gateway.ports.alerts import Letter
from tests.alerts.sinks import http_sink, mail_sink
from tests.gateway import DEADLINE, until
from tests.servers import free_port

pytestmark = pytest.mark.anyio

ALERT = Alert(
    rule="errors",
    subject="mock",
    severity="page",
    channels=(),
    phase="firing",
    since=5.0,
    value=0.5,
    limit=0.2,
    text="The share of failed calls of mock is 50%",
)
FIRING = message(Notice((ALERT,), (), (), {}), service="gate", stamp=lambda at: "12:00")
OVER = message(Notice((), (), (ALERT,), {}), service="gate", stamp=lambda at: "12:00")


def letter(told=FIRING) -> Letter:
    return Letter("msg_1", "ops", 0.0, 1, told)


@pytest.fixture
async def sink(anyio_backend):
    async with http_sink() as sink:
        yield sink


async def test_mail_by_smtp():
    port = free_port()
    with mail_sink(port) as mails:
        url = f"mailto://127.0.0.1:{port}?mode=insecure&from=sentinel@example.com&to=ops@example.com&format=text"
        await Service("mail", url).send(letter())
    [mail] = mails
    assert mail["to"] == "ops@example.com"
    assert "gate: 1 firing (errors)" in mail["subject"]
    assert "The share of failed calls of mock is 50%" in mail.get_payload(decode=True).decode()


SERVICES = {
    "json": ("json://{host}/hook", lambda body: json.loads(body)["message"]),
    "form": ("form://{host}/hook", lambda body: parse_qs(body.decode())["message"][0]),
    "xml": ("xml://{host}/hook", lambda body: body.decode()),
    "mattermost, as slack": ("mmost://{host}/0123456789abcdefghijklmnop", lambda body: json.loads(body)["text"]),
    "gotify": ("gotify://{host}/abcdefghijklmno", lambda body: json.loads(body)["message"]),
    "ntfy": ("ntfy://{host}/ops", lambda body: json.loads(body)["message"]),
}


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_whose_url_names_a_host(sink, name):
    url, text_of = SERVICES[name]
    sink.script.extend([200] * 3)
    await Service("ops", url.format(host=f"127.0.0.1:{sink.port}")).send(letter())
    [arrived] = sink.arrived
    assert "The share of failed calls of mock is 50%" in text_of(arrived.body)


async def test_what_fires_and_what_is_over_look_different(sink):
    sink.script.extend([200] * 3)
    service = Service("ops", f"json://127.0.0.1:{sink.port}/")
    for told in (FIRING, OVER, trial("ops", service="gate")):
        await service.send(letter(told))
    assert [arrived.json["type"] for arrived in sink.arrived] == ["failure", "success", "success"]
    assert [arrived.json["title"] for arrived in sink.arrived] == [
        "[page] gate: 1 firing (errors)",
        "gate: 1 recovered (errors)",
        "gate: test",
    ]


MAKERS = [
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "pagerduty://A1BRTD4JD@TIiajkdnlazkcOXrIdevi7FQ",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "mailtos://user:s3cret@example.com?to=ops@example.com",
]


@pytest.mark.parametrize("url", MAKERS)
def test_urls_of_the_known_services_are_understood_and_not_told(url):
    service = Service("ops", url)
    assert service.kind == url.partition(":")[0]
    assert repr(service) == f"<Service ops {service.kind}>"


@pytest.mark.parametrize("url", ["slack://", "nonsense://a/b", "discord://only-one"])
def test_a_url_that_is_none_is_refused_without_being_told(url):
    with pytest.raises(ValueError, match="no URL of Apprise's") as caught:
        Service("ops", url)
    assert "only-one" not in str(caught.value)


async def test_a_failure_is_told_without_the_url_and_logged_nowhere(sink, caplog):
    caplog.set_level(logging.DEBUG)
    sink.script.extend([500] * 5)
    with pytest.raises(ChannelDown, match="json did not take it") as caught:
        await Service("ops", f"json://user:s3cret-pass@127.0.0.1:{sink.port}/s3cret-path").send(letter())
    assert sink.arrived, "it was asked"
    assert "s3cret" not in str(caught.value)
    assert not [record for record in caplog.records if record.name.startswith("apprise")]


async def test_a_service_that_stalls_is_waited_for_no_longer_than_so_and_holds_nobody_up(sink):
    sink.answering.clear()
    service = Service("ops", f"json://127.0.0.1:{sink.port}/?rto=60", deadline=0.2)
    with pytest.raises(ChannelDown, match=r"within 0\.2 s"):
        await service.send(letter())
    with pytest.raises(ChannelDown, match="not yet come to an end"):
        await service.send(letter())
    await until(lambda: sink.arrived)
    assert len(sink.arrived) == 1
    sink.answering.set()
    await until(lambda: not any(thread.name == "sentinel-alert" for thread in threading.enumerate()))
    async with asyncio.timeout(DEADLINE):
        while not await takes(service):  # noqa: ASYNC110 - asked again: on a busy machine it is late once more
            await asyncio.sleep(0.01)


async def takes(service: Service) -> bool:
    """It does what it is told, and in its time."""
    with suppress(ChannelDown):
        await service.send(letter())
        return True
    return False


async def test_the_loop_goes_on_meanwhile(sink):
    """The sink is on it: it would else never come to answer."""
    sink.answering.clear()
    sending = asyncio.create_task(Service("ops", f"json://127.0.0.1:{sink.port}/?rto=60").send(letter()))
    await until(lambda: sink.arrived)
    assert not sending.done()
    sink.answering.set()
    await sending

"""The signed webhook against a server that verifies it, fails, stalls, redirects and says that it is gone."""

import base64

import pytest

from sentinel_gateway.alarms import lone_client, open_channel, stamp
from sentinel_gateway.alerts.webhook import Webhook, secret_bytes, signature
from sentinel_gateway.core.alerting.notices import Message, trial
from sentinel_gateway.errors import ChannelDown
from sentinel_gateway.ports.alerts import Letter
from sentinel_gateway.settings.alerts import AlertChannel
from tests.alerts.sinks import SECRET, http_sink
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


def at(now: float) -> FakeClock:
    clock = FakeClock()
    clock.now = now
    return clock


@pytest.fixture
async def sink(anyio_backend):
    async with http_sink() as sink:
        yield sink


@pytest.fixture
async def open_webhook(sink, anyio_backend):
    async with lone_client() as http:

        def make(url: str | None = None, clock=None) -> Webhook:
            written = AlertChannel(webhook=url or f"{sink.url}/hooks/s3cret-path?a=b", secret=SECRET)
            return open_channel("ops", written, http, clock or at(1_790_000_000.0))

        yield make


def letter(message: Message | None = None, **changes) -> Letter:
    fields = {"id": "msg_1", "channel": "ops", "at": 1_790_000_000.0, "tries": 1, "message": message or trial("ops", service="s")}
    return Letter(**fields | changes)


def test_the_signature_is_that_of_the_specifications_own_example():
    secret = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_is_no_secret_is_refused():
    with pytest.raises(ValueError, match="no secret"):
        secret_bytes("whsec_not base64")


async def test_what_arrives_is_signed_and_says_what_it_is(sink, open_webhook):
    told = Message(title="gate: 1 firing", text="Firing:\n- a", severity="page", good=False, data={"counts": {"firing": 1}})
    await open_webhook().send(letter(told))
    [arrived] = sink.arrived
    arrived.verify()
    assert (arrived.method, arrived.path) == ("POST", "/hooks/s3cret-path?a=b")
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.headers["webhook-id"] == "msg_1"
    assert arrived.headers["webhook-timestamp"] == "1790000000"
    assert arrived.json == {
        "type": "sentinel.alerts",
        "timestamp": stamp(1_790_000_000.0),
        "data": {"title": "gate: 1 firing", "text": "Firing:\n- a", "counts": {"firing": 1}},
    }


async def test_a_receiver_that_changes_a_byte_notices(sink, open_webhook):
    await open_webhook().send(letter())
    [arrived] = sink.arrived
    arrived.body = arrived.body.replace(b"test", b"tost")
    with pytest.raises(AssertionError):
        arrived.verify()
    arrived.body = arrived.body.replace(b"tost", b"test")
    arrived.verify()
    with pytest.raises(AssertionError):
        arrived.verify("whsec_" + base64.b64encode(bytes(32)).decode())


async def test_sent_again_it_has_the_same_id_and_a_timestamp_of_its_own(sink, open_webhook):
    clock = at(1_790_000_000.0)
    webhook = open_webhook(clock=clock)
    await webhook.send(letter())
    clock.now += 100
    await webhook.send(letter(tries=2))
    first, second = sink.arrived
    second.verify()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 100
    assert first.body == second.body


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_is_its_arrival(sink, open_webhook, status):
    sink.script.append(status)
    await open_webhook().send(letter())


FINAL = [400, 410, 413, 422]
REFUSALS = [401, 403, 404, 405]
PASSING = [408, 425, 429, 500, 502, 503]


@pytest.mark.parametrize(
    ("status", "tries", "gone"),
    [
        *((one, 1, True) for one in FINAL),
        *((one, tries, tries == 5) for one in REFUSALS for tries in (1, 4, 5)),
        *((one, tries, False) for one in PASSING for tries in (1, 5)),
    ],
)
async def test_any_other_status_is_told_and_nothing_secret_with_it(sink, open_webhook, status, tries, gone):
    sink.script.append(status)
    with pytest.raises(ChannelDown, match=str(status)) as caught:
        await open_webhook().send(letter(tries=tries))
    assert caught.value.gone is gone
    assert "s3cret" not in str(caught.value)


async def test_a_redirect_is_not_followed(sink, open_webhook):
    async with http_sink() as elsewhere:
        sink.script.append(307)
        sink.location = f"{elsewhere.url}/inside"
        with pytest.raises(ChannelDown, match="redirects are not followed"):
            await open_webhook().send(letter())
        assert len(sink.arrived) == 1
        assert elsewhere.arrived == []


async def test_who_is_not_there_is_told_without_the_address(open_webhook):
    with pytest.raises(ChannelDown, match="can't be reached") as caught:
        await open_webhook("http://127.0.0.1:9/hooks/s3cret-path").send(letter())
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


async def test_the_metadata_of_a_cloud_is_no_webhook(open_webhook):
    for host in ("169.254.169.254", "[fd00:ec2::254]", "0xa9fea9fe", "2852039166"):
        with pytest.raises(ChannelDown, match="can't be reached"):
            await open_webhook(f"http://{host}/latest/meta-data").send(letter())


def test_its_repr_holds_nothing_secret(open_webhook):
    assert repr(open_webhook()) == "<Webhook ops>"

"""Seed 004's service, by its own classes of tests, on every adapter."""

import msgspec
import pytest

from sentinel_gateway.core.health import scored
from sentinel_gateway.ports.recent import HourStats, RecentError, RequestMetrics
from tests.contract.recent.conftest import NOON

pytestmark = pytest.mark.anyio


class TestRecordRequest:
    async def test_a_call_that_succeeds_counts_in_its_hour(self, metrics, call):
        await metrics.record_request(call(tokens_input=75, tokens_output=37))
        stats = (await metrics.get_hourly_stats("openrouter"))["2025-11-27:14"]
        assert stats == HourStats(1, 1, 0, 75, 37, 0.0000125, 1250.5)

    async def test_a_call_that_fails_is_counted_and_told_of(self, metrics, call):
        await metrics.record_request(call(success=False, error_message="Rate limit exceeded", latency_ms=1500.0))
        stats = (await metrics.get_hourly_stats("openrouter"))["2025-11-27:14"]
        assert (stats.total_requests, stats.successful_requests, stats.failed_requests) == (1, 0, 1)
        assert await metrics.get_recent_errors("openrouter") == [RecentError("gpt-4", "Rate limit exceeded", NOON, 1500)]
        assert await metrics.get_latency_percentiles("openrouter", "gpt-4") == {}

    async def test_several_at_once_are_as_one_after_the_other(self, metrics, call):
        calls = [call(success=number % 4 != 0, cost=number, error_message="x") for number in range(40)]
        assert await metrics.record_requests(calls)
        stats = (await metrics.get_hourly_stats("openrouter"))["2025-11-27:14"]
        assert (stats.total_requests, stats.failed_requests, stats.total_cost) == (40, 10, pytest.approx(780e-9, abs=1e-15))
        assert len(await metrics.get_recent_errors("openrouter")) == 10
        assert (await metrics.get_latency_percentiles("openrouter", "gpt-4"))["count"] == 30

    async def test_what_nobody_waited_for_costs_and_is_no_call(self, metrics, call):
        await metrics.record_request(call(success=None, tokens_input=5, cost=7))
        assert await metrics.get_hourly_stats("openrouter") == {"2025-11-27:14": HourStats(tokens_input=5, total_cost=7e-9)}
        assert await metrics.get_all_provider_health() == {}
        assert await metrics.get_recent_errors("openrouter") == []

    async def test_a_name_with_slash_colon_and_per_cent_is_one_name(self, metrics, call):
        model = "meta/llama:70b%3A"
        await metrics.record_request(call(model=model))
        await metrics.record_request(call(provider="a:b", model="c"))
        await metrics.record_request(call(provider="a", model="b:c", success=False))
        await metrics.update_circuit_breaker("a:b", model, "open", 5)
        assert (await metrics.get_latency_percentiles("openrouter", model))["count"] == 1
        assert (await metrics.get_latency_percentiles("a:b", "c"))["count"] == 1
        assert await metrics.get_latency_percentiles("a", "b:c") == {}
        assert [(one.provider, one.model) for one in await metrics.get_circuit_breakers()] == [("a:b", model)]


class TestProviderHealth:
    async def test_best_where_nothing_is_known(self, metrics):
        assert await metrics.get_provider_health("openrouter") == 100.0
        assert await metrics.get_all_provider_health() == {}
        assert await metrics.get_health_history(["openrouter"]) == {}

    async def test_each_call_moves_it(self, metrics, call):
        await metrics.record_request(call(success=False))
        assert await metrics.get_provider_health("openrouter") == pytest.approx(95.0)
        await metrics.record_request(call())
        assert await metrics.get_provider_health("openrouter") == pytest.approx(95.25)

    async def test_calls_that_come_together_move_it_together(self, metrics, call):
        await metrics.record_requests([call(success=number % 2 == 0) for number in range(10)] + [call(provider="other")])
        together = pytest.approx(scored(100.0, answered=5, failed=5))
        assert await metrics.get_all_provider_health() == {"openrouter": together, "other": 100.0}

    async def test_a_request_that_is_wrong_is_told_of_and_no_fault_of_the_provider(self, metrics, call):
        await metrics.record_request(call(success=None, error_message="no such model"))
        assert await metrics.get_all_provider_health() == {}
        assert (await metrics.get_hourly_stats("openrouter"))["2025-11-27:14"].total_requests == 0
        assert [one.error for one in await metrics.get_recent_errors("openrouter")] == ["no such model"]

    async def test_its_course_is_kept_for_an_hour_a_sample_a_minute(self, metrics, call, clock):
        for _ in range(150):
            await metrics.record_request(call(success=False))
            clock.now += 30.0
        history = (await metrics.get_health_history(["openrouter", "never"]))["openrouter"]
        assert len(history) == 60
        assert history == sorted(history)
        assert history[-1][0] == clock.now - 30.0
        assert history[-1][1] == pytest.approx(await metrics.get_provider_health("openrouter"))


class TestRecentErrors:
    async def test_errors_keep_100_and_500_chars(self, metrics, call):
        calls = [call(success=False, error_message=f"{number} {'word ' * 200}") for number in range(130)]
        await metrics.record_requests(calls[:70])
        await metrics.record_requests(calls[70:])
        errors = await metrics.get_recent_errors("openrouter", 1000)
        assert [int(one.error.split()[0]) for one in errors] == [*range(129, 29, -1)]
        assert {len(one.error) for one in errors} == {500}

    async def test_the_newest_come_first_and_no_more_than_asked_for(self, metrics, call):
        for number in range(5):
            await metrics.record_request(call(success=False, error_message=str(number)))
        assert [one.error for one in await metrics.get_recent_errors("openrouter", 2)] == ["4", "3"]

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("Incorrect API key provided: sk-proj-abcdEFGH1234.", "Incorrect API key provided: [removed]."),
            ("Authorization: Bearer abc.def", "Authorization: [removed]"),
            ("can't reach http://user:hunter2@host/v1", "can't reach http://[removed]host/v1"),
            ("token 0123456789abcdef0123456789abcdef is bad", "token [removed] is bad"),
            ("Input 'my mother is ill' is too long", "Input '[removed]' is too long"),
            (
                '{"input": "a secret plan", "field": "messages[0].content"}',
                '{"input": "[removed]", "field": "messages[0].content"}',
            ),
            ("it says `it isn't over", "it says `[removed]`"),
            ("the model `gpt-4.1:x/y` does not exist", "the model `gpt-4.1:x/y` does not exist"),
            ("two\nlines\x1b[31m", "two lines [31m"),
        ],
    )
    async def test_credentials_and_what_is_quoted_are_removed(self, metrics, call, said, told):
        await metrics.record_request(call(success=False, error_message=said))
        assert [one.error for one in await metrics.get_recent_errors("openrouter")] == [told]


class TestHourlyStats:
    async def test_hours_are_told_apart_and_the_one_under_way_is_the_last(self, metrics, call, clock):
        await metrics.record_request(call(tokens_input=1))
        clock.now += 3600
        await metrics.record_request(call(tokens_input=2))
        assert list(await metrics.get_hourly_stats("openrouter", 1)) == ["2025-11-27:15"]
        both = await metrics.get_hourly_stats("openrouter", 2)
        assert {hour: stats.tokens_input for hour, stats in both.items()} == {"2025-11-27:14": 1, "2025-11-27:15": 2}

    async def test_a_call_belongs_to_the_hour_in_which_it_ended(self, metrics, call, clock):
        late = call()
        clock.now += 1800
        await metrics.record_request(late)
        assert await metrics.get_hourly_stats("openrouter", 1) == {}
        assert list(await metrics.get_hourly_stats("openrouter", 2)) == ["2025-11-27:14"]

    async def test_nothing_of_a_provider_without_calls(self, metrics, call):
        await metrics.record_request(call())
        assert await metrics.get_hourly_stats("portkey", 2) == {}

    async def test_money_adds_up_to_the_last_digit(self, metrics, call):
        await metrics.record_requests([call(cost=17_500) for _ in range(200)])
        await metrics.record_request(call(cost=1))
        stats = await metrics.get_hourly_stats("openrouter")
        assert stats["2025-11-27:14"].total_cost == pytest.approx(0.003500001, abs=1e-13)


class TestLatencyPercentiles:
    async def test_percentiles_by_interpolation(self, metrics, call):
        await metrics.record_requests([call(latency_ms=float(number)) for number in range(1, 101)])
        found = await metrics.get_latency_percentiles("openrouter", "gpt-4", [50, 95, 99.9])
        assert found == {"count": 100, "avg": 50.5, "p50": 50.5, "p95": pytest.approx(95.05), "p99_9": pytest.approx(99.901)}

    async def test_equal_latencies_count_each(self, metrics, call):
        await metrics.record_requests([call(latency_ms=7.0) for _ in range(5)])
        assert (await metrics.get_latency_percentiles("openrouter", "gpt-4"))["count"] == 5

    async def test_latency_zset_capped(self, metrics, call):
        await metrics.record_requests([call(latency_ms=1e6) for _ in range(500)])
        for batch in range(11):
            await metrics.record_requests([call(latency_ms=float(batch)) for _ in range(1000)])
        found = await metrics.get_latency_percentiles("openrouter", "gpt-4", [100])
        assert (found["count"], found["p100"]) == (10_000, 10.0)

    async def test_what_is_older_than_two_hours_does_not_count(self, metrics, call, clock):
        await metrics.record_request(call(latency_ms=1.0))
        clock.now += 7201
        assert await metrics.get_latency_percentiles("openrouter", "gpt-4") == {}
        await metrics.record_request(call(latency_ms=2.0))
        assert (await metrics.get_latency_percentiles("openrouter", "gpt-4"))["avg"] == 2.0

    async def test_streams_have_a_first_token_and_a_speed(self, metrics, call):
        await metrics.record_requests([call(first_token_ms=120.0, tokens_per_second=45.5), call()])
        first = await metrics.get_latency_percentiles("openrouter", "gpt-4", [99], "first_token")
        speed = await metrics.get_latency_percentiles("openrouter", "gpt-4", [50], "speed")
        assert (first, speed) == ({"count": 1, "avg": 120.0, "p99": 120.0}, {"count": 1, "avg": 45.5, "p50": 45.5})


class TestCircuitBreaker:
    async def test_it_is_told_as_it_stands(self, metrics, clock):
        await metrics.update_circuit_breaker("openrouter", "gpt-4", "open", 5)
        await metrics.update_circuit_breaker("openrouter", "gpt-4", "half_open", 6)
        (told,) = await metrics.get_circuit_breakers()
        assert (told.provider, told.model, told.state, told.failure_count) == ("openrouter", "gpt-4", "half_open", 6)
        assert told.updated == clock.now

    async def test_what_is_not_told_again_is_forgotten(self, metrics, clock):
        await metrics.update_circuit_breaker("openrouter", "gpt-4", "open", 5)
        clock.now += 299
        assert len(await metrics.get_circuit_breakers()) == 1
        clock.now += 2
        assert await metrics.get_circuit_breakers() == []


class TestCleanup:
    async def test_what_is_older_goes_and_all_else_stays(self, metrics, call, clock):
        await metrics.record_requests([call(), call(model="other"), call(success=False)])
        clock.now += 2 * 3600
        await metrics.record_request(call())
        assert await metrics.cleanup_old_data(hours=1) >= 2
        assert list(await metrics.get_hourly_stats("openrouter", 3)) == ["2025-11-27:16"]
        assert (await metrics.get_latency_percentiles("openrouter", "gpt-4"))["count"] == 1
        assert len(await metrics.get_all_provider_health()) == 1
        assert await metrics.cleanup_old_data(hours=1) == 0


class TestRequestMetricsDataclass:
    def test_it_has_the_members_of_seed_004(self):
        members = ("provider", "model", "latency_ms", "success", "cost", "tokens_input", "tokens_output", "error_message")
        assert set(members) <= set(RequestMetrics.__struct_fields__)

    def test_it_can_not_be_changed(self, call):
        with pytest.raises(AttributeError):
            call().cost = 1

    def test_what_may_be_left_out(self):
        one = RequestMetrics(provider="a", model="b", latency_ms=1.0, success=True, timestamp=NOON, id="x")
        assert msgspec.structs.asdict(one) | {"cost": 0, "tokens_input": 0, "error_message": ""} == msgspec.structs.asdict(one)

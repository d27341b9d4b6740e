"""`sentinel metrics cleanup`: what is old goes, what is not or is not ours stays."""

import time

import pytest

from tests.servers import PATIENT, free_port


@pytest.fixture
def cleanup(sentinel, tmp_path):
    return lambda *args, **env: sentinel("metrics", "cleanup", *args, **{"SENTINEL_DATA_DIR": str(tmp_path / "data")} | env)


@pytest.mark.parametrize("prefix", ["", "team-a:"])
def test_what_is_old_goes(cleanup, redis8, prefix):
    redis8.flush()
    now = time.time()
    with redis8.client(decode_responses=True) as client:
        client.hset(f"{prefix}metrics:mock:2020-01-01:00", mapping={"total_requests": 1, "total_cost": "0.5"})
        client.hset(f"other:{prefix}metrics:mock:2020-01-01:00", "total_cost", "0.5")
        client.zadd(f"{prefix}latency:mock:llama", {"7:a.1": now - 7300, "7.5:b.2": now - 7100, "8:c.1": now})
        result = cleanup("--hours", "2", REDIS_URL=redis8.url, SENTINEL_METRICS_PREFIX=prefix, **PATIENT)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "2 removed.\n", "")
        assert client.zrange(f"{prefix}latency:mock:llama", 0, -1) == ["7.5:b.2", "8:c.1"]
        assert {*client.scan_iter()} == {f"{prefix}latency:mock:llama", f"other:{prefix}metrics:mock:2020-01-01:00"}
    again = cleanup(REDIS_URL=redis8.url, SENTINEL_METRICS_PREFIX=prefix, **PATIENT)
    assert (again.exit_code, again.stdout) == (0, "0 removed.\n")


def test_without_redis_there_is_nothing_to_do(cleanup):
    result = cleanup()
    assert (result.exit_code, result.stderr) == (0, "")
    assert "ends by itself" in result.stdout


def test_a_redis_that_is_away(cleanup):
    result = cleanup(REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Redis does not answer" in result.stderr


@pytest.mark.parametrize("hours", ["0", "721", "x", "-1"])
def test_hours_that_are_none(cleanup, hours):
    result = cleanup(f"--hours={hours}")
    assert result.exit_code == 2
    assert "1 to 720" in result.stderr

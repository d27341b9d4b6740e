"""What every test may use, and what holds for the whole run."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from sentinel_gateway.settings.variables import FILE, LATER, PREFIX, VARIABLES
from tests.servers import POSTGRES, REDIS7, REDIS8, PostgresServer, RedisCluster, RedisServer

REQUIRE = "SENTINEL_TEST_REQUIRE"
REQUIRED = os.environ.get(REQUIRE)
"""Read before the names below are cleared: a gateway that a test starts would refuse this one as no variable of Sentinel's."""
LAST_WAIT = 30
"""Seconds between the last line of the report and the end of the process."""

hypothesis.settings.register_profile(
    "sentinel", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "search", hypothesis.settings.get_profile("sentinel"), derandomize=False, database=None, print_blob=True
)
hypothesis.settings.load_profile("sentinel")


def pytest_configure(config: pytest.Config) -> None:
    """No test may see, use or bill the developer's own providers, nor be changed by their settings, nor by a busy machine."""
    if config.getoption("dist", "no") != "no":
        return  # the tests run in processes of their own, which inherit the environment and come here too
    known = {variable.name for variable in VARIABLES} | LATER.keys()
    for name in list(os.environ):
        if name.startswith(PREFIX) or name.removesuffix(FILE) in known or name.endswith(("_API_KEY", "_BASE_URL")):
            del os.environ[name]


def pytest_sessionstart() -> None:
    """Every run draws the same examples, also of one test alone; only `make search` draws others.

    Hypothesis tries what stands in our code as well, as far as it is loaded: that would depend on what else has run.
    """
    if hypothesis.settings.default.derandomize:
        nothing = providers.Constants()
        providers._get_local_constants = lambda: nothing  # noqa: SLF001 - nothing public turns it off


def pytest_unconfigure() -> None:
    """A thread that a test left waiting must not hold up the end of the program for ever."""
    faulthandler.dump_traceback_later(LAST_WAIT, exit=True)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run on the loop that the product runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def absent() -> Callable[..., NoReturn]:
    """To be called with what the test needs and this machine lacks: the test is left out, and listed at the end of the run.

    Where SENTINEL_TEST_REQUIRE is `all`, as in CI, it fails instead; not if it is `rare`: nothing that `make test-deps` installs.
    """

    def leave_out(what: str, *, rare: bool = False) -> NoReturn:
        if REQUIRED == "all" and not rare:
            pytest.fail(f"This machine lacks {what}, and {REQUIRE} asks for all.")
        pytest.skip(f"this machine lacks {what}")

    return leave_out


@pytest.fixture(scope="session")
def redis8(tmp_path_factory) -> Iterator[RedisServer]:
    """Redis 8, with vector sets. Others have used it: flush it first."""
    with RedisServer(REDIS8, tmp_path_factory.mktemp("redis8")) as server:
        yield server


@pytest.fixture(scope="session")
def redis7(tmp_path_factory, absent) -> Iterator[RedisServer]:
    """Debian's Redis 7, without vector sets, where it is installed. Others have used it: flush it first."""
    with RedisServer(REDIS7 or absent("redis-server: make test-deps installs it"), tmp_path_factory.mktemp("redis7")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory) -> Iterator[RedisCluster]:
    """Three nodes of Redis 8. Others have used it: flush it first."""
    with RedisCluster(REDIS8, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres(absent) -> Iterator[PostgresServer]:
    """Debian's PostgreSQL, where it is installed; `fresh()` is a database of one's own."""
    with PostgresServer(POSTGRES or absent("PostgreSQL: make test-deps installs it")) as server:
        yield server


@pytest.fixture
def same_day() -> None:
    """For tests of what is counted by the day: none begins in the last minute of one, in UTC."""
    left = 86_400 - time.time() % 86_400
    if left < 60:
        time.sleep(left + 1)


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_run() -> Iterator[None]:
    """A test ends the threads, and ends and reaps the processes, that it started."""
    yield
    waiting = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    assert waiting == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)

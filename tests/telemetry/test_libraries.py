"""What uvicorn and asyncio log comes out as one-line events."""

import asyncio
import gc
import logging
from collections.abc import Callable

import pytest

from sentinel_gateway.telemetry.libraries import LOGGERS, LibraryLogs
from sentinel_gateway.telemetry.logs import LogWriter
from tests.telemetry.conftest import Output, decoded

Open = Callable[..., LogWriter]


def crash() -> None:
    raise ValueError("secret\nsecond line")


def fail(name: str) -> None:
    try:
        crash()
    except ValueError:
        logging.getLogger(name).exception("Exception in %s", "ASGI\napplication")


def test_warnings_and_up_without_traceback(output: Output, open_log: Open) -> None:
    log = open_log()
    with LibraryLogs(log):
        logging.getLogger("uvicorn.error").info("Started server process")
        logging.getLogger("uvicorn.error").warning("odd %s", "thing")
        fail("uvicorn.error")
    log.close()
    warning, error = decoded(output.rest().splitlines())
    assert warning | {"timestamp": ""} == {
        "timestamp": "", "level": "warning", "event": "library", "logger": "uvicorn.error", "message": "odd thing",
    }  # fmt: skip
    assert error["level"] == "error"
    assert (error["message"], error["error"]) == ("Exception in ASGI", "ValueError")
    assert error["at"].startswith("test_libraries.py:")
    assert "trace" not in error


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_what_an_exception_says_that_nobody_fetched_is_for_debugging(
    output: Output, open_log: Open, level: str, *, told: bool
) -> None:
    """It may quote what a caller wrote, and asyncio shows it whole."""

    async def crash_unseen() -> None:
        crash()

    async def leave() -> None:
        task = asyncio.create_task(crash_unseen())
        await asyncio.wait({task})

    log = open_log(level)
    with LibraryLogs(log):
        asyncio.run(leave())
        gc.collect()
    log.close()
    [line] = [line for line in decoded(output.rest().splitlines()) if line.get("at", "").startswith("test_libraries.py:")]
    assert line["message"].startswith("Task exception was never retrieved")
    assert (line["level"], line["error"]) == ("error", "ValueError")
    assert ("secret" in str(line)) is told


def test_debug_level_shows_all_and_the_traceback_in_one_field(output: Output, open_log: Open) -> None:
    log = open_log("debug")
    with LibraryLogs(log):
        logging.getLogger("asyncio").debug("Using selector")
        fail("asyncio")
    log.close()
    debug, error = decoded(output.rest().splitlines())
    assert (debug["level"], debug["message"]) == ("debug", "Using selector")
    assert "in crash" in error["trace"]
    assert "\n" not in error["trace"]


def test_arguments_that_do_not_fit_are_no_reason_to_fail(
    output: Output, open_log: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    log = open_log()
    with LibraryLogs(log):
        logging.getLogger("asyncio").warning("%d apples", "no")
        logging.getLogger("asyncio").warning("%(a)s and %(b)s", {"a": 1})
    log.close()
    assert [line["message"] for line in decoded(output.rest().splitlines())] == ["%d apples", "%(a)s and %(b)s"]
    assert capfd.readouterr() == ("", "")


def test_the_loggers_are_as_before_afterwards(open_log: Open) -> None:
    def state() -> list[object]:
        return [(list(logger.handlers), logger.propagate, logger.level) for logger in map(logging.getLogger, LOGGERS)]

    before = state()
    with LibraryLogs(open_log()):
        assert state() != before
    assert state() == before

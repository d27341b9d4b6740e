"""Seed 000's request log: its lines to the byte, and a file that may be renamed, cut, full or gone without anybody waiting."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.telemetry import request_log
from sentinel_gateway.telemetry.request_log import RequestLog, request_line
from tests.telemetry.conftest import DEADLINE

Make = Callable[..., Record]
WIDTH = len("2026-02-21 10:00:00 | MISS          | llama-3.3-70b-versatile       |      423 tokens | $0.00025\n")


class Opened:
    """A request log, and what it has told."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.log = RequestLog(path, lambda name, **fields: self.told.append((name, fields)), retry=0.02, **options)

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def wait_for(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, self.told
            time.sleep(0.01)

    def lines(self, count: int, path: Path | None = None) -> list[str]:
        file = path or self.path
        self.wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") >= count)
        return file.read_text().splitlines(keepends=True)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    logs: list[Opened] = []

    def open_one(path: Path | None = None, **options: Any) -> Opened:
        logs.append(Opened(path or tmp_path / "logs" / "requests.log", **options))
        return logs[-1]

    yield open_one
    for log in logs:
        log.log.close()


@pytest.fixture
def miss(make_record: Make) -> Make:
    """The first line of the seed's example."""

    def make(**changes: Any) -> Record:
        seed = {"at": 1_771_667_999.5, "seconds": 0.6, "outcome": "miss", "tier": "", "model": "llama-3.3-70b-versatile"}
        return make_record(**seed | {"prompt_tokens": 400, "completion_tokens": 23, "cost": 254_170} | changes)

    return make


def test_request_log_golden_bytes(opened: Callable[..., Opened], miss: Make) -> None:
    log = opened()
    log.log.request(miss())
    log.log.request(miss(at=1_771_668_000.4, outcome="exact", tier="memory", cost=0, saved=254_170))
    log.log.request(miss(at=1_771_668_001.4, outcome="semantic", cost=0, saved=254_170, similarity=0.97))
    log.log.close()
    assert log.path.read_bytes() == (
        b"2026-02-21 10:00:00 | MISS          | llama-3.3-70b-versatile       |      423 tokens | $0.00025\n"
        b"2026-02-21 10:00:01 | EXACT_HIT     | llama-3.3-70b-versatile       |        0 tokens | $0.00000\n"
        b"2026-02-21 10:00:02 | SEMANTIC_HIT  | llama-3.3-70b-versatile       |        0 tokens | $0.00000\n"
    )


@pytest.mark.parametrize(
    ("changes", "outcome", "tokens", "cost"),
    [
        ({"outcome": "bypass"}, "BYPASS", 423, "$0.00025"),
        ({"outcome": "coalesced"}, "COALESCED", 0, "$0.00000"),
        ({"status": 502, "error": "upstream_error", "cost": 0}, "ERROR", 423, "$0.00000"),
        ({"error": "upstream_error"}, "ERROR", 423, "$0.00025"),  # a stream that broke off, and was paid for
        ({"status": 429, "error": "rate_limit_exceeded", "outcome": "none", "prompt_tokens": 0}, "ERROR", 23, "$0.00025"),
    ],
)
def test_further_outcomes(miss: Make, changes: dict[str, Any], outcome: str, tokens: int, cost: str) -> None:
    _, shown, _, used, paid = request_line(miss(**changes)).decode().split(" | ")
    assert (shown.rstrip(), used, paid) == (outcome, f"{tokens:>8} tokens", f"{cost}\n")


def test_however_many_misses_come_what_all_hits_of_a_model_say_is_made_once(miss: Make) -> None:
    hit = miss(model="hit", outcome="exact", tier="memory")
    first = request_line(hit)
    made = request_log._free.cache_info().misses  # noqa: SLF001 - a line is the same whether or not it is made again
    for tokens in range(2000):
        request_line(miss(model=f"missed-{tokens % 3}", prompt_tokens=tokens, cost=tokens))
    assert request_line(hit) == first
    assert request_log._free.cache_info().misses == made  # noqa: SLF001 - as above


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("m" * 29, "m" * 29),
        ("m" * 30, "m" * 28 + "~"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.3-70B-Ins~"),
        ("a\nb | ERROR", "a\\nb \\x7c ERROR"),
        ("\x1b[31mred", "\\x1b[31mred"),
    ],
)
def test_a_name_stays_in_its_column(miss: Make, model: str, shown: str) -> None:
    line = request_line(miss(model=model))
    assert len(line) == WIDTH
    assert line.decode().split(" | ")[2] == f"{shown:<29}"


def test_what_named_no_model_or_asked_for_no_answer_is_left_out(opened: Callable[..., Opened], miss: Make) -> None:
    log = opened()
    log.log.request(miss(model="", outcome="none", route="/health"))
    log.log.request(miss(outcome="none", route="/v1/messages/count_tokens"))
    log.log.request(miss(model="last"))
    log.log.close()
    assert [line.split(" | ")[2].rstrip() for line in log.lines(1)] == ["last"]


COUNT_OPENS = """
import sys, time
from pathlib import Path
from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.request_log import RequestLog

opened = []
sys.addaudithook(lambda name, args: opened.append(args[0]) if name == "open" and "requests.log" in str(args[0]) else None)
log = RequestLog(Path(sys.argv[1]), print)
for number in range(300):
    log.request(Record(at=0, request_id="a", sentinel_id="b", route="/", method="POST", outcome="miss", model="m"))
    if number % 100 == 99:
        time.sleep(0.2)
log.close()
print(len(opened), Path(sys.argv[1]).read_bytes().count(b"\\n"))
"""


def test_no_open_per_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNT_OPENS, str(tmp_path / "requests.log")]
    # The second one is the reading at the end.
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.split() == ["1", "300"]


def test_a_log_that_is_renamed_and_made_anew_is_followed(opened: Callable[..., Opened], miss: Make) -> None:
    log = opened()
    log.log.request(miss(model="before"))
    log.lines(1)
    rotated = log.path.rename(log.path.with_suffix(".1"))
    log.path.touch(0o600)
    made = log.path.stat().st_ino
    log.log.request(miss(model="after"))
    assert "after" in log.lines(1)[0]
    assert log.path.stat().st_ino == made
    assert log.lines(1, rotated) == [request_line(miss(model="before")).decode()]


def test_whoever_renames_it_has_a_moment_to_make_the_next(opened: Callable[..., Opened], miss: Make) -> None:
    log, fd = opened(), None
    for _ in range(10):  # a machine that is busy may take longer than a moment, but not each time
        log.log.request(miss(model="before"))
        log.lines(1)
        log.path.rename(log.path.with_suffix(".1"))
        log.log.request(miss(model="after"))
        time.sleep(0.1)
        with suppress(FileExistsError):
            fd = os.open(log.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # as logrotate does, which fails if there is one
            os.close(fd)
            break
    assert fd is not None, "each time there was one before"
    assert "after" in log.lines(1)[0]


@pytest.mark.parametrize("folder_too", [False, True])
def test_a_log_that_is_gone_is_made_anew(opened: Callable[..., Opened], miss: Make, folder_too: bool) -> None:
    log = opened()
    log.log.request(miss(model="before"))
    log.lines(1)
    log.path.unlink()
    if folder_too:
        log.path.parent.rmdir()
    log.log.request(miss(model="after"))
    assert len(log.lines(1)) == 1
    assert log.told == []


def test_a_log_that_is_copied_and_cut_goes_on_at_its_beginning(opened: Callable[..., Opened], miss: Make) -> None:
    log = opened()
    for _ in range(5):
        log.log.request(miss())
    log.lines(5)
    os.truncate(log.path, 0)
    log.log.request(miss(model="after"))
    log.wait_for(lambda: b"after" in log.path.read_bytes())
    assert log.path.read_bytes() == request_line(miss(model="after"))


def test_a_full_disk_loses_only_what_does_not_fit_the_queue_and_is_told_of_once(
    tmp_path: Path, opened: Callable[..., Opened], miss: Make
) -> None:
    path, room = tmp_path / "requests.log", tmp_path / "room"
    path.symlink_to("/dev/full")
    log = opened(path, capacity=20)
    log.log.request(miss())
    log.wait_for(lambda: log.told)
    started = time.monotonic()
    for _ in range(1000):
        log.log.request(miss())
    assert time.monotonic() - started < DEADLINE / 2
    time.sleep(0.2)  # some attempts more
    assert log.told == [("request_log_failed", {"reason": "No space left on device"})]
    spare = tmp_path / "spare"
    spare.symlink_to(room)
    spare.replace(path)
    log.wait_for(lambda: len(log.told) == 3)
    assert log.names()[1:] == ["request_log_recovered", "request_log_lines_lost"]
    written, lost = room.read_bytes().count(b"\n"), log.told[2][1]["count"]
    assert written + lost == 1001
    assert 21 <= written <= 41
    log.log.request(miss(model="after"))
    log.wait_for(lambda: b"after" in room.read_bytes())
    assert len(log.told) == 3


FILL = """
import os, resource, sys, time
from pathlib import Path
from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.request_log import RequestLog

path, events = Path(sys.argv[1]), []
log = RequestLog(path, lambda name, **fields: events.append(name), retry=0.02)
resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))  # two and a half lines
for number in range(6):
    log.request(Record(at=number, request_id="a", sentinel_id="b", route="/", method="POST", outcome="miss", model=f"m{number}"))
while not events:
    time.sleep(0.01)
size = path.stat().st_size
if sys.argv[2] == "renamed":
    path.rename(path.with_suffix(".1"))
elif sys.argv[2] == "cut":
    os.truncate(path, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.close()
print(size, *events)
"""


@pytest.mark.parametrize(("meanwhile", "kept"), [("", range(6)), ("renamed", range(2, 6)), ("cut", range(2, 6))])
def test_a_line_that_was_written_in_part_comes_whole(tmp_path: Path, meanwhile: str, kept: range) -> None:
    path = tmp_path / "requests.log"
    done = subprocess.run([sys.executable, "-c", FILL, str(path), meanwhile], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["250", "request_log_failed", "request_log_recovered"]
    lines = path.read_text().splitlines(keepends=True)
    assert [line.split(" | ")[2].rstrip() for line in lines] == [f"m{number}" for number in kept]
    assert {len(line) for line in lines} == {WIDTH}


@pytest.mark.parametrize(
    ("before", "kept"), [(b"", b""), (b"whole\n", b"whole\n"), (b"whole\ntorn amid", b"whole\ntorn amid\n"), (b"t", b"t\n")]
)
def test_a_log_that_ends_amid_a_line_goes_on_with_a_new_one(
    tmp_path: Path, opened: Callable[..., Opened], miss: Make, before: bytes, kept: bytes
) -> None:
    path = tmp_path / "requests.log"
    path.write_bytes(before)
    log = opened(path)
    for model in ("a", "b"):
        log.log.request(miss(model=model))
    log.log.close()
    assert path.read_bytes() == kept + request_line(miss(model="a")) + request_line(miss(model="b"))
    assert log.told == []


def test_closing_gives_up_on_a_full_disk_and_tells_what_was_lost(
    tmp_path: Path, opened: Callable[..., Opened], miss: Make
) -> None:
    path = tmp_path / "requests.log"
    path.symlink_to("/dev/full")
    log = opened(path)
    for _ in range(1200):
        log.log.request(miss())
    log.log.close()
    assert log.told == [
        ("request_log_failed", {"reason": "No space left on device"}),
        ("request_log_lines_lost", {"count": 1200, "reason": "No space left on device"}),
    ]


def test_a_reader_that_does_not_read_holds_nobody_up(tmp_path: Path, opened: Callable[..., Opened], miss: Make) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = opened(path)
    for _ in range(2000):  # more than the pipe takes
        log.log.request(miss())
    log.wait_for(lambda: log.names() == ["request_log_failed"])
    log.log.close()
    assert log.told[-1][0] == "request_log_lines_lost"
    os.close(reader)


def test_what_can_not_be_written_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"requests\.log.*LOG_PATH"):
        RequestLog(tmp_path / "file" / "requests.log", print)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        RequestLog(tmp_path, print)

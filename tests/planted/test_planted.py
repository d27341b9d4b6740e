"""The bugs can still be planted, the tests that must notice exist, and what was caught is told from what was not."""

from xml.etree import ElementTree as ET

import pytest

from tests.planted.bug import PACKAGE, ROOT, bug, faults, plant
from tests.planted.plant import BUGS, Failure, Ran, judge, page, read
from tests.shape.test_seeds import ids_in

ONE = bug("one", "somebody#1", "What comes of it.", ("core/via.py", "a", "b"), test="tests/test_a.py::test_a", by="1 == 2")


def failed(test="tests/test_a.py::test_a[x]", whole="assert 1 == 2"):
    return Ran(0, [Failure(test, whole, whole)], 1.0)


@pytest.mark.parametrize("one", BUGS, ids=lambda one: one.name)
def test_it_can_be_planted_and_its_test_is_there(one, tmp_path):
    assert faults(one) == []
    for file, *_ in one.edits:
        copy = tmp_path / PACKAGE / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / PACKAGE / file).read_text())
    plant(one, tmp_path)
    for file, *_ in one.edits:
        after = (tmp_path / PACKAGE / file).read_text()
        assert after != (ROOT / PACKAGE / file).read_text()
        if file.endswith(".py"):
            compile(after, file, "exec")
    path, _, name = one.test.partition("[")[0].partition("::")
    assert name in ids_in((ROOT / path).read_text())
    assert one.by


def test_each_has_a_name_of_its_own():
    assert len({one.name for one in BUGS}) == len(BUGS)


def test_what_is_not_there_once_can_not_be_planted(tmp_path):
    file = tmp_path / PACKAGE / "core" / "via.py"
    assert "0 times" in faults(ONE, tmp_path)[0]
    file.parent.mkdir(parents=True)
    file.write_text("a a")
    assert "2 times" in faults(ONE, tmp_path)[0]
    file.write_text("a")
    assert faults(ONE, tmp_path) == []


def test_caught_is_what_its_own_test_says_as_expected():
    assert judge(ONE, failed()).caught
    assert not judge(ONE, failed(test="tests/test_b.py::test_a")).caught
    assert not judge(ONE, failed(whole="ImportError")).caught
    assert not judge(ONE, Ran(1, [], 1.0)).caught
    assert judge(ONE, Ran(0, [], 1.0, "it hung")).said == "it hung"


def test_a_report_is_read():
    report = ET.Element("testsuite")
    cases = [
        ET.SubElement(report, "testcase", classname="tests.api.test_a", name=name) for name in ("test_b[1]", "test_c", "test_d")
    ]
    ET.SubElement(cases[0], "failure", message="assert 1 ==\n 2").text = "E at"
    ET.SubElement(cases[1], "skipped")
    passed, (failure,) = read(report)
    assert passed == 1
    assert failure == ("tests/api/test_a.py::test_b[1]", "assert 1 == 2", "assert 1 ==\n 2\nE at")


def test_a_bug_that_nobody_caught_is_told_so():
    verdicts = [judge(ONE, failed()), judge(ONE, Ran(1, [], 1.0))]
    told = page(verdicts, Ran(7, [], 1.0))
    assert "**1 of 2 caught**" in told
    assert "7 passed, 0 failed" in told
    assert "| **nobody** | `nothing failed` |" in told

"""Files are read line by line, in any of their forms, and what can't be used is told by its number."""

import gzip

import pytest

from sentinel_gateway.evaluation.rows import BAD_SHOWN, LINE_BYTES, Bad, BadLines, Row, Unusable, open_lines, records

TSV = b"text_a\ttext_b\tlabel\r\na\tb\t1\r\n\r\nc\t\xc3\xbc\t0\n"
JSONL = b'{"a": 1}\n\n{"a": "\xc3\xbc"}'


def read(tmp_path, data: bytes, name: str = "data") -> list[Row | Bad]:
    path = tmp_path / name
    path.write_bytes(data)
    with open_lines(str(path)) as lines:
        return list(records(lines))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: b"\xef\xbb\xbf" + data])
def test_tsv_and_json_lines_plain_and_packed(tmp_path, pack):
    assert read(tmp_path, pack(TSV)) == [
        Row(2, {"text_a": "a", "text_b": "b", "label": "1"}),
        Row(4, {"text_a": "c", "text_b": "ü", "label": "0"}),
    ]
    assert read(tmp_path, pack(JSONL)) == [Row(1, {"a": 1}), Row(3, {"a": "ü"})]


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        (
            b"a\tb\n1\n1\t2\t3\n1\t2\n",
            {2: "has 1 fields, but the header line has 2", 3: "has 3 fields, but the header line has 2"},
        ),
        (b'{"a": 1}\n[1]\n{"a": \n', {2: "is no JSON object", 3: "is not JSON: Input data was truncated"}),
        (b'{"a": 1}\n\xff\n', {2: "is not UTF-8: byte 1 is out of place"}),
        (b'{"a": 1}\n' + b"[" * 100_000 + b"\n", {2: "is not JSON: maximum recursion depth exceeded"}),
    ],
)
def test_a_line_that_cannot_be_used_is_told_by_its_number(tmp_path, data, faults):
    found = {bad.line: bad.fault for bad in read(tmp_path, data) if isinstance(bad, Bad)}
    assert found.keys() == faults.keys()
    assert all(found[line].startswith(fault) for line, fault in faults.items())


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_without_end_is_left_out_and_what_follows_is_read(tmp_path, pack):
    data = b'{"a": 1}\n{"a": "' + b"x" * (2 * LINE_BYTES + 7) + b'"}\n{"a": 2}\n'
    assert read(tmp_path, pack(data)) == [Row(1, {"a": 1}), Bad(2, "is longer than 4 MiB"), Row(3, {"a": 2})]
    longest = b'{"a": "' + b"x" * (LINE_BYTES - 10) + b'"}\n'
    assert len(longest) == LINE_BYTES
    assert isinstance(read(tmp_path, pack(longest))[0], Row)


def test_what_can_be_read_no_further_says_where(tmp_path):
    packed = gzip.compress(JSONL * 10_000)
    with pytest.raises(Unusable, match=r"cut can't be read beyond line \d+: Compressed file ended"):
        read(tmp_path, packed[: len(packed) // 2], "cut")
    with pytest.raises(Unusable, match="nowhere can't be opened: No such file or directory"), open_lines("nowhere"):
        pass
    with pytest.raises(Unusable, match="can't be opened: Is a directory"), open_lines(str(tmp_path)):
        pass
    with pytest.raises(Unusable, match="names the column 'a' twice"):
        read(tmp_path, b"a\tb\ta\n")


def test_the_share_that_was_read_grows_to_all(tmp_path):
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(JSONL * 50_000))
    with open_lines(str(path)) as lines:
        shares = [lines.share for _ in lines]
        assert (shares, lines.share) == (sorted(shares), 1.0)
    path.write_bytes(b"")
    with open_lines(str(path)) as lines:
        assert (list(lines), lines.share) == ([], 0.0)


def test_of_many_bad_lines_the_first_are_kept_and_all_are_counted():
    bad = BadLines()
    assert bad.first() == ""
    for number in range(BAD_SHOWN + 5):
        bad.add(Bad(number, "is wrong"))
    assert (bad.count, len(bad.shown), bad.first()) == (BAD_SHOWN + 5, BAD_SHOWN, "; line 0 is wrong")

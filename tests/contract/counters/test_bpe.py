"""The bundled encodings count as tiktoken does, off the event loop, with bounded work, and never fail."""

import asyncio
import base64
import hashlib
import lzma
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from scripts import encodings
from sentinel_gateway.api.eager import run_eagerly
from sentinel_gateway.core.tokens import TokenCount, estimate
from sentinel_gateway.counters.bpe import FOLDER, BpeCounter, CounterLimits, load, unpack
from sentinel_gateway.errors import CounterBusy
from tests.contract.counters import corpus

pytestmark = pytest.mark.anyio

ENCODINGS = ("cl100k", "o200k")
PATIENT = CounterLimits(deadline=60.0)


@pytest.fixture(scope="module", params=ENCODINGS)
def encoding(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(encoding):
    return load(encoding)


@pytest.fixture
def told():
    return []


@pytest.fixture
async def counter(told):
    counter = BpeCounter(limits=PATIENT, on_event=lambda event, **fields: told.append((event, fields)))
    yield counter
    await counter.close()


def tokens(tokenizer, texts):
    return sum(map(len, tokenizer.encode_batch_fast(texts, add_special_tokens=False)))


def of(counts, encoding):
    return counts[ENCODINGS.index(encoding)]


def test_known_texts_have_their_known_counts(tokenizer, encoding):
    assert [tokens(tokenizer, [text]) for text, _ in corpus.KNOWN] == [of(counts, encoding) for _, counts in corpus.KNOWN]


def test_mixed_scripts_are_counted_as_tiktoken_counts_them(tokenizer, encoding):
    counted = {name: tokens(tokenizer, texts) for name, texts in corpus.mixtures().items()}
    assert counted == {name: of(counts, encoding) for name, counts in corpus.COUNTED.items()}


def test_every_sign_in_daily_use_is_counted_as_tiktoken_counts_it(tokenizer, encoding):
    assert tokens(tokenizer, corpus.every_sign()[:20]) == of(corpus.FIRST_SIGNS, encoding)


@pytest.mark.parametrize("sign", corpus.REPEATED)
def test_one_sign_again_and_again_is_counted_exactly(tokenizer, encoding, sign):
    assert tokens(tokenizer, [sign * 65_536]) == of(corpus.REPEATED[sign], encoding)


def test_the_bundled_files_hold_what_was_published(encoding):
    data = lzma.decompress((FOLDER / f"{encoding}.bpe.xz").read_bytes())
    count, at = int.from_bytes(data[:4], "little"), 0
    lengths, body = data[4 : 4 + count], data[4 + 2 * count :]
    digest = hashlib.sha256()
    for rank, length in enumerate(lengths):
        digest.update(b"%b %d\n" % (base64.b64encode(body[at : at + length]), rank))
        at += length
    assert digest.hexdigest() == encodings.PUBLISHED[encoding]


def test_a_file_is_packed_with_the_place_of_each_last_merge():
    singles = [bytes([byte]) for byte in range(256)]
    ranks = {token: rank for rank, token in enumerate([*singles, b"ab", b"bc", b"abc", b"abcab"])}
    vocabulary, merges = unpack(encodings.pack(ranks))
    assert merges == [("a", "b"), ("b", "c"), ("ab", "c"), ("abc", "ab")]
    assert [vocabulary[token] for token in ("abc", "abcab", "\u0120", "\u0100")] == [258, 259, 0x20, 0x00]


async def test_the_texts_of_a_request_are_counted_together(counter):
    assert await counter.count(["hello world", "hello world"], encoding="o200k") == TokenCount(4, exact=True)
    assert await counter.count([], encoding="o200k") == TokenCount(0, exact=True)


def test_the_library_is_not_loaded_with_the_module():
    code = "import sys, sentinel_gateway.counters.bpe; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_nothing_is_loaded_before_it_is_needed(counter):
    assert "[] loaded" in repr(counter)
    await counter.count(["x"], encoding="cl100k")
    assert "['cl100k'] loaded" in repr(counter)


@pytest.mark.parametrize(("characters", "inline"), [(256, True), (257, False)])
async def test_long_texts_are_counted_on_a_thread_and_short_ones_here(counter, characters, inline):
    await counter.count(["x"], encoding="cl100k")
    counting = asyncio.create_task(counter.count(["a" * characters], encoding="cl100k"))
    await asyncio.sleep(0)
    assert counting.done() == inline
    assert (await counting).exact


async def test_what_is_known_or_short_is_counted_without_waiting(counter):
    texts = ["words " * 1000, "hello world"]
    assert counter.count_now(["hello world"], encoding="cl100k") is None, "the encoding is not here yet"
    assert counter.count_now(texts, encoding="cl100k") is None
    counted = await counter.count(texts, encoding="cl100k")
    assert counter.count_now(texts, encoding="cl100k") == counted
    assert counter.count_now([*texts, "one more"], encoding="cl100k") == TokenCount(counted.tokens + 2, exact=True)
    assert counter.count_now(["other " * 1000], encoding="cl100k") is None


async def test_the_loop_runs_while_a_long_text_is_counted(told):
    counter = BpeCounter(limits=CounterLimits(exact_chars=1 << 20, deadline=60.0), on_event=told.append)
    await counter.count(["x"], encoding="o200k")
    counting = asyncio.create_task(counter.count(["some words " * 20_000], encoding="o200k"))
    turns = 0
    while not counting.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 3
    assert counting.result().exact
    await counter.close()


async def test_short_texts_in_ascii_are_counted_word_by_word_as_they_are_whole(counter, tokenizer, encoding):
    """Words that are new, and those that are known from other texts; every sign of ASCII is among them."""
    texts = corpus.short_texts()
    assert set("".join(texts)) == set(map(chr, range(128)))
    await counter.count(["x"], encoding=encoding)
    for text in texts:
        counted = await counter.count([text], encoding=encoding)
        assert counted == TokenCount(tokens(tokenizer, [text]), exact=True), repr(text)


@pytest.mark.parametrize("sign", [" ", "a", "\u0301"])
async def test_four_mebibytes_of_one_sign_are_estimated_from_a_part(counter, sign):
    counted = await counter.count([sign * (4 << 20)], encoding="o200k")
    whole = {" ": 1 / 128, "a": 1 / 8, "\u0301": 1.0}[sign] * (4 << 20)
    assert not counted.exact
    assert counted.tokens == pytest.approx(whole, rel=0.01)


async def test_what_is_estimated_from_a_part_sees_the_whole_text(counter):
    counted = await counter.count([" " * (1 << 20), "\u0301" * (1 << 20)], encoding="o200k")
    assert counted.tokens == pytest.approx(1 << 20, rel=0.05)


async def test_a_long_text_is_estimated_within_three_percent(counter, tokenizer, encoding):
    """Of scripts in turn, thousands of characters of each: those between two slices are like those in them."""
    mixed = "".join(text for texts in corpus.mixtures().values() for text in texts)
    text = mixed * (1 + 100_000 // len(mixed))
    counted = await counter.count([text], encoding=encoding)
    assert not counted.exact
    assert counted.tokens == pytest.approx(tokens(tokenizer, [text]), rel=0.03)


@pytest.mark.parametrize(("characters", "exact"), [(32 * 1024, True), (32 * 1024 + 1, False)])
async def test_so_much_of_a_request_is_counted(counter, characters, exact):
    half = characters // 2
    assert (await counter.count(["a" * half, "b" * (characters - half)], encoding="cl100k")).exact == exact


async def test_half_a_surrogate_pair_is_estimated(counter):
    assert await counter.count(["\ud800 and"], encoding="o200k") == TokenCount(2, exact=False)


async def test_what_comes_too_late_is_estimated(told):
    counter = BpeCounter(limits=CounterLimits(deadline=0.0), on_event=told.append)
    texts = ["words " * 1000]
    assert await counter.count(texts, encoding="o200k") == estimate(texts)
    await counter.close()


async def test_who_finds_too_many_waiting_is_given_an_estimate(told):
    counter = BpeCounter(limits=CounterLimits(waiting=2, deadline=60.0), on_event=told.append)
    texts = ["words " * 1000]
    counted = await asyncio.gather(*(counter.count(texts, encoding="cl100k") for _ in range(5)))
    assert sorted(count.exact for count in counted) == [False, False, False, True, True]
    assert "0 waiting" in repr(counter)
    await counter.close()


async def test_what_was_counted_is_not_counted_again(told):
    counter = BpeCounter(limits=CounterLimits(waiting=1, deadline=60.0), on_event=told.append)
    instructions, question = "words " * 1000, "more words " * 1000
    first = await counter.count([instructions], encoding="cl100k")
    busy = asyncio.create_task(counter.count(["other words " * 1000], encoding="cl100k"))
    await asyncio.sleep(0)
    assert "1 waiting" in repr(counter), "who has to be counted now is estimated"
    assert await counter.count([instructions], encoding="cl100k") == first
    assert await counter.count([instructions], encoding="o200k") == estimate([instructions]), "another encoding counts anew"
    both = await counter.count([instructions, question], encoding="cl100k")
    assert both == TokenCount(first.tokens + estimate([question]).tokens, exact=False)
    await busy
    assert (await counter.count([instructions, question], encoding="cl100k")).exact, "an estimate is not remembered"
    await counter.close()


async def test_who_has_no_task_yet_is_counted(counter):
    loop = asyncio.get_running_loop()
    counted, tasks = loop.create_future(), []

    async def count() -> None:
        try:
            counted.set_result(await counter.count(["words " * 1000], encoding="cl100k"))
        except RuntimeError as exc:
            counted.set_exception(exc)

    loop.call_soon(lambda: tasks.append(run_eagerly(count(), loop)))
    assert (await counted).tokens > 0


async def test_who_leaves_gives_the_place_back(counter):
    leaving = asyncio.create_task(counter.count(["words " * 1000], encoding="cl100k"))
    await asyncio.sleep(0)
    assert "1 waiting" in repr(counter)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert "0 waiting" in repr(counter)
    assert (await counter.count(["hello world"], encoding="cl100k")).exact


@pytest.mark.parametrize("damage", ["absent", "changed"])
async def test_a_file_that_is_not_as_it_was_is_not_used_and_told_once(tmp_path, told, damage):
    folder = Path(shutil.copytree(FOLDER, tmp_path / "encodings"))
    file = folder / "o200k.bpe.xz"
    file.unlink() if damage == "absent" else file.write_bytes(file.read_bytes()[:-1] + b"!")
    counter = BpeCounter(limits=PATIENT, on_event=lambda event, **fields: told.append((event, fields)), folder=folder)
    for _ in range(2):
        assert await counter.count(["hello world!"], encoding="o200k") == TokenCount(3, exact=False)
    assert (await counter.count(["hello world"], encoding="cl100k")).exact
    ((event, fields),) = told
    assert (event, fields["encoding"]) == ("token_counter_down", "o200k")
    assert ("sha256" in fields["reason"]) == (damage == "changed")
    await counter.close()


def threads():
    """Of this process, by name, those of libraries as well; empty where the system doesn't tell."""
    tasks, names = Path("/proc/self/task"), []
    for task in tasks.iterdir() if tasks.is_dir() else ():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            names.append((task / "comm").read_text().strip())
    return names


async def test_no_thread_but_its_own_counts(counter):
    before = len(threads())
    await counter.count(["words " * 1000, "more words"], encoding="cl100k")
    assert len(threads()) - before <= 1


async def test_ids_are_the_texts_that_they_were_made_of(counter, tokenizer, encoding):
    texts = [text for text, _ in corpus.KNOWN if text]
    ids = [encoded.ids for encoded in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    assert await counter.texts(ids, encoding=encoding) == texts
    assert await counter.texts([[0], [10_000_000]], encoding=encoding) is None


async def test_ids_without_an_encoding_are_nothing(tmp_path):
    broken = BpeCounter(limits=PATIENT, on_event=lambda *_, **__: None, folder=tmp_path)
    assert await broken.texts([[0]], encoding="cl100k") is None
    await broken.close()


@pytest.mark.parametrize(
    "limits", [CounterLimits(waiting=0), CounterLimits(patience=0.0, deadline=60.0)], ids=["crowded", "late"]
)
async def test_who_is_too_busy_to_read_ids_says_so(limits):
    counter = BpeCounter(limits=limits, on_event=lambda *_, **__: None)
    with pytest.raises(CounterBusy):
        await counter.texts([[0]], encoding="cl100k")
    await counter.close()

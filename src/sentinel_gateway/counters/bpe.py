"""A `TokenCounter` with the encodings of OpenAI's models, which the package carries. `encodings/` says where they come from.

The library and an encoding are loaded when they are first needed: an encoding takes 32 or 45 MB, and the library keeps Python to
itself for a few tenths of a second meanwhile. Texts are then counted on one thread, but for short ones, which cost less than the
way to it and back: those in ASCII word by word, of which few are new.
"""

import asyncio
import hashlib
import lzma
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import compress
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from cachebox import LRUCache

from sentinel_gateway.core.tokens import Encoding, TokenCount, estimate
from sentinel_gateway.errors import CounterBusy

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FOLDER: Final = Path(__file__).parent / "encodings"
SHA256: Final[dict[Encoding, str]] = {
    "cl100k": "2eb118c665791209c6e62d3f6c142a813a2fe0382263e36f0c2b566034aaa569",
    "o200k": "94e6a5d736dce38a9354e9b1c2502bd148982d836a450af03487891079f50556",
}
"""Of the files as they are bundled."""

PATTERN: Final[dict[Encoding, str]] = {
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)"
        r"|[^\r\n\p{L}\p{N}]?+[\p{L}]++"
        r"|[\p{N}]{1,3}"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$"
        r"|\s*[\r\n]"
        r"|\s+(?!\S)"
        r"|\s"
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[\p{N}]{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
        r"|\s*[\r\n]+"
        r"|\s+(?!\S)"
        r"|\s+"
    ),
}
"""How a text is cut into the pieces within which tokens are made: part of what an encoding is."""
IN_ASCII: Final = {"L": "A-Za-z", "Lu": "A-Z", "Ll": "a-z", "N": "0-9"}
"""Members of classes in ASCII; other classes have none."""

SLICES: Final = 64
"""A text that is too long to be counted whole is counted at so many places, spread evenly: many short ones tell more than few."""

REMEMBERED: Final = 16_384
"""Texts whose tokens are remembered of each encoding, by their hashes alone: what an application says first, and the earlier
turns of a conversation, come again with each request; and so do most words of what is new. They take up to 2 MB."""


class CounterLimits(msgspec.Struct, frozen=True):
    """Characters, seconds, and requests that may wait. The texts of one request count together.

    `deadline` is for what is estimated when it is over, `patience` for what can't be.
    """

    inline_chars: int = 256
    exact_chars: int = 32 * 1024
    waiting: int = 64
    deadline: float = 1.0
    patience: float = 10.0


class BpeCounter:
    """A `TokenCounter`, to be closed. Made on the event loop, where `on_event` is told token_counter_down (encoding, reason)."""

    def __init__(self, *, limits: CounterLimits, on_event: Callable[..., None], folder: Path = FOLDER) -> None:
        self._limits = limits
        self._on_event = on_event
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sentinel-counter")
        self._loaded: dict[Encoding, Tokenizer | None] = {}
        """None where the file can't be used."""
        self._remembered: dict[Encoding, LRUCache[int, int]] = {encoding: LRUCache(REMEMBERED) for encoding in PATTERN}
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<BpeCounter {sorted(name for name, found in self._loaded.items() if found)} loaded, {self._waiting} waiting>"

    async def count(self, texts: Sequence[str], *, encoding: Encoding) -> TokenCount:
        """The tokens of these texts. Never raises: what can't be counted in time, or not at all, is estimated."""
        if (counted := self.count_now(texts, encoding=encoding)) is not None:
            return counted
        known, new = self._recall(texts, encoding)
        counted = await self._count_aside(new, encoding)
        return TokenCount(known + counted.tokens, counted.exact)

    def count_now(self, texts: Sequence[str], *, encoding: Encoding) -> TokenCount | None:
        """Where what is new of them is short, and the encoding here."""
        known, new = self._recall(texts, encoding)
        if not new:
            return TokenCount(known, exact=True)
        if encoding not in self._loaded or sum(map(len, new)) > self._limits.inline_chars:
            return None
        counted = self._count_here(new, encoding)
        return TokenCount(known + counted.tokens, counted.exact)

    async def _count_aside(self, texts: Sequence[str], encoding: Encoding) -> TokenCount:
        if self._waiting >= self._limits.waiting:
            return estimate(texts)
        self._waiting += 1
        counting = self._loop.run_in_executor(self._thread, self._count, texts, encoding)
        try:
            done, _ = await asyncio.wait([counting], timeout=self._limits.deadline)  # the request may have no task yet
            return counting.result() if done else estimate(texts)
        finally:
            counting.cancel()
            self._waiting -= 1

    def _recall(self, texts: Sequence[str], encoding: Encoding) -> tuple[int, list[str]]:
        """The tokens of those that are remembered, and the others; one without any is always among these."""
        known = [*map(self._remembered[encoding].get, map(hash, texts))]
        return sum(filter(None, known)), [*compress(texts, map(not_, known))]

    async def texts(self, ids: Sequence[Sequence[int]], *, encoding: Encoding) -> list[str] | None:
        """The texts of these token ids; None if one is unknown, or the encoding can't be used. Raises `CounterBusy`."""
        if self._waiting >= self._limits.waiting:
            raise CounterBusy(f"{self._waiting} requests wait already")
        self._waiting += 1
        reading = self._loop.run_in_executor(self._thread, self._texts, ids, encoding)
        try:
            done, _ = await asyncio.wait([reading], timeout=self._limits.patience)  # as above
            if not done:
                raise CounterBusy(f"not within {self._limits.patience:g} s")
            return reading.result()
        finally:
            reading.cancel()
            self._waiting -= 1

    async def close(self) -> None:
        """Let what waits end, within the deadline; the rest is given up."""
        ended = self._loop.run_in_executor(self._thread, bool)
        await asyncio.wait([ended], timeout=self._limits.deadline)
        self._thread.shutdown(wait=ended.done(), cancel_futures=True)

    def _texts(self, ids: Sequence[Sequence[int]], encoding: Encoding) -> list[str] | None:
        tokenizer = self._tokenizer(encoding)
        if tokenizer is None:
            return None
        size = tokenizer.get_vocab_size()
        if any(number >= size for item in ids for number in item):
            return None
        return tokenizer.decode_batch([list(item) for item in ids], skip_special_tokens=False)

    def _tokenizer(self, encoding: Encoding) -> "Tokenizer | None":
        if encoding not in self._loaded:
            self._loaded[encoding] = self._load(encoding)
        return self._loaded[encoding]

    def _count_here(self, texts: Sequence[str], encoding: Encoding) -> TokenCount:
        """Of short texts."""
        cut = _words(encoding)
        if self._loaded[encoding] is None or not all(map(str.isascii, texts)):
            return self._count(texts, encoding)
        total = 0
        for text in texts:
            known, new = self._recall(cut(text), encoding)
            tokens = known + self._count(new, encoding).tokens if new else known
            self._remembered[encoding][hash(text)] = tokens
            total += tokens
        return TokenCount(total, exact=True)

    def _count(self, texts: Sequence[str], encoding: Encoding) -> TokenCount:
        tokenizer = self._tokenizer(encoding)
        if tokenizer is None:
            return estimate(texts)
        length = sum(map(len, texts))
        try:
            if length <= self._limits.exact_chars:
                counts = _tokens(tokenizer, texts)
                self._remembered[encoding].update(zip(map(hash, texts), counts, strict=True))
                return TokenCount(sum(counts), exact=True)
            sample = _sample(texts, self._limits.exact_chars)
            return TokenCount(-(-sum(_tokens(tokenizer, sample)) * length // sum(map(len, sample))), exact=False)
        except TypeError:  # half a surrogate pair
            return estimate(texts)

    def _load(self, encoding: Encoding) -> "Tokenizer | None":
        try:
            return load(encoding, self._folder)
        except (OSError, ValueError) as exc:
            self._loop.call_soon_threadsafe(self._tell, encoding, str(exc))
            return None

    def _tell(self, encoding: Encoding, reason: str) -> None:
        self._on_event("token_counter_down", encoding=encoding, reason=reason)


def load(encoding: Encoding, folder: Path = FOLDER) -> "Tokenizer":
    """One of the bundled encodings; OSError or ValueError if its file is not there or not as it was."""
    packed = (folder / f"{encoding}.bpe.xz").read_bytes()
    if (found := hashlib.sha256(packed).hexdigest()) != SHA256[encoding]:
        raise ValueError(f"{encoding}.bpe.xz is not the file that belongs here: its sha256 is {found}")
    os.putenv("TOKENIZERS_PARALLELISM", "false")  # read by the library: one thread, and no pool as wide as the machine
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - a gateway that never counts is spared it

    vocabulary, merges = unpack(lzma.decompress(packed))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))  # a piece that is a token needs no merging
    pieces = pre_tokenizers.Split(Regex(PATTERN[encoding]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def _words(encoding: Encoding) -> Callable[[str], list[str]]:
    """What cuts a text in ASCII into its pieces, of which each is counted by itself."""
    pattern = re.sub(r"\\p\{(\w+)\}", lambda found: IN_ASCII.get(found[1], ""), PATTERN[encoding])
    return re.compile(pattern, re.ASCII).findall


def unpack(data: bytes) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges of an encoding, its bytes in the letters that the library writes for them.

    A file holds the number of tokens (4 bytes, the lowest first); then, in the order of their ranks, a byte for the length of
    each, a byte for the length of the first of the two tokens that it is merged from (0 for a single byte), and the tokens.
    """
    count = int.from_bytes(data[:4], "little")
    lengths, firsts = data[4 : 4 + count], data[4 + count : 4 + 2 * count]
    letters = data[4 + 2 * count :].decode("latin-1").translate(_letters())
    vocabulary: dict[str, int] = {}
    merges: list[tuple[str, str]] = []
    at = 0
    for rank, (length, first) in enumerate(zip(lengths, firsts, strict=True)):
        token = letters[at : at + length]
        at += length
        vocabulary[token] = rank
        if first:
            merges.append((token[:first], token[first:]))
    return vocabulary, merges


def _letters() -> dict[int, str]:
    """The letter for each byte: itself where it can be printed, else one of those from 256 on."""
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printed)
    return {byte: chr(256 + number) for number, byte in enumerate(others)}


def _tokens(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[int]:
    """Of each text."""
    return [len(encoded) for encoded in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _sample(texts: Sequence[str], length: int) -> list[str]:
    """So many characters of the texts, at most."""
    whole = "".join(texts)
    step, width = len(whole) // SLICES, length // SLICES
    return [whole[at : at + width] for at in range(0, step * SLICES, step)]

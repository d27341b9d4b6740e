"""Texts that were counted with tiktoken 0.14.0, and what it counted: (cl100k, o200k) tokens."""

import random

ALPHABETS: dict[str, str | range] = {
    "ascii": range(32, 127),
    "spaces": " \n\r\t\u00a0\u3000\u0085\u200b",
    "endings": "'sStTdDmMlLvVrReE\u017f\u212a",
    "latin": range(0xC0, 0x250),
    "han": range(0x4E00, 0x5000),
    "hangul": range(0xAC00, 0xAD00),
    "arabic": range(0x600, 0x700),
    "devanagari": range(0x900, 0x980),
    "emoji": range(0x1F300, 0x1F600),
    "numbers": "0123456789\u0663\u00b2\u2167",
    "marks": "\u0301\u0300\u200d\ufe0f",
    "signs": "/\\-_=+*#!?.,;:()[]{}<>|",
}


def mixtures() -> dict[str, list[str]]:
    """For each alphabet, texts that mix it with the ones after it. Always the same."""
    chance = random.Random(4)
    signs = {name: list(signs) if isinstance(signs, str) else list(map(chr, signs)) for name, signs in ALPHABETS.items()}
    names = list(signs)
    made = {}
    for place, name in enumerate(names):
        pools = [signs[names[(place + step) % len(names)]] for step in range(3)]
        made[name] = ["".join(chance.choice(chance.choice(pools)) for _ in range(chance.randrange(60))) for _ in range(150)]
    return made


def short_texts() -> list[str]:
    """Of signs in ASCII: of all, and of few that meet the more often. Always the same."""
    chance = random.Random(5)
    few = ("abcXYZ '\n", "'sStTdDmMlLvVrReE ", "012 a", " \t\n\r\v\f\x1ca", "/!.\n\r a")
    pools = [list(map(chr, range(128))), *map(list, few)]
    return ["".join(chance.choices(pool, k=chance.randrange(1, 60))) for pool in pools for _ in range(500)]


def every_sign() -> list[str]:
    """Every character there is, beside letters, spaces, numbers and line ends, 2,000 to a text."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    return [_shown(codes[at : at + 2000]) for at in range(0, len(codes), 2000)]


def _shown(codes: list[int]) -> str:
    return "".join(f"a{chr(code) * 2}B {chr(code)}1\n{chr(code)} " for code in codes)


COUNTED = {
    "ascii": (3845, 3700),
    "spaces": (5531, 5147),
    "endings": (7015, 6314),
    "latin": (8359, 7682),
    "han": (8023, 7196),
    "hangul": (8077, 6771),
    "arabic": (8912, 6885),
    "devanagari": (8227, 6384),
    "emoji": (7555, 6132),
    "numbers": (4570, 4090),
    "marks": (4205, 3785),
    "signs": (3483, 3477),
}
"""Of all texts of a mixture together."""

FIRST_SIGNS = (581_047, 535_638)
"""Of the first twenty of `every_sign`, which hold all scripts in daily use."""

KNOWN = [
    ("", (0, 0)),
    ("hello world", (2, 2)),
    ("The gateway answers twice, and is asked once.", (10, 10)),
    (" leading and trailing  ", (4, 4)),
    ("I'LL say it's 12345 o'clock", (11, 10)),
    ("na\u00efve caf\u00e9", (4, 4)),
    ("\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002", (11, 8)),
    ("def f(x):\n    return x ** 2\n", (11, 11)),
    ("<|endoftext|>", (7, 7)),
    ("\r\n\r\n  \n", (2, 2)),
    ("\U0001f994\U0001f994", (6, 6)),
    ("\u043f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", (7, 4)),
    ("https://example.com/a/b?c=1//\n", (11, 11)),
]

REPEATED = {
    "a": (8192, 8192),
    " ": (512, 512),
    "\n": (2048, 4096),
    "A": (8192, 8192),
    "\u4e2d": (65536, 65536),
    "!": (8192, 4096),
}
"""65,536 times the same sign: where pieces are merged naively, that takes the square of it."""

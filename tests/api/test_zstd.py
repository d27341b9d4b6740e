"""The extra `zstd`: chosen before gzip where the caller reads it, and off the loop where it would hold it up."""

import json
import subprocess
import sys

import pytest
import zstandard

from sentinel_gateway.api.compression import BESIDE_FROM, choose, installed
from tests.gateway import chat, post

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("accepts", "name"),
    [
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"zstd;q=0, gzip", b"gzip"),
        (b"zstd", b"zstd"),
        (b"gzip", b"gzip"),
        (b"br", None),
        (b"", None),
    ],
)
def test_the_best_that_both_know_is_chosen(accepts, name):
    assert [coding.name for coding in installed()] == [b"zstd", b"gzip"]
    coding = choose(accepts)
    assert (coding.name if coding else None) == name


@pytest.mark.parametrize("tokens", [500, BESIDE_FROM // 4])
async def test_a_miss_and_a_hit_by_zstd(gateway, upstream, text, tokens):
    for expected in ("miss", "exact"):
        upstream.script(f"tokens={tokens}")
        wire = await gateway.connect()
        wire.send(post(chat(text, max_tokens=2 * tokens), headers="Accept-Encoding: gzip, zstd\r\n"))
        answer = await wire.answer()
        await wire.close()
        assert (answer.cache, answer.headers["content-encoding"]) == (expected, "zstd")
        whole = zstandard.ZstdDecompressor().decompressobj().decompress(answer.body)
        assert len(whole) > (BESIDE_FROM if tokens > 500 else 1024)
        assert json.loads(whole)["choices"][0]["message"]["content"]
    upstream.reset()


def test_without_the_extra_there_is_gzip():
    code = (
        "import sys; sys.modules['zstandard'] = None\n"
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'zstandard' else find(name)\n"
        "from sentinel_gateway.api.compression import choose\n"
        "print(choose(b'zstd, gzip').name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "b'gzip'\n"

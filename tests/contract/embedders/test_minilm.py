"""The bundled model: its files, what it was measured to answer, and what it can't read."""

import asyncio
import re
import subprocess
import sys

import numpy as np
import pytest

from sentinel_gateway.embedders.minilm import FOLDER, SHA256, open_minilm
from sentinel_gateway.errors import EmbedderDown
from tests.contract.embedders.conftest import PATIENT

pytestmark = pytest.mark.anyio


def test_known_texts_have_their_known_vectors(minilm):
    france, password = minilm.vectors(["What is the capital of France?", "How do I reset my password?"])
    # int8 is not computed alike on all processors; the numbers of the card are from another one.
    assert france[:4] == pytest.approx([0.0799, 0.0387, -0.0027, -0.0047], abs=0.01)
    assert password[:4] == pytest.approx([0.0039, -0.0601, -0.0714, -0.0290], abs=0.01)
    assert france @ password == pytest.approx(0.073, abs=0.005)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("word " * 126, True),
        ("word " * 127, False),
        ("[SEP][PAD][MASK][UNK][CLS]", True),
        ("What does \U0001f994 mean?", False),
        ("\ud800", False),
        ("a" * 100, True),
        ("a" * 101, False),
        ("", True),
    ],
)
def test_a_text_is_read_whole_or_not_at_all(minilm, text, read):
    vector, other = minilm.vectors([text, "another"])
    assert (vector is not None) == read
    assert other is not None


def test_a_vector_does_not_depend_on_its_company(minilm):
    texts = ["Where is my card?", "word " * 120, "x", "What is the capital of France?"]
    for together, text in zip(minilm.vectors(texts), texts, strict=True):
        (alone,) = minilm.vectors([text])
        assert together.tolist() == alone.tolist()


def test_a_text_in_brackets_is_a_text(minilm):
    separated, plain = minilm.vectors(["paid [SEP] unpaid", "paid unpaid"])
    assert separated @ plain < 0.95


async def test_it_opens_with_its_files(told):
    embedder = await open_minilm(limits=PATIENT, on_event=told)
    (vector,) = await embedder.embed(["text"])
    assert vector.shape == (embedder.dimension,)
    await embedder.close()
    assert told.events == []


@pytest.mark.parametrize("name", SHA256)
@pytest.mark.parametrize("damage", ["absent", "cut", "one bit", "folder"])
async def test_without_a_file_as_it_was_it_is_down_and_says_so_once(files, told, name, damage):
    path = files / name
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "cut":
            path.write_bytes(content[:-1])
        case "one bit":
            path.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
        case "folder":
            path.mkdir()
    embedder = await open_minilm(limits=PATIENT, on_event=told, folder=files)
    for number in range(20):
        with pytest.raises(EmbedderDown, match=re.escape(name)):
            await asyncio.wait_for(embedder.embed([f"text {number}"]), 30.0)
    ((event, fields),) = told.events
    assert event == "embedder_down"
    assert name in fields["reason"]
    await embedder.close()
    assert len(told.events) == 1


async def test_its_files_are_looked_at_only_when_it_is_opened(files, told):
    content = (files / "tokenizer.json").readlink()
    (files / "tokenizer.json").unlink()
    embedder = await open_minilm(limits=PATIENT, on_event=told, folder=files)
    (files / "tokenizer.json").symlink_to(content)
    with pytest.raises(EmbedderDown):
        await embedder.embed(["text"])
    await embedder.close()
    again = await open_minilm(limits=PATIENT, on_event=told, folder=files)
    assert np.isfinite(await again.embed(["text"])).all()
    await again.close()


def test_what_stands_beside_the_files_is_true():
    page = (FOLDER / "README.md").read_text()
    for name, digest in SHA256.items():
        assert f"| `{name}` | {(FOLDER / name).stat().st_size:,} bytes, sha256 `{digest}` |" in page
    assert "Apache License" in (FOLDER / "LICENSE").read_text()


def test_a_gateway_that_does_not_use_it_does_not_load_it():
    seen = "import sys, sentinel_gateway.cli.serve; print(sorted({'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True).stdout == "[]\n"

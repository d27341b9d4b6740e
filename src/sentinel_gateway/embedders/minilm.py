"""The embedding model that the package carries: all-MiniLM-L6-v2 on onnxruntime. `models/` says where it comes from.

Importing this module loads numpy and tokenizers, opening the model onnxruntime (25 to 50 MB in all): only a gateway with its
semantic tier on does so. From 1.29 on onnxruntime writes a device id into the home folder and reports to its maker from the
moment it is imported, unless it is told not to: it is told.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from tokenizers import Tokenizer

from sentinel_gateway.embedders.local import Card, LocalEmbedder, LocalLimits
from sentinel_gateway.errors import EmbedderDown

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

FOLDER: Final = Path(__file__).parent / "models" / "all-MiniLM-L6-v2"
MODEL: Final = "model.int8.onnx"
TOKENIZER: Final = "tokenizer.json"
SHA256: Final = {
    MODEL: "e5d4a3ce28f285b7b87ba3167f396f7bead19972bcf53abc46ccd03c9777fe58",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MAX_TOKENS: Final = 128
CARD: Final = Card(name="all-MiniLM-L6-v2/int8", dimension=384, max_chars=2_000)
"""128 tokens of prose are some 600 characters; the bound spares the tokenizer texts that can't be that short."""
UNKNOWN: Final = "[UNK]"
FATAL: Final = 4
"""onnxruntime's level of logging: what goes wrong is raised, and is ours to tell."""


async def open_minilm(*, limits: LocalLimits, on_event: Callable[..., None], folder: Path = FOLDER) -> LocalEmbedder:
    """The bundled model behind its port, loaded. Without its files, or with damaged ones, it is there and down."""
    return await LocalEmbedder.open(CARD, partial(MiniLM, folder), limits=limits, on_event=on_event)


class MiniLM:
    """A `Model`: texts of at most 128 tokens, all of them known to it. Raises EmbedderDown if its files are not as they were."""

    def __init__(self, folder: Path) -> None:
        for name, expected in SHA256.items():
            _verify(folder / name, expected)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is five characters
        self._unknown = self._tokenizer.token_to_id(UNKNOWN)
        self._session = _session(folder / MODEL)

    def vectors(self, texts: Sequence[str]) -> list["Vector | None"]:
        """One for each text; None for one of more than 128 tokens, or with signs that the model has no token for."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> "Vector | None":
        try:
            tokens = self._tokenizer.encode(text).ids
        except (TypeError, UnicodeEncodeError):  # half a surrogate pair
            return None
        if len(tokens) > MAX_TOKENS or self._unknown in tokens:
            return None
        # Alone: int8 numbers are scaled by the largest of a run, so in company a text gets another vector (cosine .992).
        ids = np.array([tokens], np.int64)
        (embeddings,) = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return np.array(embeddings[0], np.float32)


def _session(path: Path) -> Any:
    os.putenv("ORT_DISABLE_TELEMETRY", "1")  # read once, when the library is loaded
    import onnxruntime as ort  # type: ignore[import-untyped]  # noqa: PLC0415 - after the line above; it brings no types

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a plan for each shape, and texts have many
    options.log_severity_level = FATAL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _verify(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise EmbedderDown(f"{path.name} can't be read: {exc.strerror}") from exc
    if found != expected:
        raise EmbedderDown(f"{path.name} is not the file that belongs here: its sha256 is {found}")

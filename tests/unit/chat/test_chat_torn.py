"""What is left of a memory after a torn or damaged record, on a full disk, and beside another kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.storage.checks import contents, fast_folder, reopened
from tests.fakes.storage.writer import State, change_state, held, make
from tests.fakes.storage.writers import FOR_EVER, Said, Writers
from titan_nb.chat.folder import Folder
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Batch, Selection
from titan_nb.errors import ChatError, ResourceError


@dataclass
class Torn:
    """A memory whose process was killed right after its last change, an addition of three rows.

    Attributes:
        files: All of it, by path.
        before: What was there before that change.
        after: What is there after it.
        lost: The ids of the rows that were added.
        rows: The file that the rows went to, and where in it they begin.
        log: The same for the log of the catalogue.
    """

    files: dict[str, bytes]
    before: State
    after: State
    lost: tuple[int, ...]
    rows: tuple[str, int]
    log: tuple[str, int]

    def put(self, folder: Path, **changed: bytes) -> None:
        """Make the folder anew, with the changed content of ``rows`` or ``log``."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "vectors").mkdir(parents=True)
        names = {self.rows[0]: changed.get("rows"), self.log[0]: changed.get("log")}
        for name, content in self.files.items():
            kept = names.get(name)
            (folder / name).write_bytes(content if kept is None else kept)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    with fast_folder(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Torn:
    folder = tmp_path_factory.mktemp("torn") / "memory"
    store = LocalStore(Folder.open(folder))
    make(store, {"do": "add", "chat": "a", "keys": ["early 1", "early 2"]}, {})
    make(store, {"do": "add", "chat": "b", "keys": ["other"]}, {})
    store.close()
    store = LocalStore(Folder.open(folder))
    make(store, {"do": "add", "chat": "a", "keys": ["first"]}, {})
    before, _ = held(store)
    old = contents(folder)
    make(store, {"do": "add", "chat": "a", "keys": ["last 1", "last 2", "last 3"]}, {})
    after, ids = held(store)
    new = contents(folder)
    store.close()
    (rows,) = (name for name in new if name.endswith(".rows") and new[name] != old.get(name))
    log = "memory.sqlite3-wal"
    assert new[log][: len(old[log])] == old[log]
    files = {name: content for name, content in new.items() if not name.endswith("-shm")}
    lost = tuple(ids[key] for key in after if key not in before)
    return Torn(files, before, after, lost, (rows, len(old[rows])), (log, len(old[log])))


def flipped(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 1 << offset % 8]) + content[offset + 1 :]


def found_in(folder: Path) -> tuple[State, list[tuple[int, ...]]]:
    store = LocalStore(Folder.open(folder))
    try:
        return held(store)[0], [one.ids for one in store.recovered]
    finally:
        store.close()


def test_a_whole_record_is_there(torn: Torn, tmp_path: Path) -> None:
    torn.put(tmp_path / "memory")
    assert found_in(tmp_path / "memory") == (torn.after, [])


def test_the_last_rows_cut_at_each_byte(torn: Torn, in_memory: Path) -> None:
    name, start = torn.rows
    content = torn.files[name]
    for size in range(start, len(content)):
        torn.put(in_memory / "memory", rows=content[:size])
        assert found_in(in_memory / "memory") == (torn.before, [torn.lost])
    assert reopened(in_memory / "memory") == torn.before


def test_the_last_rows_with_each_byte_damaged(torn: Torn, in_memory: Path) -> None:
    name, start = torn.rows
    content = torn.files[name]
    for offset in range(start, len(content)):
        torn.put(in_memory / "memory", rows=flipped(content, offset))
        assert found_in(in_memory / "memory") == (torn.before, [torn.lost])


def tear_log(torn: Torn, folder: Path, cut_step: int, flip_step: int) -> None:
    """Cut the last commit at every so many bytes, and damage it: it never was, and its rows are cut."""
    name, start = torn.log
    content = torn.files[name]
    logs = [content[:size] for size in range(start, len(content), cut_step)]
    logs += [flipped(content, offset) for offset in range(start, len(content), flip_step)]
    for log in logs:
        torn.put(folder, log=log)
        assert found_in(folder) == (torn.before, [])
    torn.put(folder, log=content[: start + 1], rows=torn.files[torn.rows[0]][:-1])
    assert reopened(folder) == torn.before


def test_the_last_commit_cut_and_damaged_at_some_bytes(torn: Torn, in_memory: Path) -> None:
    """The small version of the one below."""
    tear_log(torn, in_memory / "memory", 397, 397)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_last_commit_cut_at_each_byte_and_damaged_at_many(torn: Torn, in_memory: Path) -> None:
    tear_log(torn, in_memory / "memory", 1, 13)


def test_without_its_log_a_memory_still_opens(torn: Torn, tmp_path: Path) -> None:
    """Somebody deleted the log: what was only there is gone, and nothing is half there."""
    torn.put(tmp_path / "memory")
    (tmp_path / "memory" / torn.log[0]).unlink()
    state, _ = found_in(tmp_path / "memory")
    assert state.items() <= torn.before.items()


def test_a_second_kernel_reads_while_one_writes_and_cannot_write(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    said = Said({})
    writers = Writers()
    try:
        process = writers.start(folder, 1, FOR_EVER)
        while said.changes < 5:
            said.hear(writers.line())
        with pytest.raises(ChatError, match=rf"process {process} on .*: read with mode='r'"):
            Folder.open(folder)
        reader = LocalStore(Folder.open(folder, "r"))
        for _ in range(20):
            held(reader)
        reader.close()
        os.kill(process, 9)
        while said.ended is None:
            said.hear(writers.line())
    finally:
        writers.close()
    assert reopened(folder) in said.possible()


def test_a_clock_that_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    store = LocalStore(Folder.open(tmp_path / "memory"))
    state: State = {}
    ids: dict[str, int] = {}
    for turn in range(4):
        change = {"do": "add", "chat": "a", "keys": [f"{turn}"]}
        make(store, change, ids)
        state = change_state(state, change)
        monkeypatch.setattr(time, "time", lambda turn=turn: 1_000_000_000.0 - 1000 * turn)
    assert sorted(ids.values()) == [ids[key] for key in ("0", "1", "2", "3")]
    store.compact()
    store.close()
    assert reopened(tmp_path / "memory") == state


SIZE_BYTES = 8 << 20


@dataclass
class SmallDisk:
    """A place where little can be written; of `room` a part is held back until it is asked for."""

    path: Path
    room: Callable[[], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 8 MiB; where none can be mounted, as without root, a limit of the size of files."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        yield from limited_files(place)
        return
    try:
        filler = place / "held back"
        filler.write_bytes(bytes(SIZE_BYTES * 3 // 8))
        yield SmallDisk(place, filler.unlink)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def limited_files(place: Path) -> Iterator[SmallDisk]:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE_BYTES // 4, limits[1]))
    try:
        yield SmallDisk(place, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def batch(number: int, *, dimension: int, text_bytes: int) -> Batch:
    rows = np.random.default_rng(number).standard_normal((20, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    texts = [f"{number} {row} ".ljust(text_bytes, "x") for row in range(20)]
    return Batch(rows, texts, [None] * 20, [1.0] * 20)


def everything(store: LocalStore) -> dict[int, tuple[str, bytes]]:
    return {
        item.id: (item.text or "", np.asarray(item.embedding).tobytes())
        for item in store.items(Selection(), embeddings=True)
    }


@pytest.mark.parametrize(("dimension", "text_bytes"), [(1024, 10), (8, 4000)], ids=["by rows", "by texts"])
def test_a_full_disk(small_disk: SmallDisk, dimension: int, text_bytes: int) -> None:
    """What does not fit is refused as a whole; with room again all goes on."""
    place = small_disk.path / "memory"
    store = LocalStore(Folder.open(place))
    before: dict[int, tuple[str, bytes]] = {}
    refused: Exception | None = None
    for number in range(1000):
        try:
            store.add(f"chat {number % 3}", batch(number, dimension=dimension, text_bytes=text_bytes))
        except (ResourceError, ChatError) as error:
            refused = error
            break
    before = everything(store)
    assert len(before) == 20 * number
    assert len(before) >= 60
    assert refused is not None
    assert str(place) in str(refused)
    assert "nothing was changed" in str(refused) or "failed (disk I/O error)" in str(refused)
    for _ in range(3):
        with pytest.raises((ResourceError, ChatError)):
            store.add("chat 0", batch(0, dimension=dimension, text_bytes=text_bytes))
        assert everything(store) == before
    small_disk.room()
    forgotten = store.forget(Selection(chat_id="chat 0"))
    assert forgotten >= 20
    for number in range(forgotten // 20):
        store.add("chat 1", batch(number, dimension=dimension, text_bytes=text_bytes))
    after = everything(store)
    assert len(after) == len(before)
    store.close()
    store = LocalStore(Folder.open(place))
    assert everything(store) == after
    assert store.recovered == ()
    store.close()


def test_without_a_byte_left_it_says_so_and_keeps_all(small_disk: SmallDisk) -> None:
    place = small_disk.path / "memory"
    store = LocalStore(Folder.open(place))
    store.add("a", batch(1, dimension=8, text_bytes=10))
    before = everything(store)
    store.close()
    filler = small_disk.path / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    if os.path.ismount(small_disk.path):
        with pytest.raises((ResourceError, ChatError), match=r"full|failed|cannot be done"):
            LocalStore(Folder.open(place))
    filler.unlink()
    store = LocalStore(Folder.open(place))
    assert everything(store) == before
    store.close()

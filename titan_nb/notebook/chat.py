"""`%titan chat`: what the chat memory holds, and where it is kept."""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import titan_nb
from titan_nb.errors import ChatError
from titan_nb.notebook.chat_options import ACTIONS
from titan_nb.notebook.hits import NOTEBOOK, items_bundle, when
from titan_nb.notebook.options import unquoted
from titan_nb.notebook.recall import known_chat
from titan_nb.units import byte_size
from titan_nb.views.grid import grid_bundle
from titan_nb.views.plain import plain

if TYPE_CHECKING:
    from titan_nb.chat import ChatMemory, MemoryStats
    from titan_nb.notebook.session import Session

__all__ = ["chat"]

_ITEMS = 20
_TIERS = {"gpu": "on the GPU", "ram": "in RAM", "disk": "on disk"}
_IN_RAM = "memory"
_FINGERPRINT = re.compile(r"[:#][0-9a-f]{8,}$")
_USES = "ls, show ID, forget ID, compact, save [PATH] or open [PATH]"


def chat(session: Session, options: Any) -> None:
    """Do what stands after `%titan chat`: list the chats unless something else does.

    Raises:
        UsageError: If it is nothing that can be done, or says too much or too little.
        ChatError: If the memory refuses it.
    """
    action = options.text or "ls"
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, n=1)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"there is no %titan chat {action}{meant} There are: {_USES}")
    name = None if options.other is None else unquoted(options.other)
    if action in ("show", "forget") and not name:
        raise UsageError(f"say which chat: %titan chat {action} ID (%titan chat lists them)")
    if action in ("ls", "compact") and name:
        raise UsageError(f"%titan chat {action} takes no {name!r}")
    if options.k is not None and action != "show":
        raise UsageError(f"%titan chat {action} takes no -k")
    if options.discard and action != "open":
        raise UsageError(f"%titan chat {action} takes no --discard: it is for open")
    _DONE[action](session, options, name)


def _ls(session: Session, options: Any, name: Any) -> None:
    stats = titan_nb.chat_memory().stats()
    simulated = session.magics.display == "simulated"
    rows = [
        (
            plain(chat_id, 60),
            str(part.rows),
            str(part.dimension),
            _FINGERPRINT.sub("", part.encoder or ""),
            byte_size(part.bytes),
            when(part.last_added, simulated),
        )
        for chat_id, part in stats.per_chat.items()
    ]
    header = ("chat", "items", "dimension", "encoder", "size", "last added (UTC)")
    notes = [_tiers(stats)] if any(stats.tiers.values()) and stats.rows else []
    if waiting := session.notebook.waiting:
        notes.append(f"to be taken in by the next recall: {_counted(waiting, 'cell')} of this notebook")
    session.presenter.publish(grid_bundle(f"Chat memory {_place(stats)}", header, rows, notes))


def _show(session: Session, options: Any, name: str) -> None:
    memory = titan_nb.chat_memory()
    session.notebook.taken_in(memory)
    known_chat(memory, name)
    wanted = options.k or _ITEMS
    items = deque(memory.list(name), maxlen=wanted)
    count = memory.stats().per_chat[name].rows
    which = f"the latest {wanted} of {count} items" if count > wanted else _counted(count, "item")
    simulated = session.magics.display == "simulated"
    session.presenter.publish(items_bundle(list(items), f"Chat {name!r}: {which}", simulated=simulated))


def _forget(session: Session, options: Any, name: str) -> None:
    memory = titan_nb.chat_memory()
    waiting = session.notebook.drop() if name == NOTEBOOK else 0
    if not waiting:
        known_chat(memory, name)
    _say(f"forgot chat {name!r} with {_counted(memory.forget(name) + waiting, 'item')}")


def _compact(session: Session, options: Any, name: Any) -> None:
    memory = titan_nb.chat_memory()
    known = len(memory.recovered)
    done = memory.compact()
    given, left = done.before_bytes - done.after_bytes, byte_size(done.after_bytes)
    if given <= 0 and not done.dropped_rows:
        line = f"there is nothing to give back; the memory takes {left}"
    else:
        rows = f", with {_counted(done.dropped_rows, 'dropped row')}" if done.dropped_rows else ""
        line = f"gave back {byte_size(max(given, 0))}{rows}; the memory takes {left} now"
    _say(line, *_lost(memory, known))


def _save(session: Session, options: Any, name: str | None) -> None:
    from titan_nb.chat.location import described

    memory = titan_nb.chat_memory()
    path = name or _own_folder(session, "save")
    notes = session.notebook.taken_in(memory)
    stats = memory.stats()
    if described(path) == stats.location:
        _say(f"{stats.location} is where the memory is kept already, with {_holding(stats)}", *notes)
        return
    memory.save(path)
    stats = memory.stats()
    _say(f"saved {_holding(stats)} in {stats.location}, where the memory is kept from now on", *notes)


def _open(session: Session, options: Any, name: str | None) -> None:
    from titan_nb.chat import ChatMemory, set_default
    from titan_nb.chat.location import described

    path = name or _own_folder(session, "open")
    before = titan_nb.chat_memory()
    held = _held(before)
    there = described(path)
    if held is not None and there == held.location:
        _say(f"{there} is open already, with {_holding(held)}")
        return
    if held is not None and held.location == _IN_RAM and held.rows and not options.discard:
        raise UsageError(
            f"{_holding(held)} would be lost, for they are in RAM only: keep them with "
            "%titan chat save PATH, or drop them with --discard"
        )
    began = "://" not in there and not Path(there).exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is lost is said below
        memory = ChatMemory(path, encoder=before.encoder, policy=before.policy)
    set_default(memory)
    before.close()
    stats = memory.stats()
    if began:
        _say(f"began an empty memory in {there}")
    else:
        holding = _holding(stats) if stats.rows else "nothing is in it"
        _say(f"opened {there}: {holding}", *_lost(memory, 0))


def _own_folder(session: Session, action: str) -> str:
    from titan_nb.notebook.data_folder import folder_of

    folder = folder_of(session.shell)
    if folder is None:
        raise UsageError(
            f"the name of this notebook is not known here: give a folder, %titan chat {action} PATH"
        )
    return str(folder)


def _held(memory: ChatMemory) -> MemoryStats | None:
    """Return what a memory holds; None if it was closed, or its server is lost."""
    try:
        return memory.stats()
    except ChatError:
        return None


def _lost(memory: ChatMemory, known: int) -> list[str]:
    """Return what a failing disk has cost beside the ``known`` first entries, one line each."""
    return [f"{lost} in {memory.stats().location}" for lost in memory.recovered[known:]]


def _tiers(stats: MemoryStats) -> str:
    """Return where the bytes are."""
    parts = [
        f"{byte_size(amount)} {_TIERS.get(tier, tier)}" for tier, amount in stats.tiers.items() if amount
    ]
    return f"rows and their codes: {', '.join(parts)}"


def _place(stats: MemoryStats) -> str:
    return "in RAM" if stats.location == _IN_RAM else f"in {stats.location}"


def _holding(stats: MemoryStats) -> str:
    return f"{_counted(stats.rows, 'item')} in {_counted(stats.chats, 'chat')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


_DONE: dict[str, Callable[[Session, Any, Any], None]] = {
    "ls": _ls,
    "show": _show,
    "forget": _forget,
    "compact": _compact,
    "save": _save,
    "open": _open,
}

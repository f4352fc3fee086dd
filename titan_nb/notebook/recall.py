"""`%titan recall`: what in the chat memory is most like a text or a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import titan_nb
from titan_nb.notebook.chat_options import where_of
from titan_nb.notebook.hits import hits_bundle
from titan_nb.views.plain import plain

if TYPE_CHECKING:
    from titan_nb.chat import ChatMemory
    from titan_nb.notebook.session import Session

__all__ = ["known_chat", "recall"]

DEFAULT_HITS = 5
_LETTERS = 60


def recall(session: Session, options: Any) -> None:
    """Show the stored items nearest to a text, or to the vector of that name, or put them into a variable.

    Raises:
        UsageError: If it is not said what to recall, or there is no such chat.
        ChatError: If the memory refuses the query.
    """
    where = where_of(options.where)
    if options.text is None:
        raise UsageError('say what to recall: %titan recall "a text" or %titan recall NAME')
    memory = titan_nb.chat_memory()
    notes = session.notebook.taken_in(memory)
    if options.chat is not None:
        known_chat(memory, options.chat)
    query = _query(session, options.text)
    hits = memory.search(
        query,
        k=options.k or DEFAULT_HITS,
        chat_id=options.chat,
        where=where,
        since=options.since,
        mode="fast" if options.fast else "exact",
    )
    if type(hits) is list:
        raise UsageError(f"{options.text} holds more than one query: recall one of them, {options.text}[0]")
    if options.output is not None:
        session.shell.user_ns[options.output] = hits
        return
    place = f" in {hits[0].chat_id!r}" if len({hit.chat_id for hit in hits}) == 1 else ""
    asked = repr(plain(query, _LETTERS)) if type(query) is str else options.text
    title = f"Nearest to {asked}{place}"
    simulated = session.magics.display == "simulated"
    session.presenter.publish(hits_bundle(hits, title, simulated=simulated, notes=notes))


def known_chat(memory: ChatMemory, chat_id: str) -> None:
    """Do nothing if there is a chat of this id.

    Raises:
        UsageError: If there is none; it names those that there are.
    """
    known = memory.chats()
    if chat_id not in known:
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        listed = ", ".join(map(repr, known[:8])) or "none yet"
        raise UsageError(f"no chat {chat_id!r}; there are: {listed}{more}")


def _query(session: Session, text: str) -> object:
    """Return the vector called ``text`` if there is one, else the text itself, without its quotes."""
    if text[:1] in ('"', "'"):
        return text[1:-1]
    value = session.shell.user_ns.get(text)
    # IPython's own names, such as exit, are no vectors.
    return text if value is None or callable(value) else value

"""Completion of verbs, options and chats after `%titan` and `%%titan`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import titan_nb
from titan_nb.errors import TitanError
from titan_nb.notebook.chat_options import ACTIONS

__all__ = ["matcher"]

_LINE = re.compile(r"^\s*(?P<percent>%%?)titan(?P<rest>\s.*)?$")


def matcher(parser: Any, allowed: Mapping[str, Collection[str]]) -> Callable[[Any], Any] | None:
    """Return a context matcher made from the magic's own parser, or None where IPython has none (< 8.6).

    Args:
        parser: The parser of the magic, so that the words cannot drift from the options.
        allowed: Which of its options each verb takes.
    """
    try:
        from IPython.core.completer import SimpleCompletion, context_matcher
    except ImportError:
        return None

    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    verbs = next(action.choices for action in parser._actions if action.dest == "verb")

    def words(rest: str, cell: bool) -> list[str]:
        given = rest.split()
        last = given.pop() if given and not rest.endswith(" ") else ""
        before = flags.get(given[-1]) if given else None
        if before is not None and before.nargs != 0:
            if before.dest == "zone":
                return [zone for zone, *_ in titan_nb.zones() if zone.startswith(last.upper())]
            if before.dest == "chat":
                return _chats(last)
            return [choice for choice in before.choices or () if choice.startswith(last)]
        if not given and not cell:
            return [verb for verb in verbs if verb.startswith(last)]
        if given[:1] == ["chat"] and not cell and not last.startswith("-"):
            if len(given) == 1:
                return [action for action in ACTIONS if action.startswith(last)]
            return _chats(last) if given[1:] in (["show"], ["forget"]) else []
        takes = allowed.get("track" if cell else given[0], ())
        return [flag for flag, action in flags.items() if action.dest in takes and flag.startswith(last)]

    def titan_matcher(context: Any) -> dict[str, Any]:
        line = context.line_with_cursor[: context.cursor_position]
        found = _LINE.match(line)
        if found is None or found["rest"] is None:
            return {"completions": []}
        fragment = "" if line.endswith(" ") else line.split()[-1]
        offered = words(found["rest"], found["percent"] == "%%")
        completions = [SimpleCompletion(text=word, type="param") for word in offered]
        # Where we have nothing to say, as for the name of a vector, Python's own names are welcome.
        return {"completions": completions, "matched_fragment": fragment, "suppress": bool(offered)}

    matched: Callable[[Any], Any] = context_matcher()(titan_matcher)
    return matched


def _chats(beginning: str) -> list[str]:
    """Return the ids of chats that begin so, in quotes where the magic needs them."""
    if "titan_nb.chat" not in sys.modules:  # nothing has been stored
        return []
    try:
        known = titan_nb.chat_memory().chats()
    except TitanError:
        return []
    quoted = [f'"{chat}"' if re.search(r"\s", chat) else chat for chat in known]
    return [chat for chat in quoted if chat.startswith(beginning)]

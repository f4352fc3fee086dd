"""Completion of verbs and options after `%titan` and `%%titan`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from titan_nb.carbon.intensity import zones

__all__ = ["matcher"]

_LINE = re.compile(r"^\s*(?P<percent>%%?)titan(?P<rest>\s.*)?$")


def matcher(parser: Any) -> Callable[[Any], Any] | None:
    """Return a context matcher made from the magic's own parser, or None where IPython has none (< 8.6).

    Args:
        parser: The parser of the magic, so that the words cannot drift from the options.
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
                return [zone for zone, *_ in zones() if zone.startswith(last.upper())]
            return [choice for choice in before.choices or () if choice.startswith(last)]
        if not given and not cell:
            return [verb for verb in verbs if verb.startswith(last)]
        return [
            flag
            for flag in flags
            if flag.startswith(last) and flag.startswith("--" if last[:2] == "--" else "-")
        ]

    def titan_matcher(context: Any) -> dict[str, Any]:
        line = context.line_with_cursor[: context.cursor_position]
        found = _LINE.match(line)
        if found is None or found["rest"] is None:
            return {"completions": []}
        fragment = "" if line.endswith(" ") else line.split()[-1]
        completions = [
            SimpleCompletion(text=word, type="param")
            for word in words(found["rest"], found["percent"] == "%%")
        ]
        return {"completions": completions, "matched_fragment": fragment, "suppress": True}

    matched: Callable[[Any], Any] = context_matcher()(titan_matcher)
    return matched

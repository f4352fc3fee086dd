"""Where IPython keeps the values that cells returned: `Out`, ``_``, ``_7``, and behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["forget_outputs"]

_UNDERSCORES = ("_", "__", "___")
_OUTPUT = re.compile(r"_{1,3}|_[0-9]+")


def forget_outputs(shell: Any, chosen: Callable[[object], bool]) -> None:
    """Let go of every reference that IPython keeps to the outputs that are ``chosen``.

    ``_`` and its like become an empty text, as IPython leaves them itself. A name of that kind that the user
    has assigned is his, and stays. `%reset out` would leave the last three outputs in ``user_ns_hidden``.
    """
    user, hidden, hook = shell.user_ns, shell.user_ns_hidden, shell.displayhook
    for name, value in list(hidden.items()):
        if _OUTPUT.fullmatch(name) and chosen(value):
            is_users = name in user and user[name] is not value
            for namespace in (hidden,) if is_users else (hidden, user):
                if name in _UNDERSCORES:
                    namespace[name] = ""
                else:
                    namespace.pop(name, None)
    for outputs in (shell.history_manager.output_hist, user.get("_oh")):
        if type(outputs) is dict:
            for key in [key for key, value in outputs.items() if chosen(value)]:
                del outputs[key]
    for name in _UNDERSCORES:
        if chosen(getattr(hook, name, "")):
            setattr(hook, name, "")
    result = shell.last_execution_result
    if result is not None and chosen(result.result):
        result.result = None

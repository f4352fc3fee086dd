"""What the options of `%titan` are made of: names, quantities, and the budget that some of them add up to."""

from __future__ import annotations

import keyword
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any, TypeVar

from titan_nb.budget import ACTIONS, Budget
from titan_nb.errors import SettingsError

__all__ = ["amount", "budget_of", "unquoted", "variable_name"]

T = TypeVar("T")

_IPYTHONS_OWN = frozenset({"In", "Out", "get_ipython", "exit", "quit"})


def unquoted(text: str) -> str:
    """Return ``text`` without the quotes that IPython's splitting leaves on."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def variable_name(text: str) -> str:
    """Return ``text``, the name of a variable.

    Raises:
        ValueError: If it is no name, or one of IPython's own.
    """
    if not text.isidentifier() or keyword.iskeyword(text) or text in _IPYTHONS_OWN:
        raise ValueError(text)
    return text


variable_name.__name__ = "variable name"  # what argparse says in its error


def amount(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Let argparse show what ``parse`` says of a text that it cannot use."""

    def quantity(text: str) -> T:
        try:
            return parse(unquoted(text))
        except SettingsError as error:
            raise ArgumentTypeError(str(error)) from None

    return quantity


def budget_of(options: Any) -> Budget | None:
    """Return the budget that the ``options`` of a magic ask for, or None.

    Raises:
        SettingsError: If there is an action and no limit.
    """
    limits = {
        field: getattr(options, name, None)
        for field, name in (
            ("max_joules", "max_energy"),
            ("max_grams", "max_carbon"),
            ("max_cost", "max_cost"),
        )
    }
    action = getattr(options, "action", None)
    if all(limit is None for limit in limits.values()):
        if action is not None:
            raise SettingsError("--action needs a limit: give --max-energy, --max-carbon or --max-cost")
        return None
    return Budget(**limits, action=action or ACTIONS[0])

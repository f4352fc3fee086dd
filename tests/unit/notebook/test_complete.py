from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from titan_nb.chat import ChatMemory
from titan_nb.errors import ChatError
from titan_nb.notebook.complete import matcher
from titan_nb.notebook.magics import ALLOWED, VERBS, TitanMagics

PARSER = TitanMagics.titan.parser
FLAGS = {flag for action in PARSER._actions for flag in action.option_strings}


def words(line: str) -> list[str]:
    match = matcher(PARSER, ALLOWED)
    assert match is not None
    context = SimpleNamespace(line_with_cursor=line, cursor_position=len(line))
    return [completion.text for completion in match(context)["completions"]]


def test_the_words_are_the_parsers_own() -> None:
    assert set(words("%titan ")) == set(VERBS)
    for line, verb in (("%%titan ", "track"), ("%titan track ", "track"), ("%titan recall ", "recall")):
        offered = set(words(line))
        assert offered <= FLAGS
        assert {
            flag.lstrip("-").replace("-", "_") for flag in offered if flag.startswith("--") or flag == "-k"
        } == (ALLOWED[verb] - {"text"})
    assert words("%titan off ") == []
    assert set(words("%titan on ")) == {"--gpu-limit", "--ram-limit", "--reclaim", "--remember"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%titan re", ["report", "reset", "recall", "remember"]),
        ("%titan track --l", ["--label"]),
        ("%%titan --q", ["--quiet"]),
        ("%%titan -o", ["-o"]),
        ("%titan report --format c", ["csv"]),
        ("%titan report --format ", ["text", "html", "json", "csv"]),
        ("%%titan --zone d", ["DE", "DJ", "DK", "DM", "DO", "DZ"]),
        ("%%titan --label ", []),
        ("%titanic ", []),
        ("x = %titan", []),
        ("%titan", []),
        ("on ", []),
    ],
)
def test_completions(line: str, expected: list[str]) -> None:
    assert sorted(words(line)) == sorted(expected)


def test_the_fragment_is_what_has_been_typed() -> None:
    match = matcher(PARSER, ALLOWED)
    assert match is not None
    line = "%titan track --la"
    result: Any = match(SimpleNamespace(line_with_cursor=line, cursor_position=len(line)))
    assert result["matched_fragment"] == "--la"
    assert result["suppress"] is True


def test_the_shell_offers_them(titan: InteractiveShell) -> None:
    with provisionalcompleter():
        offered = [completion.text for completion in titan.Completer.completions("%titan rep", 10)]
        below = [completion.text for completion in titan.Completer.completions("pri", 3)]
    assert offered == ["report"]
    assert "print" in below, "Python's own completion is untouched"


def test_an_ipython_without_context_matchers_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.core.completer as completer

    monkeypatch.delattr(completer, "context_matcher")
    assert matcher(PARSER, ALLOWED) is None


def test_actions_and_chats_are_offered(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("alpha", ["a"])
    memory.add("two words", ["a"])
    assert words("%titan chat ") == ["ls", "show", "forget", "compact", "save", "open"]
    assert words("%titan chat s") == ["show", "save"]
    assert words("%titan chat show ") == words("%%titan --chat ") == ["alpha", '"two words"']
    assert words("%titan chat forget a") == words("%titan recall 'x' --chat a") == ["alpha"]
    assert words("%titan chat open ") == words("%titan chat show alpha ") == []
    assert words("%titan chat open --") == ["--discard"]


def test_no_chats_are_offered_where_the_memory_cannot_say(
    titan: InteractiveShell, memory: ChatMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down() -> list[str]:
        raise ChatError("the server is down")

    monkeypatch.setattr(memory, "chats", down)
    assert words("%titan chat show ") == []
    monkeypatch.delitem(sys.modules, "titan_nb.chat")
    assert words("%titan chat show ") == []

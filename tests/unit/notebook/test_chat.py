"""`%titan chat` in a shell, with a chat memory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run, shown
from tests.unit.notebook.test_recall import table
from tests.unit.notebook.test_remember import error_of
from titan_nb.chat import ChatMemory
from titan_nb.units import byte_size

pytestmark = pytest.mark.usefixtures("memory")


def said(shell: InteractiveShell, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    run(shell, line)
    return capsys.readouterr().out


def test_chats_are_listed_with_their_tiers(titan: InteractiveShell, memory: ChatMemory) -> None:
    assert shown(titan, "%titan chat")[0].data["text/plain"] == "Chat memory in RAM: nothing to show."
    memory.add("a", torch.eye(3))
    memory.add("b", ["text"])
    for line in ("%titan chat", "%titan chat ls"):
        titles, rows, text = table(titan, line)
        assert titles == ["chat", "items", "dimension", "encoder", "size", "last added (UTC)"]
        assert [row[:3] for row in rows] == [["a", "3", "3"], ["b", "1", "26"]]
        assert rows[0][3] == ""
        assert rows[1][3] == "tests.unit.notebook.conftest.letters"
    assert f"{byte_size(memory.stats().tiers['ram'])} in RAM" in text


def test_a_chat_is_shown_and_the_latest_of_a_long_one(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("a", [f"text {number}" for number in range(30)], metadata={"cell": 4, "by": "Ada"})
    titles, rows, text = table(titan, "%titan chat show a -k 3")
    assert titles == ["id", "text", "when (UTC)", "cell", "metadata"]
    assert [row[1] for row in rows] == ["text 27", "text 28", "text 29"]
    assert [rows[0][0], *rows[0][3:]] == ["27", "4", "by Ada"]
    assert "Chat 'a': the latest 3 of 30 items" in text
    assert len(table(titan, "%titan chat show a")[1]) == 20
    assert "Chat 'a': 30 items" in table(titan, "%titan chat show a -k 30")[2]


def test_a_chat_is_forgotten_and_its_room_given_back(
    titan: InteractiveShell, memory: ChatMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.add("a b", torch.eye(100))
    memory.add("c", torch.eye(3))
    assert said(titan, "%titan chat forget 'a b'", capsys) == "forgot chat 'a b' with 100 items\n"
    assert memory.chats() == ["c"]
    assert "gave back " in said(titan, "%titan chat compact", capsys)
    assert said(titan, "%titan chat compact", capsys).startswith(
        "there is nothing to give back; the memory takes "
    )


def test_a_memory_is_saved_opened_again_and_the_encoder_stays(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = tmp_path / "kept here", tmp_path / "other"
    run(titan, "%titan remember 'bananas'")
    line = said(titan, f"%titan chat save '{folder}'", capsys)
    assert line == f"saved 1 item in 1 chat in {folder}, where the memory is kept from now on\n"
    assert titan_nb.chat_memory() is memory
    run(titan, "%titan remember 'apples'")
    assert said(titan, f"%titan chat open {other}", capsys) == f"began an empty memory in {other}\n"
    assert titan_nb.chat_memory() is not memory
    assert said(titan, f"%titan chat open '{folder}'", capsys) == f"opened {folder}: 2 items in 1 chat\n"
    assert said(titan, f"%titan chat open '{folder}'", capsys).startswith(f"{folder} is open already")
    assert f"Chat memory in {folder}" in table(titan, "%titan chat")[2]
    assert [row[1] for row in table(titan, "%titan recall 'banana'")[1]] == ["bananas", "apples"]


def test_what_is_in_ram_only_is_not_lost_by_opening_another(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path
) -> None:
    run(titan, "%titan remember 'bananas'")
    error = error_of(titan, f"%titan chat open {tmp_path / 'a'}")
    assert "1 item in 1 chat would be lost" in error
    assert "%titan chat save PATH" in error
    assert titan_nb.chat_memory() is memory
    assert not (tmp_path / "a").exists()
    run(titan, f"%titan chat open {tmp_path / 'a'} --discard")
    assert titan_nb.chat_memory().chats() == []


def test_a_folder_that_cannot_be_opened_leaves_the_memory_as_it_is(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no memory")
    assert "file" in error_of(titan, f"%titan chat open {tmp_path / 'file'}")
    assert titan_nb.chat_memory() is memory
    run(titan, "%titan remember 'bananas'")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    assert "not empty" in error_of(titan, f"%titan chat save {tmp_path / 'full'}")
    assert len(memory) == 1


def test_without_a_path_the_notebooks_own_folder_is_meant(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    for action in ("save", "open"):
        message = f"the name of this notebook is not known here: give a folder, %titan chat {action} PATH"
        assert error_of(titan, f"%titan chat {action}") == message
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    titan.user_ns["__session__"] = "/somewhere/fit.ipynb"
    run(titan, "%titan remember 'bananas'")
    run(titan, "%titan chat save")
    place = memory.stats().location
    assert "fit-" in place
    assert place.startswith(str(tmp_path))
    run(titan, f"%titan chat open {tmp_path / 'other'}")
    run(titan, "%titan chat open")
    assert titan_nb.chat_memory().stats().location == place
    assert len(titan_nb.chat_memory()) == 1


def test_after_a_memory_was_closed_another_can_be_opened(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(titan, f"%titan chat save {tmp_path / 'a'}")
    run(titan, "%titan remember 'bananas'")
    memory.close()
    assert "this memory was closed" in error_of(titan, "%titan recall 'banana'")
    assert (
        said(titan, f"%titan chat open {tmp_path / 'a'}", capsys)
        == f"opened {tmp_path / 'a'}: 1 item in 1 chat\n"
    )
    assert [row[1] for row in table(titan, "%titan recall 'banana'")[1]] == ["bananas"]


def test_saving_where_it_is_kept_already_is_said(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(titan, "%titan remember 'bananas'")
    run(titan, f"%titan chat save {tmp_path / 'a'}")
    line = said(titan, f"%titan chat save {tmp_path / 'a'}", capsys)
    assert line == f"{tmp_path / 'a'} is where the memory is kept already, with 1 item in 1 chat\n"


def test_a_memory_is_not_saved_on_a_server(
    titan: InteractiveShell, memory: ChatMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(titan, "%titan remember 'bananas'")
    assert "give the path of a folder" in error_of(titan, "%titan chat save postgresql://me:secret@one/m")
    assert list(tmp_path.iterdir()) == []
    assert memory.stats().location == "memory"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("found_by", ["open", "compact"])
def test_what_a_failing_disk_has_cost_is_said_in_one_line(
    titan: InteractiveShell,
    memory: ChatMemory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    found_by: str,
) -> None:
    folder = tmp_path / "a"
    run(titan, "%titan remember 'bananas'")
    run(titan, f"%titan chat save {folder}")
    run(titan, "%titan remember 'apples'")
    run(titan, f"%titan chat open {tmp_path / 'b'}")
    (file,) = (folder / "vectors").iterdir()
    if found_by == "open":
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - 1)
    else:
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 4]))
    lines = said(titan, f"%titan chat open {folder}", capsys).splitlines()
    if found_by == "compact":
        assert lines == [f"opened {folder}: 2 items in 1 chat"]
        lines = said(titan, "%titan chat compact", capsys).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("1 item of chat 'notes' lost (id 1): ")
    assert lines[1].endswith(f"texts are kept in lost.jsonl in {folder}")
    assert len(titan_nb.chat_memory()) == 1
    assert len(said(titan, "%titan chat compact", capsys).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%titan chat shwo a", "there is no %titan chat shwo; did you mean show? There are: ls, show ID"),
        ("%titan chat frobnicate", "there is no %titan chat frobnicate. There are: ls"),
        ("%titan chat show", "say which chat: %titan chat show ID"),
        ("%titan chat forget ''", "say which chat: %titan chat forget ID"),
        ("%titan chat show nope", "no chat 'nope'; there are: 'a'"),
        ("%titan chat forget nope", "no chat 'nope'; there are: 'a'"),
        ("%titan chat ls a", "%titan chat ls takes no 'a'"),
        ("%titan chat compact a", "%titan chat compact takes no 'a'"),
        ("%titan chat ls -k 3", "%titan chat ls takes no -k"),
        ("%titan chat show a -k 0", "-k is 0: ask for at least one item"),
        ("%titan chat ls --discard", "takes no --discard: it is for open"),
        ("%titan chat show a b", "takes no 'b'"),
        ("%titan chat --where a=1", "takes no --where"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    titan: InteractiveShell, memory: ChatMemory, line: str, message: str
) -> None:
    memory.add("a", torch.eye(2))
    assert message in error_of(titan, line)
    assert memory.chats() == ["a"]

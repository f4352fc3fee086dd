from __future__ import annotations

import io
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.notebook import pending as pending_module
from titan_nb.notebook.pending import PendingClear


class Hooked:
    """Something of ipykernel's that sends messages past its hooks."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []

    def register_hook(self, hook: Any) -> None:
        self.hooks.append(hook)

    def unregister_hook(self, hook: Any) -> None:
        self.hooks.remove(hook)

    def send(self, kind: str, request: str = "one", **content: Any) -> dict[str, Any]:
        message = {"msg_type": kind, "parent_header": {"msg_id": request}, "content": content}
        for hook in self.hooks:
            assert hook(message) is message, "what the user sends goes out unchanged"
        return message


class Stream(Hooked, io.StringIO):
    def __init__(self) -> None:
        Hooked.__init__(self)
        io.StringIO.__init__(self)
        self.pub_thread = SimpleNamespace(schedule=lambda job: job())


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    host = SimpleNamespace(display_pub=Hooked(), displayhook=Hooked(), out=Stream())
    # pytest puts its own streams back between a fixture and its test, so the module's are replaced instead.
    monkeypatch.setattr(pending_module, "sys", SimpleNamespace(stdout=host.out, stderr=io.StringIO()))
    return host


def test_a_wait_clear_waits_until_the_next_output(shell: Any) -> None:
    pending = PendingClear(shell)
    pending.listen()
    assert not pending.waits("one")
    for release in (
        lambda: shell.display_pub.send("display_data"),
        lambda: shell.displayhook.send("execute_result"),
        lambda: shell.out.send("stream"),
        lambda: shell.display_pub.send("clear_output", wait=False),
    ):
        shell.display_pub.send("clear_output", wait=True)
        assert pending.waits("one")
        release()
        assert not pending.waits("one")


def test_an_update_of_an_old_display_releases_nothing(shell: Any) -> None:
    pending = PendingClear(shell)
    pending.listen()
    shell.display_pub.send("clear_output", wait=True)
    shell.display_pub.send("update_display_data")
    assert pending.waits("one")


def test_requests_are_apart_and_can_be_forgotten(shell: Any) -> None:
    pending = PendingClear(shell)
    pending.listen()
    shell.display_pub.send("clear_output", "other", wait=True)
    assert not pending.waits("one")
    assert pending.waits("other")
    pending.forget("other")
    assert not pending.waits("other")


def test_listening_twice_in_a_thread_hooks_once(shell: Any) -> None:
    pending = PendingClear(shell)
    pending.listen()
    pending.listen()
    assert len(shell.display_pub.hooks) == 1
    thread = threading.Thread(target=pending.listen)
    thread.start()
    thread.join()
    assert len(shell.display_pub.hooks) == 2, "ipykernel's hooks belong to a thread"


def test_close_takes_every_hook_away_and_listens_no_more(shell: Any) -> None:
    pending = PendingClear(shell)
    pending.listen()
    hook = shell.display_pub.hooks[0]
    pending.close()
    assert (shell.display_pub.hooks, shell.displayhook.hooks, shell.out.hooks) == ([], [], [])
    shell.display_pub.hooks.append(hook)  # as one of another thread, which cannot be taken away from here
    shell.display_pub.send("clear_output", wait=True)
    assert not pending.waits("one")
    pending.close()


def test_a_shell_without_hooks_never_waits() -> None:
    pending = PendingClear(SimpleNamespace(display_pub=object(), displayhook=object()))
    pending.listen()
    assert not pending.waits(None)
    pending.close()

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.notebook.cells import Ended, Frame
from titan_nb.notebook.present import Presenter
from titan_nb.records import CellRef, Energy, Measurement
from titan_nb.settings import Settings
from titan_nb.tracker import Tracker

OK = Ended("ok", None, None, ran=True)


class Publisher:
    """A publisher as a kernel's, that keeps what it is given."""

    topic = b"display_data"
    pub_socket = "socket"

    def __init__(self) -> None:
        self.shown: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.sent: list[tuple[Any, ...]] = []
        self.session = SimpleNamespace(send=lambda *args, **kwargs: self.sent.append((args, kwargs)))

    def publish(self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any]) -> None:
        self.shown.append((data, transient))


class Stage:
    """A presenter in front of a front end, and one finished cell."""

    def __init__(self, *, cell_id: str | None, kernel: bool = True, **settings: Any) -> None:
        self.publisher = Publisher()
        self.shell = SimpleNamespace(display_pub=self.publisher, displayhook=object())
        if kernel:
            self.shell.kernel = object()
        self.presenter = Presenter(self.shell)
        self.frame = Frame(CellRef(1, 1, cell_id), "m", {"msg_id": "m"}, explicit=True)
        tracker = Tracker()
        self.run = self.frame.run = tracker.begin(self.frame.cell, Settings(**settings))
        self.run.finish()
        tracker.close()
        self.magics: Any = SimpleNamespace(display="auto", min_seconds=1.0)

    def show(self, ended: Ended = OK) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        self.presenter.show(self.frame, ended, self.magics)
        return self.publisher.shown

    def refine(self) -> None:
        energy = {"gpu:a": Energy(123.0, 120.0, 126.0, "measured", "simulated")}
        self.run._refine(Measurement(1.0, 1.0, energy))


def test_an_explicit_cell_is_shown_once() -> None:
    stage = Stage(cell_id=None)
    ((data, transient),) = stage.show()
    assert "text/plain" in data
    assert transient == {}


def test_without_a_cell_id_nothing_is_refined_on_screen() -> None:
    stage = Stage(cell_id=None)
    stage.show()
    stage.refine()
    assert stage.publisher.sent == []
    assert len(stage.publisher.shown) == 1


def test_with_a_cell_id_the_display_is_updated_once_in_the_cells_name() -> None:
    stage = Stage(cell_id="abc")
    ((_, transient),) = stage.show()
    stage.refine()
    stage.refine()
    ((args, kwargs),) = stage.publisher.sent
    socket, kind, content = args
    assert (socket, kind) == ("socket", "update_display_data")
    assert content["transient"] == transient
    assert content["transient"]["display_id"]
    assert "123 J" in content["data"]["text/plain"]
    assert kwargs["parent"] == {"msg_id": "m"}
    assert len(stage.publisher.shown) == 1, "never a second display"


def test_a_display_id_is_never_used_twice() -> None:
    one, two = Stage(cell_id="abc").show(), Stage(cell_id="abc").show()
    assert one[0][1] != two[0][1]


def test_simulated_displays_are_never_updated() -> None:
    stage = Stage(cell_id="abc")
    stage.magics.display = "simulated"
    ((data, transient),) = stage.show()
    stage.refine()
    assert "simulated" in data["text/plain"]
    assert transient == {}
    assert stage.publisher.sent == []


@pytest.mark.parametrize(
    ("explicit", "kernel", "quiet", "display", "min_seconds", "count"),
    [
        (True, True, False, "auto", 1.0, 1),
        (True, False, False, "auto", 1.0, 1),
        (True, True, True, "auto", 1.0, 0),
        (True, True, False, "off", 1.0, 0),
        (False, True, False, "auto", 1.0, 0),
        (False, True, False, "auto", 0.0, 1),
        (False, False, False, "auto", 0.0, 0),
    ],
)
def test_what_is_shown(
    explicit: bool, kernel: bool, quiet: bool, display: str, min_seconds: float, count: int
) -> None:
    stage = Stage(cell_id=None, kernel=kernel, quiet=quiet)
    stage.frame.explicit = explicit
    stage.magics.display, stage.magics.min_seconds = display, min_seconds
    assert len(stage.show()) == count


@pytest.mark.parametrize(
    ("ended", "count"),
    [
        (OK, 0),
        (Ended("ok", None, 42, ran=True), 1),
        (Ended("error", "ValueError", None, ran=True), 1),
    ],
)
def test_nothing_is_shown_while_the_users_clear_waits(ended: Ended, count: int) -> None:
    stage = Stage(cell_id=None)
    stage.presenter._pending._waiting.add("m")
    assert len(stage.show(ended)) == count


def test_a_publisher_without_a_session_is_not_updated() -> None:
    stage = Stage(cell_id="abc")
    stage.show()
    del stage.publisher.session
    stage.refine()

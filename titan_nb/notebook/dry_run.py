"""`%%titan --dry-run`: what a cell's tensors would take, told without running the cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from titan_nb.memory.forecast import forecast
from titan_nb.notebook.rewrite import transformed

if TYPE_CHECKING:
    from titan_nb.memory.forecast.child import StandIn
    from titan_nb.notebook.session import Session

__all__ = ["dry_run"]

_BODY_STARTS_AT = 2
"""The line below ``%%titan``, as the front end counts them."""

_Refuse = Callable[[str], NoReturn]


def dry_run(session: Session, body: str, options: Any) -> None:
    """Show the forecast of a cell, and put it into a variable where one is named.

    Args:
        session: The shell's session.
        body: The cell as the user typed it, without the line of the magic.
        options: The parsed options of the magic; ``output`` and ``quiet`` are used.

    Raises:
        ResourceError: If this process cannot be forked.
    """
    shell = session.shell
    try:
        source = transformed(body, shell.transform_cell)
    except SyntaxError:
        source = body  # the forecast tells what is wrong with it, and where
    prediction = forecast(
        source, shell.user_ns, first_line=_BODY_STARTS_AT, stand_ins=tuple(_stand_ins(shell))
    )
    if options.output is not None:
        shell.user_ns[options.output] = prediction
    if not options.quiet:
        session.presenter.publish({"text/plain": prediction.describe()})


def _stand_ins(shell: Any) -> Iterator[StandIn]:
    """Yield what keeps the forked shell from magics and programs, and from talking to the front end."""
    yield shell, "run_line_magic", _line_magic
    yield shell, "run_cell_magic", lambda refuse: lambda name, *_: refuse(f"run the magic %%{name}")
    for name in ("system", "getoutput"):
        yield shell, name, lambda refuse: lambda *_, **__: refuse("start a program or another process")
    for name in ("publish", "clear_output"):
        yield shell.display_pub, name, _nothing
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        yield kernel.session, "send", _nothing
        for name in ("raw_input", "getpass"):
            yield kernel, name, lambda refuse: lambda *_, **__: refuse("ask a question")


def _line_magic(refuse: _Refuse) -> Callable[..., object]:
    def run_line_magic(name: str, line: str, *_: object, **__: object) -> None:
        if name != "titan" or not line.startswith("track"):  # which only measures
            refuse(f"run the magic %{name}")

    return run_line_magic


def _nothing(_: _Refuse) -> Callable[..., object]:
    return lambda *_, **__: None

"""The chat memory in a real kernel, with real texts and the encoder that the extra ``chat`` brings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel, Observed

TABLE = "application/vnd.titan.table+json"
ZEN = """\
import codecs
with __import__("contextlib").redirect_stdout(None):
    import this
zen = codecs.decode(this.s, "rot13").splitlines()[2:]
"""


@pytest.fixture(scope="module")
def loaded() -> Iterator[Kernel]:
    with Kernel(sys.executable) as kernel:
        assert kernel.run(f"%load_ext titan_nb\n{ZEN}").status == "ok"
        yield kernel


@pytest.fixture
def kernel(loaded: Kernel) -> Iterator[Kernel]:
    yield loaded
    loaded.run("%titan off\n%titan recall 'what waits' -o ignored")
    loaded.run(
        "import titan_nb\nfor chat in titan_nb.chat_memory().chats(): titan_nb.chat_memory().forget(chat)"
    )


def rows(observed: Observed) -> list[list[str]]:
    """Return the rows of the table that a cell showed, in HTML and in plain text as well."""
    assert observed.status == "ok", observed
    (display,) = observed.reports
    data = display["data"]
    for row in data[TABLE]["rows"]:
        assert row[1][:40] in data["text/plain"]
    assert "<table" in data["text/html"]
    return [list(row) for row in data[TABLE]["rows"]]


def refused(observed: Observed) -> str:
    """Return the one line of a `UsageError`."""
    assert observed.reply["ename"] == "UsageError"
    assert len(observed.text.strip().splitlines()) == 1, observed.text
    return observed.text


def test_what_is_remembered_is_recalled(kernel: Kernel) -> None:
    number = kernel.run('%titan remember "the run with a learning rate of 3e-4 diverged"').reply[
        "execution_count"
    ]
    assert kernel.run('%titan remember "coffee is in the kitchen"').text == "stored 1 row under 'notes'\n"
    found = rows(kernel.run('%titan recall "which learning rate was too high?"'))
    assert [row[1] for row in found] == [
        "the run with a learning rate of 3e-4 diverged",
        "coffee is in the kitchen",
    ]
    assert found[0][3] == str(number)


def test_the_last_value_of_a_cell_is_stored(kernel: Kernel) -> None:
    for code, stored in (
        ("%%titan --chat zen\nzen", "stored 19 rows under 'zen'"),
        ("import torch\n%titan track --chat vectors\ntorch.eye(3)", "stored 3 rows under 'vectors'"),
        (
            "%%titan --chat frame --column text\nimport pandas\n"
            "pandas.DataFrame({'text': ['a cat', 'a dog'], 'page': [1, 2]})",
            "stored 2 rows under 'frame'",
        ),
    ):
        (report,) = kernel.run(code).shown
        assert report["chat"] == stored
    found = rows(kernel.run("%titan recall 'it is beautiful, not ugly' --chat zen -k 1"))
    assert found[0][1] == "Beautiful is better than ugly."
    assert rows(kernel.run("%titan recall kitten -k 1"))[0][1] == "a cat"
    kernel.run("one = torch.tensor([0.0, 1.0, 0.0])")
    assert rows(kernel.run("%titan recall one -k 1"))[0][0] == "1.000"
    assert kernel.run("%titan recall one --where cell>=1 --since 1h -o hits").reports == []
    assert kernel.evaluate("[type(hits).__name__, len(hits), list(hits.to_frame().columns)[:2]]") == [
        "Hits",
        3,
        ["score", "text"],
    ]
    assert [row[:3] for row in rows(kernel.run("%titan chat"))] == [
        ["zen", "19", "256"],
        ["vectors", "3", "3"],
        ["frame", "2", "256"],
    ]


def test_a_dataframe_without_a_column_stores_nothing_and_says_which_there_are(kernel: Kernel) -> None:
    observed = kernel.run("%%titan --chat frame\nimport pandas\npandas.DataFrame({'x': ['a'], 'y': ['b']})")
    assert observed.status == "ok"
    (report,) = observed.shown
    why = "say which column of the DataFrame, --column NAME: texts are in 'x', 'y'"
    assert report["chat"] == f"nothing stored under 'frame': {why}"
    assert why in observed.reports[0]["data"]["text/plain"]


def test_a_saved_memory_is_there_in_the_next_kernel(tmp_path: Path) -> None:
    environment: dict[str, str | None] = {
        "XDG_DATA_HOME": str(tmp_path),
        "JPY_SESSION_NAME": "/somewhere/fit.ipynb",
    }
    with Kernel(sys.executable, environment=environment) as kernel:
        kernel.run(f"%load_ext titan_nb\n{ZEN}")
        kernel.run("%%titan --chat zen\nzen")
        before = rows(kernel.run("%titan recall 'errors' --chat zen"))
        saved = kernel.run("%titan chat save")
        assert saved.text.startswith(f"saved 19 items in 1 chat in {tmp_path}"), saved
        kernel.run("%titan on --remember")
        kernel.run("# scale the columns to mean 0\nx = 1")  # taken in when the kernel ends
    folders = [*tmp_path.glob("titan_nb/chats/fit-*")]
    assert len(folders) == 1
    with Kernel(sys.executable, environment=environment) as kernel:
        kernel.run("%load_ext titan_nb")
        assert kernel.run("%titan chat open").text == f"opened {folders[0]}: 20 items in 2 chats\n"
        assert rows(kernel.run("%titan recall 'errors' --chat zen")) == before
        assert (
            rows(kernel.run("%titan recall 'scale the columns' -k 1"))[0][1]
            == "# scale the columns to mean 0"
        )
        with Kernel(sys.executable, environment=environment) as second:
            second.run("%load_ext titan_nb")
            assert str(folders[0]) in refused(second.run("%titan chat open"))
            assert second.run('%titan remember "its own memory works on"').status == "ok"


def test_the_notebook_answers_with_cells(kernel: Kernel) -> None:
    assert kernel.run("%titan on --remember").text == ""
    cells = (
        "import pandas as pd\nframe = pd.DataFrame({'mass': [1.0, 2.0, 6.0]})",
        "# normalise the data\nscaled = (frame - frame.mean()) / frame.std()",
        "%%time\nprint('the spectrum of hydrogen')",
        "async def wait():\n    return 'awaited'\nawait wait()",
        "raise KeyError('unheard of')",
    )
    numbers = [kernel.run(cell).reply["execution_count"] for cell in cells]
    kernel.run(Cell("secret = 'not in the history'", store_history=False))
    found = rows(kernel.run('%titan recall "where did I normalise the data" -k 2'))
    assert (found[0][1], found[0][3]) == ("# normalise the data", str(numbers[1]))
    found = rows(kernel.run('%titan recall "hydrogen" -k 1'))
    assert (found[0][1], found[0][3]) == ("print('the spectrum of hydrogen')", str(numbers[2]))
    shown = rows(kernel.run("%titan chat show notebook"))
    assert [row[3] for row in shown] == [str(number) for number in numbers]
    assert shown[4][4] == "error KeyError"
    texts = kernel.evaluate("[hit.text for hit in __import__('titan_nb').chat_memory().list('notebook')]")
    assert "---\nthe spectrum of hydrogen\n" in texts[2] or sys.version_info < (3, 11)
    assert texts[3].endswith("---\n'awaited'")


def test_remembering_leaves_the_outputs_of_a_cell_as_they_are(kernel: Kernel) -> None:
    cell = "print('one')\nimport sys\nprint('two', file=sys.stderr)\ndisplay('three')\n'four'"
    plain = kernel.run(cell).outputs
    kernel.run("%titan on --remember")
    again = kernel.run(cell)
    assert [{**part, "execution_count": 0} for part in again.outputs] == [
        {**part, "execution_count": 0} for part in plain
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%titan recall", "say what to recall"),
        ("%titan recall 'x' --chat nope", "no chat 'nope'; there are: none yet"),
        ("%titan recall 'x' --where page", "is no condition"),
        ("%titan recall 'x' --since never", "cannot use 'never'"),
        ("%titan remember nobody", "there is no variable nobody"),
        ("%titan chat show", "say which chat"),
        ("%titan chat save", "the name of this notebook is not known here"),
        ("%titan chat open /dev/null", "/dev/null"),
    ],
)
def test_errors_are_one_line(kernel: Kernel, line: str, message: str) -> None:
    assert message in refused(kernel.run(line))


def test_an_encoder_at_work_is_interrupted_and_stores_nothing(kernel: Kernel) -> None:
    slow = "import time, titan_nb\ndef slow(texts):\n    print('encoding', flush=True)\n    time.sleep(60)\n"
    kernel.run(f"{slow}titan_nb.chat_memory().encoder = slow")
    stopped = kernel.run(Cell("%titan remember 'a text'", interrupt_on="encoding"))
    assert stopped.reply["ename"] == "KeyboardInterrupt"
    stopped = kernel.run(Cell("%%titan --chat a\n['a text']", interrupt_on="encoding"))
    assert stopped.status == "ok"
    (report,) = stopped.shown
    assert report["chat"] == "nothing stored under 'a': interrupted"
    kernel.run("titan_nb.chat_memory().encoder = None")
    assert kernel.evaluate("len(titan_nb.chat_memory())") == 0

"""Hard cells, of the kinds found in real notebooks, behave as plain."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.kernel.battery import SETUPS, TITAN_REPORTS, Seen, play, verdict
from tests.kernel.cases import Case
from tests.kernel.cell import PLAIN
from tests.kernel.hard import HARD_CASES
from tests.kernel.kernel import KernelDiedError
from tests.kernel.pair import Pair, paired
from tests.kernel.stacks import NEWEST, stack_python
from tests.kernel.transcript import difference, transcript

HARD_MODES = ("%%titan", "%titan on")

Played = dict[tuple[str, str], Seen]


@pytest.fixture(scope="session")
def hard(pool: ThreadPoolExecutor) -> dict[str, Future[Played]]:
    """The hard cells, played plain and in both modes."""
    python = stack_python(NEWEST)
    played = {PLAIN: pool.submit(play, python, HARD_CASES, PLAIN)}
    for mode in HARD_MODES:
        played[mode] = pool.submit(play, python, HARD_CASES, mode, setup=SETUPS[mode], count=TITAN_REPORTS)
    return played


@pytest.mark.parametrize("case", HARD_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("mode", HARD_MODES)
def test_hard_cell(mode: str, case: Case, hard: dict[str, Future[Played]]) -> None:
    reason = verdict(case, mode, hard[PLAIN].result(), hard[mode].result()[case.name, mode])
    assert not reason, f"\n{reason}"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with paired(stack_python(NEWEST), "%%titan") as pair:
        yield pair


@pytest.mark.parametrize(
    "body",
    [
        "1 + 1",
        "1 / 0",
        "await __import__('asyncio').sleep(0, 'done')",
        "import warnings\nwarnings.warn('here')",
    ],
)
@pytest.mark.parametrize("above", ["\n", "\n\n\n", "  \n"])
def test_blank_lines_above(pair: Pair, above: str, body: str) -> None:
    pair.same(f"{above}# plain\n{body}", f"{above}%%titan\n{body}")


@pytest.mark.parametrize(
    ("plain_code", "code"),
    [
        ("%%time\nx = 1\nx", "%%titan\n\n%%time\nx = 1\nx"),
        ("%%time\nx = 1\nx", "%%titan\n%%time\n\nx = 1\nx"),
        ("%%time\nx = 1\nx", "%%time\n\n%%titan\nx = 1\nx"),
        ("%%time\nx = 1\nx", "%%titan\n%%titan\n%%time\nx = 1\nx"),
        ("%%bash\necho hello", "%%titan\n%%bash\necho hello"),
        ("%%timeit -n 1 -r 1\npass", "%%titan\n%%timeit -n 1 -r 1\npass"),
        ("%%capture\nprint(1)", "%%titan\n%%capture\nprint(1)"),
        ("# plain", "%%titan"),
        ("# plain\n\n", "%%titan\n\n"),
        ("# plain\n1 + 1", "%%titan\n%titan track\n1 + 1"),
    ],
)
def test_stacked_with_other_magics(pair: Pair, plain_code: str, code: str) -> None:
    pair.same(plain_code, code)


@pytest.mark.parametrize("body", ["x = 1\r\nx + 1", "1 / 0", "%time 5", "print('a')\r\nprint('b')"])
def test_carriage_returns(pair: Pair, body: str) -> None:
    pair.same(f"# plain\r\n{body}", f"%%titan\r\n{body}")


def test_future_import_that_does_not_exist(pair: Pair) -> None:
    """Our call stands behind the import, which cannot be compiled: nothing is begun."""
    body = "from __future__ import no_such_feature\nprint('never')"
    pair.same(f"# plain\n{body}", f"%%titan\n{body}", reports=0)


@pytest.mark.parametrize(
    "code",
    [
        "#%%titan\n1 + 1",
        "# %%titan\n1 + 1",
        "%%titanic\n1 + 1",
        "%titanic\n1 + 1",
        "titan = 5\ntitan",
        "x = '%%titan'\nx",
        "1 + 1  # %%titan",
    ],
)
def test_what_only_looks_like_ours_is_left_alone(pair: Pair, code: str) -> None:
    assert not pair.same(code, code, reports=0).reports


@pytest.mark.parametrize("first", ["%%titan", "%titan track"])
@pytest.mark.parametrize(
    "options", ["--bogus", "-o 2x", "-o", "stray words", "on", "--format", "-o class", "--zone NOWHERE"]
)
def test_bad_options_stop_the_cell(pair: Pair, first: str, options: str) -> None:
    before = len(pair.outcomes())
    observed = pair.tracked.run(f"{first} {options}\nprint('the body ran')")
    assert observed.status == "error"
    assert observed.reply["ename"] == "UsageError"
    assert "the body ran" not in observed.text
    assert observed.text.startswith("UsageError: ")
    assert observed.text.count("\n") == 1
    assert not observed.reports
    assert len(pair.outcomes()) == before


def test_run_of_a_notebook_script(pair: Pair) -> None:
    for kernel in (pair.plain, pair.tracked):
        kernel.run("open('part.ipy', 'w').write('%precision 3\\n1 / 3\\nmade = 5\\n')\n%precision")
    pair.same("# plain\n%run part.ipy\nmade", "%%titan\n%run part.ipy\nmade")


def test_tracked_cell_inside_a_notebook_script(pair: Pair) -> None:
    """The outermost cell alone is reported, whichever cell asked for it."""
    pair.plain.run("open('part.ipy', 'w').write('# plain\\nprint(\"inside\")\\n')")
    pair.tracked.run("open('part.ipy', 'w').write('%%titan\\nprint(\"inside\")\\n')")
    observed = pair.same("%run part.ipy", "%run part.ipy")
    assert len(observed.reports) == 1


def test_macro(pair: Pair) -> None:
    """A macro of transformed lines; one of raw lines (-r) cannot hold any cell magic, in IPython itself."""
    for kernel, first in ((pair.plain, "# plain"), (pair.tracked, "%%titan")):
        number = kernel.evaluate("get_ipython().execution_count")
        kernel.run(f"{first}\nprint('in the macro')\n5")
        assert kernel.run(f"%macro -q mine {number}").status == "ok"
    assert len(pair.same("mine", "mine").reports) == 1


def test_load_of_a_file_that_holds_our_magic(pair: Pair) -> None:
    for kernel in (pair.plain, pair.tracked):
        kernel.run("open('cell.py', 'w').write('%%titan\\n1 + 1\\n')")
    pair.same("%load cell.py", "%load cell.py", reports=0)


def test_breakpoints_hit(pair: Pair) -> None:
    """A function of the cell has the file name and the line numbers that the debugger computes."""
    raw = "%%titan\ndef stop_here():\n    return 1\n"
    pair.tracked.run(raw)
    name = f"__import__('ipykernel.compiler', fromlist=['x']).get_file_name({raw!r})"
    assert pair.tracked.evaluate(f"stop_here.__code__.co_filename == {name}")
    assert pair.tracked.evaluate("stop_here.__code__.co_firstlineno") == 2


@pytest.mark.parametrize("code", ["exit()", "quit()"])
def test_exit(code: str) -> None:
    with paired(stack_python(NEWEST), "%%titan") as pair:
        seen = [
            transcript(kernel.run(f"{first}\n{code}"), 0)
            for kernel, first in ((pair.plain, "# plain"), (pair.tracked, "%%titan"))
        ]
        assert not difference(*seen)
        assert pair.plain.ended_within(5)
        assert pair.tracked.ended_within(5)


def test_os_exit() -> None:
    with paired(stack_python(NEWEST), "%%titan") as pair:
        for kernel, first in ((pair.plain, "# plain"), (pair.tracked, "%%titan")):
            with pytest.raises(KernelDiedError, match="exit code 3"):
                kernel.run(f"{first}\nimport os\nos._exit(3)")

"""The 51 behaviours of a plain cell that tracking must not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.kernel.cell import Cell

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """One behaviour: cells run in a row.

    Attributes:
        name: What the case is about.
        cells: Set-up, the tracked cell, and what looks at its traces.
        first_line_recorded: Whether the case prints recorded history, which holds the line that was
            typed or its rewritten form: the one difference that is allowed.
    """

    name: str
    cells: tuple[Cell, ...]
    first_line_recorded: bool = False

    @property
    def bare(self) -> bool:
        """Whether the cell under test is bare, so that the case has two plain forms."""
        return any(cell.bare for cell in self.cells)

    def reports(self, mode: str) -> int:
        """Return by how many reports the ledger must grow in ``mode``."""
        return sum(cell.begun for cell in self.cells if cell.tracked or mode == "%titan on")


def _case(
    name: str,
    body: str,
    *after: str | Cell,
    before: Sequence[str | Cell] = (),
    recorded: bool = False,
    **options: object,
) -> Case:
    tracked = Cell(body, tracked=True, **options)  # type: ignore[arg-type]
    cells = [Cell(cell) if isinstance(cell, str) else cell for cell in (*before, tracked, *after)]
    return Case(name, tuple(cells), recorded)


def _interactivity(value: str) -> str:
    return f"get_ipython().ast_node_interactivity = {value!r}"


IMPORT_GROUP = """\
import sys
if sys.version_info < (3, 11):
    class ExceptionGroup(Exception):
        pass
"""

DEEP_ERROR = """\
def outer(number):
    return inner(number - 1)
def inner(number):
    return 10 / number
"""

TRANSFORMER = """\
import ast
class PlusHundred(ast.NodeTransformer):
    def visit_Constant(self, node):
        if type(node.value) is int:
            return ast.copy_location(ast.Constant(node.value + 100), node)
        return node
get_ipython().ast_transformers.append(PlusHundred())
"""

EVENTS = """\
seen = []
listeners = {
    'pre_execute': lambda: seen.append('pre_execute'),
    'pre_run_cell': lambda info: seen.append(('pre_run_cell', info.store_history, info.silent)),
    'post_execute': lambda: seen.append('post_execute'),
    'post_run_cell': lambda result: seen.append(('post_run_cell', result.success, result.result)),
}
for name, listener in listeners.items():
    get_ipython().events.register(name, listener)
"""

NEW_NAMES = """\
import re
sorted(name for name in set(globals()) - names_before if not re.fullmatch(r'_i?\\d+', name))
"""

LAST_RESULT = """\
last = get_ipython().last_execution_result
last.result, last.success, last.error_in_exec, last.execution_count - count_before
"""

INTERRUPTED_SYNC = """\
import time
print('ready', flush=True)
time.sleep(60)
print('not reached')
"""

# In many short sleeps: ipykernel acts on the signal when its event loop next wakes up.
INTERRUPTED_ASYNC = """\
import asyncio
print('ready', flush=True)
for _ in range(1200):
    await asyncio.sleep(0.05)
print('not reached')
"""

OUTPUT_ORDER = """\
import sys
from IPython.display import HTML, display
print('first', flush=True)
display(HTML('<b>second</b>'))
print('third', file=sys.stderr, flush=True)
print('fourth', flush=True)
'last'
"""

ASYNC_LOOPS = """\
import asyncio
async def count(limit):
    for number in range(limit):
        await asyncio.sleep(0)
        yield number
async for number in count(3):
    print(number)
[number * 2 async for number in count(3)]
"""

PICKLED = """\
import pickle
class Point:
    def __init__(self, x):
        self.x = x
again = pickle.loads(pickle.dumps(Point(3)))
again.x, Point.__module__, Point.__qualname__
"""

FIGURE = """\
import matplotlib.pyplot as plt
print('before')
plt.plot([1, 2, 3])
print('after')
'the value'
"""

ERROR = Cell("raise RuntimeError('another one')")

CASES: tuple[Case, ...] = (
    _case("last expression", "x = 20\nx + 22"),
    _case("_ and Out", "[1, 2, 3]", "_ is Out[max(Out)], _, __, ___", before=["'one'", "'two'"]),
    _case("semicolon", "5;"),
    _case(
        "ast_node_interactivity all",
        "1\n2\nx = 3\n'four'",
        _interactivity("last_expr"),
        before=[_interactivity("all")],
    ),
    _case(
        "ast_node_interactivity last_expr_or_assign",
        "1\nx = 3",
        _interactivity("last_expr"),
        before=[_interactivity("last_expr_or_assign")],
    ),
    _case("await", "import asyncio\nawait asyncio.sleep(0.01)\n'awaited'"),
    _case("async for and comprehension", ASYNC_LOOPS),
    _case("line magic", "%precision 3\n1 / 3", "%precision"),
    _case("shell command", "!echo from the shell", "_exit_code"),
    _case("shell command into a variable", "lines = !printf 'x\\ny\\n'\nlines"),
    _case("%%time below", "%%time\nx = 1\nx + 1", bare=True),
    _case("%%time above", "x = 1\nx + 1", above="%%time"),
    _case(
        "%%capture above",
        "print('hidden')\n'value'",
        "captured.stdout, captured.stderr, captured.outputs",
        above="%%capture captured",
    ),
    _case("error", "print('before')\n1 / 0\nprint('after')"),
    _case("error in a function", DEEP_ERROR + "outer(1)"),
    _case("error later, from a function of the cell", DEEP_ERROR, "outer(1)"),
    _case("inspect.getsource", DEEP_ERROR, "import inspect\nprint(inspect.getsource(inner))"),
    # Nothing of a cell that cannot be parsed runs, so there is nothing to measure.
    _case("SyntaxError", "x = 1\ny = = 2", begun=False),
    _case("IndentationError", "if True:\nx = 1", begun=False),
    _case("return at top level", "print('runs')\nreturn 5"),
    _case("UsageError", "print('before')\n%nosuchmagic 1\nprint('after')"),
    _case(
        "ExceptionGroup",
        "raise ExceptionGroup('several', [ValueError(1), TypeError('two')])",
        before=[IMPORT_GROUP],
    ),
    _case(
        "raise from",
        "try:\n    {}['key']\nexcept KeyError as error:\n    raise ValueError('no key') from error",
    ),
    _case("SystemExit", "print('before')\nraise SystemExit(3)", "'still here'"),
    _case("SIGINT in sync code", INTERRUPTED_SYNC, "'still here'", interrupt_on="ready"),
    _case("SIGINT in async code", INTERRUPTED_ASYNC, "'still here'", interrupt_on="ready"),
    _case("%tb", DEEP_ERROR + "outer(1)", "%tb", before=[ERROR]),
    _case(
        "sys.last_traceback",
        DEEP_ERROR + "outer(1)",
        "import sys, traceback\n"
        "[(frame.name, frame.lineno, frame.line) for frame in traceback.extract_tb(sys.last_traceback)]",
    ),
    _case(
        "history",
        "x = 'remembered'",
        "print(In[-2])\nprint(_i)\n%history -l 1",
        recorded=True,
    ),
    _case("Out cache", "6 * 7", "number = max(Out)\nOut[number], _oh is Out, globals()[f'_{number}']"),
    _case(
        "ast_transformers",
        "x = 1\nx + 2",
        "get_ipython().ast_transformers.clear()\nx",
        before=[TRANSFORMER],
    ),
    _case(
        "__future__ alone",
        "from __future__ import annotations\ndef f(x: not_defined): ...\nf.__annotations__",
        "def g(x: not_defined_either): ...\ng.__annotations__",
    ),
    _case(
        "__future__ with await",
        "from __future__ import annotations\nimport asyncio\nawait asyncio.sleep(0.01)\n'awaited'",
    ),
    _case("output order", OUTPUT_ORDER),
    _case("user namespace", "alpha = 1\n_beta = 2", NEW_NAMES, before=["names_before = set(globals())"]),
    _case("locals is globals", "here = 1\nlocals() is globals(), __name__, 'here' in locals()"),
    _case(
        "events of other extensions",
        "'the body'",
        "print(*seen, sep='\\n')\n"
        "for name, listener in listeners.items():\n"
        "    get_ipython().events.unregister(name, listener)",
        before=[EVENTS],
    ),
    _case(
        "last_execution_result",
        "40 + 2",
        LAST_RESULT,
        before=["count_before = get_ipython().execution_count"],
    ),
    _case("input", "name = input('Your name? ')\nf'Hello {name}'", answers=("Ada",)),
    _case("automagic in a one-line cell", "pwd", bare=True),
    # The blank cell never runs, whatever the mode: IPython gives it no pre_run_cell event.
    _case("empty body", "", Cell("", begun=False), "'next'"),
    _case("comment body", "# only a comment", "'next'"),
    _case("store_history=False", "1 + 1", "'next'", store_history=False),
    # Nobody would see a report of a silent request, and IPython gives it no pre_run_cell event.
    _case("silent=True", "print('seen')\n'not seen'", "'next'", silent=True, begun=False),
    _case(
        "line of a warning",
        "import warnings\nwith warnings.catch_warnings():\n"
        "    warnings.simplefilter('always')\n    warnings.warn('look here')",
    ),
    _case("docstring first", '"""The docstring of the cell."""\n\nprint(__doc__)\n"""The value."""'),
    _case(
        "execution_count",
        "get_ipython().execution_count - count_before",
        "get_ipython().execution_count - count_before",
        before=["count_before = get_ipython().execution_count"],
    ),
    _case(
        "del",
        "import weakref\nclass Thing: ...\nthing = Thing()\nalive = weakref.ref(thing)\ndel thing",
        "alive() is None, 'thing' in globals()",
    ),
    _case("pickling a class of the cell", PICKLED, "pickle.loads(pickle.dumps(again)).x"),
    _case("order of an inline figure", FIGURE, before=["%matplotlib inline"]),
    _case(
        "Run All stops",
        "import time\ntime.sleep(0.3)\n1 / 0",
        Cell("print('never')", queued=True, begun=False),
        Cell("print('nor this')", queued=True, begun=False),
        "'asked for again'",
    ),
)

from __future__ import annotations

import ast

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.utils.text import DollarFormatter

from titan_nb.notebook.rewrite import rewriter, transformed, unpacked

manager = TransformerManager()


def transform(cell: str) -> str:
    """Transform as a shell does: IPython's own steps, then ours."""
    lines = manager.transform_cell(cell).splitlines(keepends=True)
    return "".join(rewriter(transform)(lines))


TRACK = "get_ipython().run_line_magic('titan', 'track')\n"


def test_the_body_stands_on_its_own_lines_below_the_call() -> None:
    assert transform("%%titan\nx = 1\ny = 2\n") == TRACK + "x = 1\ny = 2\n"


def test_options_go_with_the_call() -> None:
    line = transform("%%titan -o r --label 'my fit'\nx = 1\n").splitlines()[0]
    assert line == "get_ipython().run_line_magic('titan', \"track -o r --label 'my fit'\")"


@pytest.mark.parametrize(
    "cell",
    [
        "x = 1\n",
        "%%titanic\nx = 1\n",
        "%%time\nx = 1\n",
        "# %%titan\nx = 1\n",
        "#%%titan\nx = 1\n",
        "s = '''\n%%titan\n'''\n",
        "get_ipython().run_cell_magic('titan', '', 'x').real\n",
        "get_ipython().run_cell_magic('titan', name, 'x')\n",
        "get_ipython().run_cell_magic('titan', '', 'x'); y = 1\n",
        "get_ipython().run_cell_magic('titan', \n",
        "%titan on\n",
        "",
    ],
)
def test_other_cells_are_left_alone(cell: str) -> None:
    assert transform(cell) == manager.transform_cell(cell)


def test_it_is_pure() -> None:
    lines = manager.transform_cell("%%titan\nx = 1\n").splitlines(keepends=True)
    before = list(lines)
    rewrite = rewriter(transform)
    assert rewrite(lines) == rewrite(lines)
    assert lines == before
    done = rewrite(lines)
    assert rewrite(done) == done, "a second pass over its own output changes nothing"


def test_magics_in_the_body_are_transformed() -> None:
    assert "run_line_magic('pwd'" in transform("%%titan\nhere = %pwd\n")
    assert "system('ls')" in transform("%%titan\n!ls\n")


def test_cell_magics_below_are_transformed() -> None:
    assert (
        transform("%%titan\n%%time\nx = 1\n")
        == TRACK + "get_ipython().run_cell_magic('time', '', 'x = 1\\n')\n"
    )


def test_titan_over_titan_is_two_calls_and_one_body() -> None:
    assert transform("%%titan -o a\n%%titan -o b\nx = 1\n").count("run_line_magic('titan'") == 2


def test_an_indented_body_is_dedented_as_alone() -> None:
    assert transform("%%titan\n    x = 1\n    y = 2\n") == TRACK + "x = 1\ny = 2\n"


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_line_numbers_stay_right_below_blank_lines(blank: int) -> None:
    cell = "%%titan\n" + "\n" * blank + "marker\n"
    assert transform(cell).splitlines().index("marker") == blank + 1


def test_blank_lines_above_a_cell_magic_may_hold_spaces() -> None:
    lines = transform("%%titan\n  \n\n%%time\nx = 1\n").splitlines()
    assert lines[3].startswith("get_ipython().run_cell_magic('time'")


def test_an_empty_body_is_only_the_call() -> None:
    assert transform("%%titan\n") == TRACK
    assert transform("%%titan\n\n\n").strip() == TRACK.strip()
    assert transform("%%titan\n# only a comment\n") == TRACK + "# only a comment\n"


def test_windows_line_ends() -> None:
    ast.parse(transform("%%titan\r\nx = 1\r\ny = 2\r\n"))


FUTURE = "from __future__ import annotations"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (f"{FUTURE}\nx = 1\n", f"{FUTURE}; {TRACK.strip()}"),
        (f"{FUTURE}; x = 1\n", f"{FUTURE}; {TRACK.strip()}; x = 1"),
        (f"{FUTURE}  # why\nx = 1\n", f"{FUTURE}; {TRACK.strip()}  # why"),
        (f"'''a docstring'''\n{FUTURE}\n", f"{FUTURE}; {TRACK.strip()}"),
        (f"# ä comment\n{FUTURE}  # ö\n", f"{FUTURE}; {TRACK.strip()}  # ö"),
        (f"from __future__ import division\n{FUTURE}\n", f"{FUTURE}; {TRACK.strip()}"),
    ],
)
def test_the_call_follows_future_imports(body: str, line: str) -> None:
    lines = transform(f"%%titan\n{body}").splitlines()
    assert lines[0] == "# titan", "line 1 is kept, so that the numbers of the rest hold"
    assert line in lines
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile("\n".join([*lines, "await None"]), "<cell>", "exec", flags)
    assert [at for at, text in enumerate(lines) if text.startswith(FUTURE)] == [
        at for at, text in enumerate(f"%%titan\n{body}".splitlines()) if text.startswith(FUTURE)
    ]


def test_a_track_line_above_a_future_import_moves_behind_it() -> None:
    body = f"{FUTURE}\nawait thing()\n"
    below = transform(f"%titan track -q\n{body}").splitlines()
    assert below == transform(f"%%titan -q\n{body}").splitlines()
    assert transform("%titan on\nx = 1\n") == manager.transform_cell("%titan on\nx = 1\n")


@pytest.mark.parametrize("body", ["x = '__future__'\n", "x = (  # __future__\n", "import __future__\n"])
def test_a_body_that_only_mentions_the_future_begins_with_the_call(body: str) -> None:
    def as_is(cell: str) -> str:
        return cell

    lines = [f"get_ipython().run_cell_magic('titan', '', {body!r})\n"]
    assert "".join(rewriter(as_is)(lines)) == TRACK + body


def test_an_error_of_the_bodys_transformation_is_the_users_to_see() -> None:
    def refuse(cell: str) -> str:
        raise SyntaxError("no")

    with pytest.raises(SyntaxError, match="no"):
        rewriter(refuse)(["get_ipython().run_cell_magic('titan', '', 'x\\n')\n"])


BODIES = [
    "x = 1\ny = 2\n",
    "",
    "\n\n  \nx\n",
    "print(f\"{x} $y 'q' {{}} \\n\")\n",
    "'''doc'''\nfrom __future__ import annotations\n",
    "%%time\nx\n",
    "!ls {x}\n",
    "s = r'\\{\\\\{' + \"\\N{BULLET}\"\n",
    "ä = '\u2028\x00\ud800'\n",
]


def call(cell: str) -> str:
    """Return the line that the magic gets from a transformed cell, which is nothing but that call."""
    (statement,) = ast.parse(cell).body
    name, line = (ast.literal_eval(argument) for argument in statement.value.args)  # type: ignore[attr-defined]
    assert name == "titan"
    return str(line)


@pytest.mark.parametrize("body", BODIES)
def test_a_dry_run_carries_the_body_as_a_text(body: str) -> None:
    lines = [f"get_ipython().run_cell_magic('titan', '-o r --dry-run', {body!r})\n"]
    (only,) = rewriter(transform)(lines)
    assert only.startswith("get_ipython().run_line_magic('titan', ")
    assert unpacked(call(only)) == ("dry-run -o r", body)


@pytest.mark.parametrize("body", BODIES)
def test_ipython_finds_nothing_to_expand_in_it(body: str) -> None:
    """It would evaluate what stands in braces, or behind a dollar."""
    lines = [f"get_ipython().run_cell_magic('titan', '--dry-run', {body!r})\n"]
    line = call(rewriter(transform)(lines)[0])
    assert not set(line) & set("{}$")
    assert DollarFormatter().vformat(line, [], {}) == line


def test_a_dry_run_of_a_typed_cell() -> None:
    cell = transform("%%titan --dry-run --label 'a b'\nx = {1}\n")
    assert cell == (
        "get_ipython().run_line_magic('titan', \"dry-run 'x = \\\\x7b1\\\\x7d\\\\n' --label 'a b'\")\n"
    )
    assert rewriter(transform)([cell]) == [cell], "a second pass changes nothing"


@pytest.mark.parametrize(
    "options", ["--label '--dry-run'", '--label "a --dry-run b"', "--dry-runs", "x--dry-run"]
)
def test_only_the_option_makes_a_dry_run(options: str) -> None:
    assert "run_line_magic('titan', 'track" in transform(f"%%titan {options}\nx\n").replace('"', "'")


@pytest.mark.parametrize(
    "line", ["track -o r", "dry-run", "dry-run x", "dry-run 'x'y", "dry-run 'x", "'x'", ""]
)
def test_a_line_without_a_body_stays_as_it_is(line: str) -> None:
    assert unpacked(line) == (line, None)


def test_the_body_in_its_place() -> None:
    assert transformed("\n  \n%pwd\n", manager.transform_cell) == (
        "\n\nget_ipython().run_line_magic('pwd', '')\n"
    )
    assert transformed("\n\n", manager.transform_cell) == "\n\n"

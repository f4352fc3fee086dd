"""What a cell made the kernel say, as comparable lines of text."""

from __future__ import annotations

import difflib
import hashlib
import pprint
import re
from collections.abc import Sequence
from typing import Any

from tests.kernel.observed import Observed

__all__ = ["difference", "first_line_masked", "transcript"]

FIRST_LINES = (
    r"get_ipython\(\)\.run_(?:line|cell)_magic\(\s*'titan',.*",
    r"(?:# )?%%titan\b.*",
    r"%titan track\b.*",
    r"# plain\b.*",
    "# titan",
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONG_LINE = re.compile(r".{2000,}")
_MASKS = (
    (re.compile(r"0x[0-9a-fA-F]{4,}"), "<address>"),
    (re.compile(r"\bpid=\d+"), "pid=<n>"),
    (re.compile(r"[^\s'\"]*ipykernel_\d+/\d+\.py"), "<cell file>"),
    (re.compile(r"<ipython-input-\d+-[0-9a-f]+>"), "<cell file>"),
    (re.compile(r"\b\d{6,}\.py"), "<cell file>"),
    (re.compile(r"[^\s'\"]*/titan-\w+/cwd"), "<folder>"),
    (re.compile(r"\b(Task|Timer|Thread|ThreadPoolExecutor|Process|ForkPoolWorker)-\d+"), r"\1-<n>"),
    (re.compile(r"(?m)^(?:CPU times|Wall time|Compiler time|Parser\s+: ).*$"), "<timing>"),
    (re.compile(r"\b[\d.]+ (?:ns|μs|µs|us|ms|s) ± .* per loop .*"), "<timing>"),
)
_PROMPT = re.compile(r"\b(In ?|Out ?)\[(\d+)\]")
_CONTEXT_LINE = re.compile(rf"(?m)^(\s*(?:-+> ?)?1 )(?:{'|'.join(FIRST_LINES)})$")
_AFTER_FUTURE = re.compile(r"(?m); get_ipython\(\)\.run_line_magic\('titan', 'track'\)$")
_BELOW_MAGIC = re.compile(r"(run_cell_magic\('\w+', '[^']*', [\"'])(?:# plain|%%titan|%titan track)\\n")


def first_line_masked(text: str) -> str:
    """Mask the first line of a tracked cell, however it is typed or rewritten, in recorded history."""
    # Both as lines and inside a repr, where the end of a line is two characters.
    text = re.sub(
        r"(?:get_ipython\(\)\.run_line_magic\('titan', 'track'\)|%%titan|%titan track|# plain)",
        "<line 1>",
        text,
    )
    return re.sub(r"get_ipython\(\)\.run_line_magic\(\\'titan\\', \\'track\\'\)", "<line 1>", text)


def _digest(text: str) -> str:
    return f"<{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}>"


def _masked(text: str, base: int) -> str:
    text = _LONG_LINE.sub(lambda found: _digest(found[0]), _ANSI.sub("", text))
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return _PROMPT.sub(lambda found: f"{found[1].strip()}[+{int(found[2]) - base}]", text)


def _traceback(lines: Sequence[str], base: int) -> str:
    # The context of an error near the top shows the first line, which is not the same by design, and so
    # does IPython's call of a magic that stands above it. Ours stands behind the `__future__` imports.
    text = _AFTER_FUTURE.sub("", _masked("\n".join(lines), base))
    text = _BELOW_MAGIC.sub(r"\1<line 1>\\n", text)
    return _CONTEXT_LINE.sub(r"\1<line 1>", text)


def _value(value: Any, base: int) -> Any:
    if isinstance(value, str):
        return _masked(value, base)
    if isinstance(value, dict):
        return {key: _value(part, base) for key, part in sorted(value.items())}
    if isinstance(value, list):
        return [_value(part, base) for part in value]
    return value


def transcript(observed: Observed, base: int) -> list[str]:
    """Return everything but titan's own displays as lines, free of what differs from run to run.

    Args:
        observed: What the cell made the kernel say.
        base: The execution count before the case; counts are given relative to it.
    """
    lines = [f"reply: {observed.status}", *(f"input asked: {prompt}" for prompt in observed.prompts)]
    for output in observed.outputs:
        lines += _output(dict(output), base)
    reply = observed.reply
    if reply.get("execution_count") is not None:
        lines.append(f"reply count: +{reply['execution_count'] - base}")
    if observed.status == "error":
        lines.append(f"reply error: {reply['ename']}: {_masked(reply['evalue'], base)}")
        lines += _indented(_traceback(reply.get("traceback", []), base))
    if reply.get("payload"):
        lines += _indented("payload " + pprint.pformat(_value(reply["payload"], base)))
    return lines


def _output(output: dict[str, Any], base: int) -> list[str]:
    kind = output.pop("type")
    if kind == "stream":
        return [f"{output['name']}:", *_indented(_masked(output["text"], base))]
    if kind == "error":
        return [
            f"error: {output['ename']}: {_masked(output['evalue'], base)}",
            *_indented(_traceback(output["traceback"], base)),
        ]
    if output.get("execution_count") is not None:
        output["execution_count"] = f"+{output['execution_count'] - base}"
    transient = output.pop("transient", {})
    if "display_id" in transient:
        output["display_id"] = "<id>"
    return [f"{kind}:", *_indented(pprint.pformat(_value(output, base), width=100))]


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.split("\n")]


def difference(plain: Sequence[str], tracked: Sequence[str]) -> str:
    """Return a unified diff, empty when the two are equal."""
    return "\n".join(difflib.unified_diff(plain, tracked, "plain", "tracked", lineterm="", n=3))
